-- Indexes by which erasure and retention find rows. Without them, an erasure read all inferences, and the deletion of an old
-- inference all write commands, because of the foreign key.

-- Of every outcome and every part; prior answers use it as before.
drop index inference_of_record;
create index inference_of_record on inference (portal_id, object_type, object_id, playbook);

create index inference_event on inference (event_id);
create index write_command_inference on write_command (inference_id);

-- Cancels what waits for a record that was deleted, as far as it happened before: events in retry queues, and write commands
-- that no writer has. Returns the events whose write commands were dropped. Until now, locking the events read all of them.
create or replace function cancel_waiting(of_portal bigint, of_type text, of_id bigint, before timestamptz, out cancelled bigint,
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
