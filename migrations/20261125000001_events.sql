-- The ledger's schema. Its tables and views are a public interface: people query them with SQL.
--
-- Migrations only grow. A file that was released is never changed; a change of the schema is a new file at the end, and
-- it keeps working for the binaries of the release before, which run beside the new ones during a rolling update.

-- Long texts and arrays are compressed with LZ4, which takes a fraction of the CPU time of Postgres' own method. A server
-- that was built without LZ4 keeps its own method.
create procedure compress_with_lz4(of_table regclass, of_column text) language plpgsql as $$
begin
    execute format('alter table %s alter column %I set compression lz4', of_table, of_column);
exception when feature_not_supported then
    raise notice 'this Postgres has no LZ4: %.% keeps the default compression', of_table, of_column;
end $$;

-- domain::EventState has the same names; a test compares the two.
create type event_state as enum
    ('claimed', 'waiting', 'decided', 'written', 'skipped', 'superseded', 'dropped', 'parked');

-- The transitions that are allowed. domain::EventState::can_become has the same; a test compares the two.
create table event_transition (
    from_state event_state not null,
    to_state   event_state not null,
    primary key (from_state, to_state)
);

insert into event_transition (from_state, to_state) values
    ('claimed', 'claimed'),     -- another worker takes it over after the lease expired
    ('claimed', 'waiting'),
    ('claimed', 'decided'),
    ('claimed', 'skipped'),
    ('claimed', 'superseded'),
    ('claimed', 'dropped'),
    ('claimed', 'parked'),
    ('waiting', 'claimed'),
    ('waiting', 'dropped'),     -- its record was deleted or erased
    ('decided', 'written'),
    ('decided', 'skipped'),     -- the write policies left every property as it was
    ('decided', 'superseded'),
    ('decided', 'dropped'),
    ('decided', 'parked'),
    ('parked',  'claimed'),     -- its message came again, after an operator replayed it
    ('parked',  'waiting'),     -- an operator replays it
    ('parked',  'decided'),     -- an operator replays one of its write commands
    ('parked',  'dropped');     -- an operator discards it

create table event (
    id                uuid primary key,
    event_key         text not null unique,
    portal_id         bigint not null,
    subscription_type text not null,
    object_type       text not null,
    object_id         bigint,
    property_name     text,
    occurred_at       timestamptz not null,
    payload           jsonb not null,
    state             event_state not null,
    attempt           integer not null default 1,
    worker            text not null,
    lease_expires_at  timestamptz,
    reason            text,
    detail            text,
    playbook          text,
    trace_id          text,
    message_copy_id   uuid not null,
    due_at            timestamptz,
    requeued_at       timestamptz,
    requeues          integer not null default 0,
    first_claimed_at  timestamptz not null default now(),
    state_since       timestamptz not null default now(),
    finished_at       timestamptz
);

call compress_with_lz4('event', 'payload');

comment on table event is 'one row per webhook event, with its state';
comment on column event.event_key is 'what makes it the same event when HubSpot delivers it again';
comment on column event.subscription_type is 'HubSpot''s name, for example contact.propertyChange';
comment on column event.object_type is 'HubSpot''s object type id, for example 0-1 for contacts';
comment on column event.message_copy_id is
    'the copy of its message under which it was claimed last: only that copy belongs into the parking lot with it';
comment on column event.object_id is 'of an association event the record at its beginning; null once it is erased';
comment on column event.occurred_at is 'by HubSpot''s clock';
comment on column event.payload is 'as HubSpot sent it; without propertyValue once the event has ended without effect';
comment on column event.attempt is
    'grows with every claim; a decision is committed only if the attempt is still the worker''s own (fencing)';
comment on column event.worker is 'the last worker that claimed it';
comment on column event.lease_expires_at is 'while claimed: from then on another worker may take it over';
comment on column event.reason is 'why it waits, was skipped, dropped, superseded or parked: a name of domain::Reason';
comment on column event.detail is 'the reason in words';
comment on column event.playbook is 'the playbook whose failure decided about the event, if one did';
comment on column event.due_at is 'while it waits: when its message comes out of the retry queue';
comment on column event.requeued_at is 'when the reconciler last published it again';
comment on column event.requeues is 'how often the reconciler published it again because its message seemed lost';
comment on column event.finished_at is 'null while claimed, waiting or decided';

create index event_record on event (portal_id, object_type, object_id, occurred_at);
create index event_unfinished on event (state, state_since) where finished_at is null;
create index event_first_claimed_at on event (first_claimed_at);
-- The age of the oldest unfinished event is read every few seconds.
create index event_oldest_unfinished on event (first_claimed_at) where finished_at is null;
create index event_finished_at on event (finished_at) where finished_at is not null;

-- A partition a day: dropping a day is cheap. The partitions are made in the file about maintenance.
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

comment on table event_history is
    'every state that an event had, append-only; written by triggers, so every state change has its row. '
    'Kept for retention.events_days';
comment on column event_history.from_state is 'null for the first row of an event';

create index event_history_event on event_history (event_id, id);
create table event_history_default partition of event_history default;

create function event_set_times() returns trigger language plpgsql as $$
begin
    new.state_since := clock_timestamp();
    new.finished_at := case
        when new.state in ('claimed', 'waiting', 'decided') then null else clock_timestamp() end;
    -- It has had no effect and never will: what the property held is kept for nothing.
    if new.state in ('skipped', 'superseded', 'dropped') then
        new.payload := new.payload - 'propertyValue';
    end if;
    return new;
end $$;

create trigger event_times before update of state, attempt on event
    for each row when (old.state is distinct from new.state or old.attempt is distinct from new.attempt)
    execute function event_set_times();

-- The next two run once for each statement, not for each row: one statement concerns many events, and a trigger for each
-- row was measurably slower (docs/performance.md).
create function event_record_insert() returns trigger language plpgsql as $$
begin
    insert into event_history (event_id, from_state, state, attempt, worker, reason, detail)
    select n.id, null, n.state, n.attempt, n.worker, n.reason, n.detail from new_rows n;
    return null;
end $$;

create trigger event_history_on_insert after insert on event
    referencing new table as new_rows for each statement execute function event_record_insert();

-- Refuses transitions that are not allowed, and records the others.
create function event_record_update() returns trigger language plpgsql as $$
declare
    wrong record;
begin
    select o.event_key, o.state as from_state, n.state as to_state into wrong
    from old_rows o join new_rows n on n.id = o.id
    left join event_transition t on t.from_state = o.state and t.to_state = n.state
    where (o.state <> n.state or o.attempt <> n.attempt) and t.from_state is null
    limit 1;
    if found then
        raise exception 'event % may not go from % to %', wrong.event_key, wrong.from_state, wrong.to_state
            using errcode = 'check_violation';
    end if;
    insert into event_history (event_id, from_state, state, attempt, worker, reason, detail)
    select n.id, o.state, n.state, n.attempt, n.worker, n.reason, n.detail
    from old_rows o join new_rows n on n.id = o.id
    where o.state <> n.state or o.attempt <> n.attempt;
    return null;
end $$;

create trigger event_history_on_update after update on event
    referencing old table as old_rows new table as new_rows for each statement execute function event_record_update();

create function refuse_change() returns trigger language plpgsql as $$
begin
    raise exception '% is append-only', tg_table_name using errcode = 'check_violation';
end $$;

-- A partition that is dropped deletes no row, so retention does not meet this trigger.
create trigger event_history_append_only before update or delete on event_history
    for each statement execute function refuse_change();
