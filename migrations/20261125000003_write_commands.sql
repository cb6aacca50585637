-- Write commands: what an inference asks for, what was written and what was there before, and actions.

-- domain::CommandState has the same names; a test compares the two.
create type write_command_state as enum
    ('recorded', 'sending', 'waiting', 'written', 'superseded', 'skipped', 'dropped', 'parked');

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
    due_at           timestamptz,
    requeued_at      timestamptz,
    requeues         integer not null default 0,
    created_at       timestamptz not null default now(),
    finished_at      timestamptz
);

comment on table write_command is 'the property changes and actions that an inference asks for, for one record';
comment on column write_command.event_key is
    'that of the event, as occurred_at is: the two are the order of writes to a record';
comment on column write_command.attempt is
    'grows with every claim by a writer; a result is committed only if the attempt is still the writer''s own (fencing)';
comment on column write_command.lease_expires_at is 'while sending: from then on another writer may take it over';
comment on column write_command.reason is 'a name of domain::Reason';
comment on column write_command.due_at is 'while it waits: when its message comes out of the retry queue';
comment on column write_command.requeues is 'how often the reconciler published it again because its message seemed lost';

create index write_command_event on write_command (event_id);
create index write_command_unfinished on write_command (state, created_at) where finished_at is null;
create index write_command_parked on write_command (event_id) where state = 'parked';
-- "Was this action done for the record within its cooldown?"
create index write_command_record on write_command (portal_id, object_type, object_id);

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

comment on table write is 'every property that was written, with the value before and after';

-- "Which is the newest event that wrote this property?" An older event must not overwrite its value.
create index write_newest on write (portal_id, object_type, object_id, property, occurred_at desc, event_key desc);

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

-- One writer at a time changes a record.
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

comment on table record_lease is 'which writer may change a record, and until when';
comment on column record_lease.verify is
    'a lease ended while a call may have been under way: HubSpot may hold an older value than the ledger. '
    'The row stays until a writer has compared the two';

-- domain::ActionState has the same names; a test compares the two.
create type action_state as enum ('intended', 'sending', 'done', 'skipped', 'parked');

create table action (
    id               uuid primary key,
    write_command_id uuid not null references write_command (id),
    name             text not null,
    kind             text not null,
    spec             jsonb not null,
    cooldown_hours   integer not null,
    state            action_state not null default 'intended',
    sending_since    timestamptz,
    reason           text,
    detail           text,
    hubspot_id       bigint,
    created_at       timestamptz not null default now(),
    finished_at      timestamptz
);

comment on table action is 'what is to be done beyond properties: a task, a note, a deal moved, a notification';
comment on column action.id is
    'also its marker in the body of a task or note, and the Idempotency-Key of a notification';
comment on column action.name is 'its name in the playbook';
comment on column action.spec is 'what is to be done, as text and ids; its shape is domain::write_command::ActionSpec';
comment on column action.cooldown_hours is
    'within this time the same action of the playbook is not done again for the record; 0: no cooldown';
comment on column action.state is
    'sending is committed before the call. An action that is found in this state is in doubt: the writer looks in HubSpot '
    'before it sends again';
comment on column action.hubspot_id is 'the id of what it made in HubSpot';

create index action_command on action (write_command_id);
create index action_unfinished on action (state, sending_since) where finished_at is null;
