-- Erasing a person: what HubSpot deleted for privacy reasons, or an operator erases, is emptied in small transactions. Rows
-- stay, so that counts, costs and times stay right.

-- The two ends of an association event, by which it is found.
alter table event add column associated text[];

comment on column event.associated is
    'of an association event: both records, as type id and id (0-1/54321); ?/54321 where HubSpot did not tell the type';

create index event_associated on event using gin (associated) where associated is not null;

create table erasure (
    record_hash    bytea primary key,
    portal_id      bigint not null,
    object_type    text not null,
    cause          text not null check (cause in ('privacy_deletion', 'operator')),
    requested_at   timestamptz not null default now(),
    events_until   timestamptz not null,
    records        text[],
    erased_at      timestamptz,
    finished_at    timestamptz,
    events         bigint not null default 0,
    inferences     bigint not null default 0,
    write_commands bigint not null default 0,
    written_values bigint not null default 0,
    actions        bigint not null default 0
);

comment on table erasure is
    'one row for each record that was or is being erased: the receipt. It names nobody: who knows a record''s id can ask '
    'whether it was erased';
comment on column erasure.record_hash is 'SHA-256 of the ledger''s receipt key, the portal and the record: record_hash()';
comment on column erasure.cause is 'a name of domain::inference::ErasureCause; a test compares the two';
comment on column erasure.events_until is
    'events of the record that happened until then are dropped when they come (again); infinity after a privacy deletion';
comment on column erasure.records is
    'while it is under way: the record and its engagements, as type id and id; null once it is finished';
comment on column erasure.erased_at is 'when nothing was left for the first time';
comment on column erasure.finished_at is
    'when nothing was left and no worker could store anything more: no lease from before it was asked for holds any longer';

create index erasure_unfinished on erasure (requested_at) where finished_at is null;

-- Without it, a hash would only be an id in another form: there are few enough ids to try them all. No role reads it.
create table receipt_key (
    key    bytea not null,
    single boolean primary key default true check (single)
);

comment on table receipt_key is 'the secret that is hashed with each erased record; one row';

insert into receipt_key (key)
values (sha256(convert_to(gen_random_uuid()::text || gen_random_uuid() || gen_random_uuid(), 'UTF8')));

create function record_hash(of_portal bigint, of_record text) returns bytea
language sql stable security definer set search_path = public, pg_temp as $$
    select sha256(k.key || convert_to(of_portal || '/' || of_record, 'UTF8')) from receipt_key k
$$;

-- Whether an event that happened `at` and is about any of these records is of an erased one.
create function is_erased(of_portal bigint, of_records text[], at timestamptz) returns boolean
language plpgsql stable security definer set search_path = public, pg_temp as $$
begin
    -- Asked for every event, and most ledgers have erased nobody.
    if not exists (select from erasure) then
        return false;
    end if;
    return exists (select from unnest(of_records) as named (record)
                   join erasure e on e.record_hash = record_hash(of_portal, named.record)
                   where at <= e.events_until);
end $$;

-- Asks for a record to be erased under one of its ids; erase_record does it. Asked for again, it begins again.
create function request_erasure_of_id(of_portal bigint, of_type text, of_id bigint, why text) returns void
language sql security definer set search_path = public, pg_temp as $$
    insert into erasure (record_hash, portal_id, object_type, cause, events_until, records)
    select record_hash(of_portal, of_type || '/' || of_id), of_portal, of_type, why,
           case why when 'privacy_deletion' then 'infinity'
                    -- HubSpot's clock may be ahead of this one.
                    else greatest(now(), (select max(e.occurred_at) from event e
                                          where (e.portal_id, e.object_type, e.object_id)
                                                = (of_portal, of_type, of_id))) end,
           array[of_type || '/' || of_id]
    on conflict (record_hash) do update
    set requested_at = now(), erased_at = null, finished_at = null, records = coalesce(erasure.records, excluded.records),
        events_until = greatest(erasure.events_until, excluded.events_until)
$$;

-- Asks for what is known under the old ids of a record to be erased, forgets its merges, and returns these ids. The caller has
-- called lock_merges().
create function request_erasure_of_merged(of_portal bigint, of_type text, survivor bigint, why text) returns bigint[]
language plpgsql security definer set search_path = public, pg_temp as $$
declare
    merged bigint[] := array(select m.old_id from record_merge m
                             where (m.portal_id, m.object_type, m.survivor_id) = (of_portal, of_type, survivor)
                             order by m.old_id for update);
