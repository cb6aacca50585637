-- Playbooks: an event may concern several records, a long context is condensed in parts, a write may leave a person's
-- value alone, and an answer may ask for actions.

alter table inference
    add column portal_id   bigint,
    add column object_type text,
    add column object_id   bigint,
    add column part        text,
    add column context_hash text,
    add column unverified  text[] not null default '{}',
    drop constraint inference_outcome_check,
    add constraint inference_outcome_check
        check (outcome in ('valid', 'invalid', 'unverified', 'refused', 'truncated', 'filtered'));

update inference i
set portal_id = e.portal_id, object_type = e.object_type, object_id = coalesce(e.object_id, 0)
from event e where e.id = i.event_id;

alter table inference
    alter column portal_id set not null,
    alter column object_type set not null,
    alter column object_id set not null;

comment on column inference.part is
    'for a part of a context that was too long for one question: the SHA-256 of that part''s prompt';
comment on column inference.context_hash is
    'SHA-256 of the playbook''s version and what was read: the same again is not asked again for a while';
comment on column inference.unverified is 'fields whose quotation was not found in what the model had read';

-- One valid answer per event, playbook and record: a redelivered event finds it and does not pay again.
drop index inference_valid;
create unique index inference_valid
    on inference (event_id, playbook, portal_id, object_type, object_id, coalesce(part, '')) where outcome = 'valid';
create index inference_of_record
    on inference (portal_id, object_type, object_id, playbook) where outcome = 'valid' and part is null;

-- A person's value was left alone: nothing failed, nothing was written.
alter type write_command_state add value 'skipped';
insert into event_transition (from_state, to_state) values ('decided', 'skipped');

create table skipped_write (
    write_command_id uuid not null references write_command (id),
    property         text not null,
    reason           text not null,
    current_value    text,
    proposed_value   text not null,
    at               timestamptz not null default now(),
    primary key (write_command_id, property)
);

comment on table skipped_write is 'properties that were left as they were, by the playbook''s write policy';

create type action_state as enum ('intended', 'sending', 'done', 'skipped', 'parked');

create table action (
    id                uuid primary key,
    write_command_id  uuid not null references write_command (id),
    name              text not null,
    kind              text not null,
    spec              jsonb not null,
    cooldown_hours integer not null,
    state             action_state not null default 'intended',
    sending_since     timestamptz,
    reason            text,
    detail            text,
    hubspot_id        bigint,
    created_at        timestamptz not null default now(),
    finished_at       timestamptz
);

comment on column action.id is 'also its marker in the body of a task or note, and the Idempotency-Key of a notification';
comment on column action.state is
    'sending is committed before the call: found in it after a crash, the action is in doubt and is looked up first';

create index action_command on action (write_command_id);
create index action_unfinished on action (state, sending_since) where finished_at is null;

create view action_status as
select a.id,
       a.name,
       a.kind,
       a.state,
       a.reason,
       a.hubspot_id,
       c.portal_id,
       c.object_type,
       c.object_id,
       i.playbook,
       i.playbook_version,
       c.event_key,
       a.created_at,
       a.finished_at
from action a
join write_command c on c.id = a.write_command_id
join inference i on i.id = c.inference_id;

create or replace view event_status as
select e.event_key,
       e.state,
       e.reason,
       e.subscription_type,
       e.portal_id,
       e.object_type,
       e.object_id,
       e.occurred_at,
       e.first_claimed_at,
       e.finished_at,
       coalesce(e.finished_at, clock_timestamp()) - e.first_claimed_at as took,
       e.attempt,
       i.playbook,
       i.playbook_version,
       i.model,
       i.cost_micro_dollars,
       (select count(*) from write w join write_command c on c.id = w.write_command_id where c.event_id = e.id)
           as properties_written,
       e.trace_id
from event e
left join inference i on i.event_id = e.id and i.outcome = 'valid' and i.part is null;
