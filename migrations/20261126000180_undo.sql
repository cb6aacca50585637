-- Undo: what the fleet wrote is taken back by write commands of their own, which hold the value from before.
--
-- Safe while the version before runs: its writers put values back as they write any other, and park what deletes a task or moves a
-- deal back, because they do not know such actions; it can be replayed when they are gone.

create table undo (
    id         uuid primary key,
    asked_by   text not null,
    why        text,
    selection  text not null,
    created_at timestamptz not null default clock_timestamp()
);

comment on table undo is 'what an operator had undone: who, why, when';
comment on column undo.selection is
    'what was chosen, in words; no record and no event is named, because that of a person may have to be erased';

alter table write_command add column undo_id uuid references undo (id);

comment on column write_command.undo_id is
    'the command takes back what an earlier one of the same inference wrote. It is no outcome of its event. Its occurred_at is just '
    'behind that of the newest write that it replaces, so that newer events win and older ones do not';

create index write_command_undo on write_command (undo_id) where undo_id is not null;

create table undone_write (
    write_command_id uuid not null,
    property         text not null,
    undo_command_id  uuid not null references write_command (id) on delete cascade,
    primary key (write_command_id, property),
    foreign key (write_command_id, property) references write (write_command_id, property) on delete cascade
);

comment on table undone_write is 'written properties that are undone, each once. Of several writes of a property one command takes back all';
comment on column undone_write.undo_command_id is 'the write command that takes it back';

create index undone_write_command on undone_write (undo_command_id);

create table undone_action (
    action_id       uuid primary key references action (id) on update cascade on delete cascade,
    undo_command_id uuid not null references write_command (id) on delete cascade
);

comment on table undone_action is 'tasks and notes that are deleted again, each once';

create index undone_action_command on undone_action (undo_command_id);

-- "What was written since?" Rows are added in the order of time, so a few pages answer it.
create index write_written_at on write using brin (written_at);

-- One operator at a time has something undone, so that two find nothing twice.
create function lock_undo() returns void
language sql set search_path = public, pg_temp as $$
    select pg_advisory_xact_lock(hashtextextended('undo', 0))
$$;

revoke execute on function lock_undo() from public;

create view undone_properties as
select u.id as undo_id, u.asked_by, u.why, u.created_at as asked_at, c.portal_id, c.object_type, c.object_id, t.property,
       t.write_command_id, w.event_key, i.playbook, i.playbook_version, w.written_at, w.before as before_write, w.after as undone_value,
       coalesce(s.reason, case when r.write_command_id is not null then 'written' when c.state = 'written' then 'left'
                               else c.state::text end) as outcome,
       r.after as restored_value, coalesce(r.written_at, c.finished_at) as undone_at
from undone_write t
join write w on (w.write_command_id, w.property) = (t.write_command_id, t.property)
join write_command original on original.id = t.write_command_id
join inference i on i.id = original.inference_id
join write_command c on c.id = t.undo_command_id
join undo u on u.id = c.undo_id
left join write r on (r.write_command_id, r.property) = (t.undo_command_id, t.property)
left join skipped_write s on (s.write_command_id, s.property) = (t.undo_command_id, t.property);

comment on view undone_properties is
    'written properties that were undone: who asked for it, why, the value that was undone and the one that was put back, and what '
    'became of it: written, why the property was left as it is (left: the deal has moved on), or the state of the write command';

-- What an event has written is not what was undone of it.
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
       (select count(*) from write w join write_command c on c.id = w.write_command_id
        where c.event_id = e.id and c.undo_id is null) as properties_written,
       e.trace_id
from event e
left join inference i on i.event_id = e.id and i.outcome = 'valid' and i.part is null;

create or replace view written_properties as
select w.portal_id, w.object_type, w.object_id, w.property, w.before, w.after, w.written_at, w.occurred_at, w.event_key,
       i.playbook, i.playbook_version, i.model, c.inference_id, c.id as write_command_id, c.undo_id
from write w
join write_command c on c.id = w.write_command_id
join inference i on i.id = c.inference_id;

comment on view written_properties is
    'every property that was written: before, after, and what led to it. With an undo_id it was put back to the value from before';
