-- The ledger: one row per event and its state, an append-only history, every prompt and answer, every property
-- before and after. These tables and the views of the next migration are a public interface: people query them.

create type event_state as enum
    ('claimed', 'waiting', 'decided', 'written', 'skipped', 'superseded', 'dropped', 'parked');

-- Legal transitions. The type domain::EventState says the same; a test holds the two against each other.
create table event_transition (
    from_state event_state not null,
    to_state   event_state not null,
    primary key (from_state, to_state)
);

insert into event_transition (from_state, to_state) values
    ('claimed', 'claimed'),     -- taken over from a worker whose lease expired
    ('claimed', 'waiting'),
    ('claimed', 'decided'),
    ('claimed', 'skipped'),
    ('claimed', 'superseded'),
    ('claimed', 'dropped'),
    ('claimed', 'parked'),
    ('waiting', 'claimed'),
    ('decided', 'written'),
    ('decided', 'superseded'),
    ('decided', 'dropped'),
    ('decided', 'parked'),
    ('parked',  'claimed');     -- replayed by an operator

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
    -- Fencing: grows with every claim; whoever commits a decision does it `where attempt = mine`.
    attempt           integer not null default 1,
    worker            text not null,
    lease_expires_at  timestamptz,
    reason            text,
    detail            text,
    trace_id          text,
    first_claimed_at  timestamptz not null default now(),
    state_since       timestamptz not null default now(),
    finished_at       timestamptz
);

comment on column event.object_id is 'null for association events';
comment on column event.reason is 'why it waits, was skipped, dropped, superseded or parked, in snake_case';

create index event_record on event (portal_id, object_type, object_id, occurred_at);
create index event_unfinished on event (state, state_since) where finished_at is null;
create index event_first_claimed_at on event (first_claimed_at);

create table event_history (
    id         bigint generated always as identity primary key,
    event_id   uuid not null references event (id),
    at         timestamptz not null default clock_timestamp(),
    from_state event_state,
    state      event_state not null,
    attempt    integer not null,
    worker     text not null,
    reason     text,
    detail     text
);

create index event_history_event on event_history (event_id, id);

create function event_check_transition() returns trigger language plpgsql as $$
begin
    if not exists (select 1 from event_transition where from_state = old.state and to_state = new.state) then
        raise exception 'event % may not go from % to %', new.event_key, old.state, new.state
            using errcode = 'check_violation';
    end if;
    new.state_since := clock_timestamp();
    new.finished_at := case
        when new.state in ('claimed', 'waiting', 'decided') then null else clock_timestamp() end;
    return new;
end $$;

create trigger event_transition_check before update of state, attempt on event
    for each row when (old.state is distinct from new.state or old.attempt is distinct from new.attempt)
    execute function event_check_transition();

create function event_record_history() returns trigger language plpgsql as $$
begin
    insert into event_history (event_id, from_state, state, attempt, worker, reason, detail)
    values (new.id, case when tg_op = 'UPDATE' then old.state end, new.state, new.attempt, new.worker,
            new.reason, new.detail);
    return null;
end $$;

create trigger event_history_on_insert after insert on event
    for each row execute function event_record_history();
create trigger event_history_on_update after update of state, attempt on event
    for each row when (old.state is distinct from new.state or old.attempt is distinct from new.attempt)
    execute function event_record_history();

create function refuse_change() returns trigger language plpgsql as $$
begin
    raise exception '% is append-only', tg_table_name using errcode = 'check_violation';
end $$;

create trigger event_history_append_only before update or delete on event_history
    for each statement execute function refuse_change();

create table inference (
    id                 uuid primary key,
    event_id           uuid not null references event (id),
    playbook           text not null,
    playbook_version   text not null,
    model_requested    text not null,
    model              text not null,
    prompt             jsonb not null,
    answer             text not null,
    outcome            text not null check (outcome in ('valid', 'invalid', 'refused', 'truncated', 'filtered')),
    fields             jsonb,
    prompt_tokens      bigint not null,
    cached_tokens      bigint not null,
    completion_tokens  bigint not null,
    cost_micro_dollars bigint,
    latency_ms         bigint not null,
    request_id         text,
    attempt            integer not null,
    created_at         timestamptz not null default now()
);

comment on column inference.answer is 'as received, before any validation';
comment on column inference.cost_micro_dollars is '10^-6 $; null for a model without a known price';

-- One valid answer per event and playbook: a redelivered event finds it and does not pay again.
create unique index inference_valid on inference (event_id, playbook) where outcome = 'valid';
create index inference_created_at on inference (created_at);

create type write_command_state as enum
    ('recorded', 'sending', 'waiting', 'written', 'superseded', 'dropped', 'parked');

create table write_command (
    id               uuid primary key,
    event_id         uuid not null references event (id),
    inference_id     uuid not null references inference (id),
    event_key        text not null,
    occurred_at      timestamptz not null,
    portal_id        bigint not null,
    object_type      text not null,
    object_id        bigint not null,
    properties       jsonb not null,
    state            write_command_state not null default 'recorded',
    attempt          integer not null default 0,
    worker           text,
    lease_expires_at timestamptz,
    reason           text,
    detail           text,
    created_at       timestamptz not null default now(),
    finished_at      timestamptz
);

create index write_command_event on write_command (event_id);
create index write_command_unfinished on write_command (state, created_at) where finished_at is null;

-- Every property that was written, with what was there before.
create table write (
    write_command_id uuid not null references write_command (id),
    property         text not null,
    portal_id        bigint not null,
    object_type      text not null,
    object_id        bigint not null,
    occurred_at      timestamptz not null,
    event_key        text not null,
    before           text,
    after            text not null,
    written_at       timestamptz not null default now(),
    primary key (write_command_id, property)
);

-- "What is the newest event whose value this property has?" decides whether an older one may still write.
create index write_newest on write (portal_id, object_type, object_id, property, occurred_at desc, event_key desc);

-- Who is writing to a record right now.
create table record_lease (
    portal_id   bigint not null,
    object_type text not null,
    object_id   bigint not null,
    worker      text not null,
    attempt     bigint not null default 1,
    expires_at  timestamptz not null,
    verify      boolean not null default false,
    primary key (portal_id, object_type, object_id)
);

comment on column record_lease.verify is
    'a lease ran out while a call was out: HubSpot may hold an older value than the ledger';