begin
    perform request_erasure_of_id(of_portal, of_type, old.id, why) from unnest(merged) as old (id);
    perform erase_merges(of_portal, of_type, survivor);
    return merged;
end $$;

-- Asks for a record to be erased under all ids by which it is known, and returns them: its survivor's first.
create function request_erasure(of_portal bigint, of_type text, of_id bigint, why text) returns bigint[]
language plpgsql security definer set search_path = public, pg_temp as $$
declare
    survivor bigint;
begin
    perform lock_merges();
    survivor := coalesce((select m.survivor_id from record_merge m
                          where (m.portal_id, m.object_type, m.old_id) = (of_portal, of_type, of_id)), of_id);
    perform request_erasure_of_id(of_portal, of_type, survivor, why);
    return survivor || request_erasure_of_merged(of_portal, of_type, survivor, why);
end $$;

-- The same for the old ids of a record which was erased for privacy reasons before its merges were known.
create function erase_merged(of_portal bigint, of_type text, survivor bigint) returns void
language plpgsql security definer set search_path = public, pg_temp as $$
begin
    if is_erased(of_portal, array[of_type || '/' || survivor], 'infinity') then
        perform request_erasure_of_merged(of_portal, of_type, survivor, 'privacy_deletion');
    end if;
end $$;

-- Ends write commands that have not been carried out, with their actions, and returns their events. The caller has locked
-- these.
create function drop_commands(of_commands uuid[], why text) returns uuid[]
language plpgsql security definer set search_path = public, pg_temp as $$
declare
    of_events uuid[];
begin
    with dropped as (
        update write_command
        set state = 'dropped', reason = why, detail = null, lease_expires_at = null, due_at = null,
            finished_at = clock_timestamp()
        where id = any(of_commands) and state in ('recorded', 'sending', 'waiting', 'parked')
        returning event_id
    )
    select coalesce(array_agg(distinct event_id), '{}') into of_events from dropped;
    update action set state = 'skipped', reason = why, detail = null, finished_at = clock_timestamp()
    where write_command_id = any(of_commands) and state in ('intended', 'sending', 'parked');
    return of_events;
end $$;

-- Cancels what waits for a record that was deleted, as far as it happened before: events in retry queues, and write commands
-- that no writer has. Returns the events whose write commands were dropped.
create function cancel_waiting(of_portal bigint, of_type text, of_id bigint, before timestamptz, out cancelled bigint,
                               out of_dropped uuid[])
language plpgsql security definer set search_path = public, pg_temp as $$
declare
    waiting  uuid[];
    commands uuid[];
    concerned uuid[];
begin
    commands := array(select c.id from write_command c
                      where (c.portal_id, c.object_type, c.object_id) = (of_portal, of_type, of_id)
                        and c.state in ('recorded', 'waiting') and c.occurred_at <= before);
    waiting := array(select e.id from event e
                     where (e.portal_id, e.object_type, e.object_id) = (of_portal, of_type, of_id)
                       and e.occurred_at <= before and e.state = 'waiting');
    concerned := waiting || array(select c.event_id from write_command c where c.id = any(commands));
    perform from event e where e.id = any(concerned) order by e.id for update;
    -- A writer may have taken one since.
    commands := array(select c.id from write_command c
                      where c.id = any(commands) and c.state in ('recorded', 'waiting') order by c.id for update);
    of_dropped := drop_commands(commands, 'record_deleted');
    update event set state = 'dropped', reason = 'record_deleted', detail = null, due_at = null
    where id = any(waiting) and state = 'waiting';
    get diagnostics cancelled = row_count;
    cancelled := cancelled + cardinality(commands);
end $$;

-- Records that nothing was left of a record, and once `is_final` forgets which record it was.
create function conclude_erasure(of_portal bigint, of_type text, of_id bigint, is_final boolean) returns void
language sql security definer set search_path = public, pg_temp as $$
    update erasure
    set erased_at = coalesce(erased_at, clock_timestamp()),
        finished_at = case when is_final then clock_timestamp() end,
        records = case when not is_final then records end
    where record_hash = record_hash(of_portal, of_type || '/' || of_id) and records is not null
$$;

revoke execute on function
    record_hash(bigint, text), is_erased(bigint, text[], timestamptz), request_erasure_of_id(bigint, text, bigint, text),
    request_erasure_of_merged(bigint, text, bigint, text), request_erasure(bigint, text, bigint, text),
    erase_merged(bigint, text, bigint), drop_commands(uuid[], text), cancel_waiting(bigint, text, bigint, timestamptz),
    conclude_erasure(bigint, text, bigint, boolean) from public;
