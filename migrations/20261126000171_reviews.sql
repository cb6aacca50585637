-- Modes of write commands, proposals, and what was decided about them.

insert into event_transition (from_state, to_state) values
    ('decided',  'proposed'),
    ('proposed', 'decided'),     -- one of its write commands was approved
    ('proposed', 'written'),     -- the last proposal was decided about; others of its write commands had been written
    ('proposed', 'skipped'),
    ('proposed', 'superseded'),
    ('proposed', 'dropped'),
    ('proposed', 'parked');

-- domain::WriteMode has the same names; a test compares the two.
create type write_mode as enum ('live', 'review', 'shadow');

alter table write_command
    add column mode write_mode not null default 'live',
    add column review jsonb,
    add column proposed_at timestamptz,
    add column expires_at timestamptz,
    add column announced_at timestamptz,
    add column claimed_with_mode integer;

comment on column write_command.mode is
    'live: it is carried out; review: it is proposed first, and live once it is approved; shadow: it is only recorded';
comment on column write_command.review is
    'what a review needs: the answer''s field of each property, the rules that approve, and the variables that they use';
comment on column write_command.proposed_at is 'when it was proposed last; null when it was live from the start';
comment on column write_command.expires_at is 'while proposed: when it is skipped as review_expired';
comment on column write_command.announced_at is 'while proposed: when the channel of review.channel was told';
comment on column write_command.claimed_with_mode is 'the newest attempt whose writer knew of modes';

create index write_command_proposed on write_command (expires_at) where state = 'proposed';

-- A writer of the release before knows no modes and would write what is to be reviewed. It does not get such a command, as if another
-- writer had it, and its message waits for a newer writer.
create function refuse_claim_without_mode() returns trigger language plpgsql as $$
begin
    return null;
end $$;

create trigger write_command_claim_with_mode before update of attempt on write_command
    for each row when (new.attempt <> old.attempt and new.claimed_with_mode is distinct from new.attempt
                       and (new.mode <> 'live' or new.proposed_at is not null))
    execute function refuse_claim_without_mode();

create table proposed_write (
    write_command_id uuid not null references write_command (id) on delete cascade,
    property         text not null,
    before           text,
    proposed         text not null,
    edited           text,
    proposed_at      timestamptz not null default clock_timestamp(),
    primary key (write_command_id, property)
);

comment on table proposed_write is
    'every property that a write command in review or in shadow would set, with the value before; of a moved deal its stage';
comment on column proposed_write.before is 'as read when it was proposed last; what an approval holds for';
comment on column proposed_write.edited is 'the value that a reviewer set in place of the proposed one';

create table review (
    id               bigint generated always as identity primary key,
    write_command_id uuid not null references write_command (id) on delete cascade,
    decided_at       timestamptz not null default clock_timestamp(),
    decision         text not null,
    decided_by       text not null,
    why              text,
    properties       jsonb not null
);

comment on table review is 'every decision about a proposal: who, when and why';
comment on column review.decision is 'a name of domain::ReviewDecision';
comment on column review.decided_by is 'a person, or "rule NAME"';
comment on column review.properties is 'for each property the value before, the proposed one, and the approved one if it is another';

create index review_command on review (write_command_id);
create index review_decided_at on review (decided_at);

-- What is erased of a write command is erased of its proposal as well.
create function erase_proposal() returns trigger language plpgsql security definer set search_path = public, pg_temp as $$
begin
    update proposed_write set proposed = '(erased)', edited = case when edited is not null then '(erased)' end,
           before = case when before is not null then '(erased)' end
    where write_command_id = new.id;
    update review set why = null, properties = '[]' where write_command_id = new.id;
    new.review := null;
    return new;
end $$;

create trigger write_command_erase_proposal before update of properties on write_command
    for each row when (current_setting('leadline.erasure', true) = 'on' and (new.mode <> 'live' or new.proposed_at is not null))
    execute function erase_proposal();

-- As before, and what waits for approval as well.
create or replace function drop_commands(of_commands uuid[], why text) returns uuid[]
language plpgsql security definer set search_path = public, pg_temp as $$
declare
    of_events uuid[];
begin
    with dropped as (
        update write_command
        set state = 'dropped', reason = why, detail = null, lease_expires_at = null, due_at = null,
            finished_at = clock_timestamp()
        where id = any(of_commands) and state in ('recorded', 'sending', 'waiting', 'parked', 'proposed')
        returning event_id
    )
    select coalesce(array_agg(distinct event_id), '{}') into of_events from dropped;
    update action set state = 'skipped', reason = why, detail = null, finished_at = clock_timestamp()
    where write_command_id = any(of_commands) and state in ('intended', 'sending', 'parked');
    return of_events;
end $$;

-- As before, but what waits for approval is kept as what is parked: it has an end of its own.
create or replace function delete_finished_events(max_rows bigint) returns bigint
language plpgsql security definer set search_path = public, pg_temp
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off set jit = off as $$
declare
    before   timestamptz := deletable_before('event_history');
    events   uuid[];
    commands uuid[];
    asked    uuid[];
    asked_at timestamptz[];
begin
    events := array(select e.id from event e where e.finished_at < before and e.state not in ('parked', 'proposed')
                    order by e.finished_at limit max_rows for update skip locked);
    commands := array(select c.id from write_command c where c.event_id = any(events));
    select array_agg(i.id), array_agg(i.created_at) into asked, asked_at from inference i where i.event_id = any(events);
    delete from write where write_command_id = any(commands);
    delete from skipped_write where write_command_id = any(commands);
    delete from action where write_command_id = any(commands);
    delete from write_command where id = any(commands);
    delete from inference_raw r using unnest(asked, asked_at) as key (id, at)
    where r.inference_id = key.id and r.created_at = key.at;
    delete from charge where event_id = any(events);
    delete from inference where id = any(asked);
    delete from event where id = any(events);
    return cardinality(events);
end $$;

create view proposals as
select c.id as write_command_id, c.portal_id, c.object_type, c.object_id, c.event_key, i.playbook, i.playbook_version, i.model,
       i.cost_micro_dollars, c.attempt, c.reason is not distinct from 'value_changed' as is_changed, c.proposed_at,
       clock_timestamp() - c.proposed_at as age, c.expires_at,
       coalesce((select jsonb_agg(jsonb_build_object(
                            'property', p.property, 'before', p.before, 'proposed', p.proposed, 'edited', p.edited,
                            'quotation', i.fields ->> ((c.review -> 'fields' ->> p.property) || '_quote'))
                        order by p.property)
                 from proposed_write p
                 where p.write_command_id = c.id
                   and not exists (select from write w where w.write_command_id = c.id and w.property = p.property)),
                '[]') as properties,
       coalesce((select jsonb_agg(jsonb_build_object('name', a.name, 'kind', a.kind, 'spec', a.spec) order by a.id)
                 from action a where a.write_command_id = c.id and a.finished_at is null), '[]') as actions
from write_command c join inference i on i.id = c.inference_id
where c.state = 'proposed';

comment on view proposals is 'what waits for approval: values before and after, quotations, actions, model, cost and age';
