-- History that cannot be rewritten, and what the roles of deploy/postgres need for it.
--
-- Until now the trigger of event_history was one for each statement on the parent: a statement on a partition, and any
-- TRUNCATE, passed it by. Deleting old data was a right of every service; it is now a function of the owner's, which
-- refuses what is young.

-- Only retention deletes from the history, and only erasure takes a detail out of it, each within one of the owner's
-- functions: `leadline.retention` and `leadline.erasure` are set there alone, and count only for the table's owner.
create or replace function refuse_change() returns trigger language plpgsql as $$
begin
    if current_user = (select pg_get_userbyid(c.relowner) from pg_class c where c.oid = tg_relid) then
        if tg_op = 'DELETE' and tg_level = 'ROW' and current_setting('leadline.retention', true) = 'on' then
            return old;
        elsif tg_op = 'UPDATE' and current_setting('leadline.erasure', true) = 'on' then
            if tg_level = 'STATEMENT' then
                return null;
            elsif to_jsonb(new) = to_jsonb(old) || '{"detail": null}' then
                return new;
            end if;
        end if;
    end if;
    raise exception '% is append-only', tg_table_name using errcode = 'check_violation';
end $$;

-- A trigger for each row is copied to every partition, those to come as well. A trigger for TRUNCATE is not.
create trigger event_history_rows_append_only before update or delete on event_history
    for each row execute function refuse_change();

create function refuse_truncate(of_table text) returns void language plpgsql as $$
begin
    execute format('create trigger append_only_truncate before truncate on %I
                        for each statement execute function refuse_change()', of_table);
end $$;

select refuse_truncate('event_history'), refuse_truncate('event_history_default');
select refuse_truncate(c.relname)
from pg_inherits i join pg_class c on c.oid = i.inhrelid
where i.inhparent = 'event_history'::regclass and c.relname <> 'event_history_default';

-- The history is written by the owner, whoever changes an event: a service needs no right on it.
alter function event_record_insert() security definer;
alter function event_record_insert() set search_path = public, pg_temp;
alter function event_record_update() security definer;
alter function event_record_update() set search_path = public, pg_temp;

-- The tables that have a partition a day, and for how long at least their rows are kept, whoever asks.
create function kept_at_least(parent text) returns interval language plpgsql immutable as $$
begin
    return case parent when 'inference_raw' then interval '1 day'
                       when 'inference_record' then interval '2 days'
                       when 'event_history' then interval '2 days' end;
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

-- No other role may call a function of the owner's until deploy/postgres/grants.sql allows it.
revoke execute on function park_stuck_command(uuid, text, text) from public;

-- Views for auditors, who read no table.
create view event_states as
select e.event_key, h.at, h.from_state, h.state, h.attempt, h.worker, h.reason, h.detail
from event_history h
join event e on e.id = h.event_id;

comment on view event_states is 'every state that an event had, as long as it is kept';

create view written_properties as
select w.portal_id, w.object_type, w.object_id, w.property, w.before, w.after, w.written_at, w.occurred_at, w.event_key,
       i.playbook, i.playbook_version, i.model, c.inference_id, c.id as write_command_id
from write w
join write_command c on c.id = w.write_command_id
join inference i on i.id = c.inference_id;

comment on view written_properties is 'every property that was written: before, after, and what led to it';

create view skipped_properties as
select c.portal_id, c.object_type, c.object_id, s.property, s.reason, s.current_value, s.proposed_value, s.at, c.event_key,
       i.playbook, i.playbook_version, i.model, c.inference_id, c.id as write_command_id
from skipped_write s
join write_command c on c.id = s.write_command_id
join inference i on i.id = c.inference_id;

comment on view skipped_properties is 'every property that was left as it was, and why';
