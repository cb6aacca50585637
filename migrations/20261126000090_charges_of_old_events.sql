-- Charges go with the events that they belong to, and the record's id with the record; a write command whose writers died
-- can be parked by whoever finds it.

-- Deletes at most `max_rows` events that ended before `before`, with their inferences, charges, write commands and actions,
-- and returns how many. Parked events are kept, however old, because they wait for an operator.
create or replace function delete_finished_events(before timestamptz, max_rows bigint) returns bigint
language plpgsql security definer set search_path = public, pg_temp as $$
declare
    events   uuid[];
    commands uuid[];
begin
    perform require_old('event_history', before);
    events := array(select e.id from event e where e.finished_at < before and e.state <> 'parked'
                    order by e.finished_at limit max_rows for update skip locked);
    commands := array(select c.id from write_command c where c.event_id = any(events));
    delete from write where write_command_id = any(commands);
    delete from skipped_write where write_command_id = any(commands);
    delete from action where write_command_id = any(commands);
    delete from write_command where id = any(commands);
    delete from inference_raw r using inference i
    where i.event_id = any(events) and r.inference_id = i.id and r.created_at = i.created_at;
    delete from charge where event_id = any(events);
    delete from inference where event_id = any(events);
    delete from event where id = any(events);
    return cardinality(events);
end $$;

-- Erases everything that was read, asked, answered and written about a record, and the record's id. Of other records'
-- inferences whose prompt is like `mentioned`, it erases the prompt, the answer and the values that followed. The rows
-- stay, so that counts, costs and times stay right.
create or replace function erase_record(
    of_portal bigint, of_type text, of_id bigint, mentioned text,
    out events bigint, out inferences bigint, out write_commands bigint, out written_values bigint, out actions bigint
) language plpgsql security definer set search_path = public, pg_temp as $$
declare
    about    uuid[];
    commands uuid[];
    skipped  bigint;
begin
    about := array(
        select i.id from inference i
        where (i.portal_id = of_portal and i.object_type = of_type and i.object_id = of_id)
           or i.event_id in (select i.event_id from inference i
                             join inference_raw r on r.inference_id = i.id and r.created_at = i.created_at
                             where i.portal_id = of_portal and r.prompt::text like mentioned));
    inferences := cardinality(about);
    delete from inference_raw where inference_id = any(about);
    with erased as (
        update write_command c
        set properties = '[]', detail = null, event_key = 'erased:' || c.event_id,
            object_id = case when c.object_type = of_type and c.object_id = of_id then 0 else c.object_id end
        where c.inference_id = any(about)
           or (c.portal_id = of_portal and c.object_type = of_type and c.object_id = of_id)
        returning c.id
    )
    select array_agg(id), count(*) into commands, write_commands from erased;
    update write set before = null, after = '(erased)', event_key = 'erased:' || write_command_id,
           object_id = case when object_type = of_type and object_id = of_id then 0 else object_id end
    where write_command_id = any(commands);
    get diagnostics written_values = row_count;
    update skipped_write set current_value = null, proposed_value = '(erased)' where write_command_id = any(commands);
    get diagnostics skipped = row_count;
    written_values := written_values + skipped;
    update action set spec = jsonb_build_object('kind', kind, 'erased', true), detail = null, hubspot_id = null
    where write_command_id = any(commands);
    get diagnostics actions = row_count;
    update event e
    set payload = '{"erased": true}', detail = null, event_key = 'erased:' || e.id, object_id = null
    where (e.portal_id = of_portal and e.object_type = of_type and e.object_id = of_id)
       or exists (select from inference i where i.event_id = e.id and i.portal_id = of_portal
                    and i.object_type = of_type and i.object_id = of_id);
    get diagnostics events = row_count;
    update inference set fields = null, unverified = '{}', context_hash = null,
           object_id = case when object_type = of_type and object_id = of_id then 0 else object_id end
    where id = any(about);
    update charge set object_id = 0 where portal_id = of_portal and object_type = of_type and object_id = of_id;
end $$;

-- Parks a write command whose writer's lease has expired, and returns its event; null when a writer has taken it since, or it
-- has ended. A function of the owner's, because an inference worker may be the one that finds it.
create function park_stuck_command(of_id uuid, why text, words text) returns uuid
language sql security definer set search_path = public, pg_temp as $$
    update write_command
    set state = 'parked', reason = why, detail = words, lease_expires_at = null, finished_at = clock_timestamp()
    where id = of_id and state = 'sending' and lease_expires_at < now()
    returning event_id
$$;

revoke execute on function park_stuck_command(uuid, text, text) from public;
