-- Upkeep: what was left behind is found and taken up again, outages pause the fleet, old data goes cheaply.

-- An operator replays what is parked (it waits for its turn; of a parked write command the event is decided again), or
-- gives it up.
insert into event_transition (from_state, to_state) values
    ('parked', 'waiting'),
    ('parked', 'decided'),
    ('parked', 'dropped');

alter table event
    add column due_at      timestamptz,
    add column playbook    text,
    add column requeued_at timestamptz,
    add column requeues    integer not null default 0;

comment on column event.due_at is 'when its message comes out of the retry queue, while it waits';
comment on column event.playbook is 'the playbook whose failure decided about the event, if one did';
comment on column event.requeues is 'how often it was published again because its message seemed lost';

alter table write_command
    add column due_at      timestamptz,
    add column requeued_at timestamptz,
    add column requeues    integer not null default 0;

-- "How old is the oldest unfinished event?" is asked every few seconds.
create index event_oldest_unfinished on event (first_claimed_at) where finished_at is null;
create index event_finished_at on event (finished_at) where finished_at is not null;

-- A finished command that was parked is taken up again by a replay.
create index write_command_parked on write_command (event_id) where state = 'parked';

-- Who does what only one may do, and until when. A row per task; time from the database.
create table singleton_lease (
    name       text primary key,
    holder     text not null,
    expires_at timestamptz not null
);

-- Outages, shared by the whole fleet.
create table circuit_breaker (
    dependency text primary key,
    state      text not null check (state in ('closed', 'open', 'half_open')),
    reason     text,
    detail     text,
    worker     text not null,
    opened_at  timestamptz,
    probes     integer not null default 0,
    due_at     timestamptz,
    changed_at timestamptz not null default clock_timestamp()
);

comment on column circuit_breaker.due_at is
    'open: when the next probe is due; half_open: when it closes by itself, if no call fails before';

-- Raw prompts and answers are the bulk of the ledger and the first to go: a partition a day.
create table inference_raw (
    inference_id uuid not null,
    created_at   timestamptz not null,
    prompt       jsonb not null,
    answer       text not null,
    primary key (inference_id, created_at)
) partition by range (created_at);

comment on table inference_raw is
    'prompt and answer as sent and received; created_at is that of the inference. Kept for retention.raw_days';

create table inference_raw_default partition of inference_raw default;

insert into inference_raw (inference_id, created_at, prompt, answer)
select id, created_at, prompt, answer from inference;

alter table inference drop column prompt, drop column answer;

create view inference_text as
select i.id as inference_id, i.event_id, i.playbook, i.portal_id, i.object_type, i.object_id, i.part, i.outcome,
       i.created_at, r.prompt, r.answer
from inference i
join inference_raw r on r.inference_id = i.id and r.created_at = i.created_at;

-- The history, the same way. A partition that is dropped deletes no row, so it stays append-only.
alter table event_history rename to event_history_before;
alter index event_history_event rename to event_history_before_event;
alter table event_history_before rename constraint event_history_pkey to event_history_before_pkey;

create sequence event_history_number;

create table event_history (
    id         bigint not null default nextval('event_history_number'),
    event_id   uuid not null,
    at         timestamptz not null default clock_timestamp(),
    from_state event_state,
    state      event_state not null,
    attempt    integer not null,
    worker     text not null,
    reason     text,
    detail     text,
    primary key (id, at)
) partition by range (at);

alter sequence event_history_number owned by event_history.id;
create index event_history_event on event_history (event_id, id);
create table event_history_default partition of event_history default;

insert into event_history (event_id, at, from_state, state, attempt, worker, reason, detail)
select event_id, at, from_state, state, attempt, worker, reason, detail from event_history_before order by id;

drop table event_history_before;

create trigger event_history_append_only before update or delete on event_history
    for each statement execute function refuse_change();

-- Partitions for today and the days ahead. What comes on a day without one goes into the default partition.
create function add_day_partitions(parent text, ahead integer) returns integer language plpgsql as $$
declare
    today date := (clock_timestamp() at time zone 'UTC')::date;
    day   date;
    child text;
    added integer := 0;
begin
    -- One at a time, and never in the way of the fleet: there are days ahead.
    if not pg_try_advisory_xact_lock(hashtext('leadline partitions')) then
        return 0;
    end if;
    perform set_config('lock_timeout', '2s', true);
    for offset_days in 0..ahead loop
        day := today + offset_days;
        child := format('%s_%s', parent, to_char(day, 'YYYYMMDD'));
        if to_regclass(child) is null then
            begin
                execute format('create table %I partition of %I for values from (%L) to (%L)', child, parent,
                               day::text || ' 00:00:00+00', (day + 1)::text || ' 00:00:00+00');
                added := added + 1;
            exception when check_violation or lock_not_available then
                -- The default partition has rows of that day already, or somebody reads the table at length.
                null;
            end;
        end if;
    end loop;
    return added;
end $$;

-- Drops the partitions whose days were over before `before`.
create function drop_day_partitions(parent text, before timestamptz) returns integer language plpgsql as $$
declare
    child   text;
    dropped integer := 0;
begin
    perform set_config('lock_timeout', '2s', true);
    for child in
        select c.relname from pg_inherits i join pg_class c on c.oid = i.inhrelid
        where i.inhparent = to_regclass(parent) and c.relname ~ ('^' || parent || '_[0-9]{8}$')
          and to_date(right(c.relname, 8), 'YYYYMMDD') + 1 <= (before at time zone 'UTC')::date
        order by c.relname
    loop
        begin
            execute format('drop table %I', child);
            dropped := dropped + 1;
        exception when lock_not_available then
            return dropped;
        end;
    end loop;
    return dropped;
end $$;

select add_day_partitions('inference_raw', 7), add_day_partitions('event_history', 7);

-- What is parked, as the ledger knows it: events that failed on their way, and write commands.
create view parked as
select e.id as event_id, e.event_key, 'events' as stage, null::uuid as write_command_id, e.playbook, e.reason, e.detail,
       e.portal_id, e.object_type, e.object_id, e.state_since as parked_at
from event e
left join lateral (select h.from_state from event_history h where h.event_id = e.id order by h.id desc limit 1) as last
    on true
where e.state = 'parked'
  -- An event that was decided before is parked because of its write commands.
  and coalesce(last.from_state <> 'decided',
               not exists (select from write_command c where c.event_id = e.id and c.state = 'parked'))
union all
select e.id, e.event_key, 'writes', c.id, i.playbook, c.reason, c.detail, c.portal_id, c.object_type, c.object_id,
       c.finished_at
from write_command c
join event e on e.id = c.event_id
join inference i on i.id = c.inference_id
where c.state = 'parked';

create view unfinished_events as
select e.event_key, e.state, e.reason, e.attempt, e.requeues, e.worker, e.first_claimed_at, e.state_since,
       e.lease_expires_at, e.due_at, clock_timestamp() - e.first_claimed_at as age
from event e
where e.finished_at is null
order by e.first_claimed_at;
