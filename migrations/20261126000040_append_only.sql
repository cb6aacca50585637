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

create function require_old(parent text, before timestamptz) returns void language plpgsql as $$
begin
    if kept_at_least(parent) is null then
        raise exception '% has no partition a day', parent using errcode = 'invalid_parameter_value';
    elsif before > clock_timestamp() - kept_at_least(parent) then
        raise exception 'rows of % are kept for %', parent, kept_at_least(parent)
            using errcode = 'invalid_parameter_value';
    end if;
end $$;

-- Makes the partitions of today and the days ahead, and returns how many it made. A row of a day without a partition goes
-- into the default partition.
create or replace function add_day_partitions(parent text, ahead integer) returns integer
language plpgsql security definer set search_path = public, pg_temp as $$
declare
    today date := (clock_timestamp() at time zone 'UTC')::date;
    day   date;
    child text;
    added integer := 0;
begin
    if kept_at_least(parent) is null or ahead not between 0 and 366 then
        raise exception 'no partitions of % for % days', parent, ahead using errcode = 'invalid_parameter_value';
    end if;
    -- One process at a time, and never in the way of the fleet: partitions exist for days ahead, so it may be tried later.
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
                if parent = 'event_history' then
                    perform refuse_truncate(child);
                end if;
                added := added + 1;
            exception when check_violation or lock_not_available then
                -- The default partition has rows of that day already, or a long query reads the table.
                null;
            end;
        end if;
    end loop;
    return added;
end $$;

-- Drops the partitions whose days were over before `before`, deletes older rows from the default partition, and returns
-- how many partitions it dropped.
create or replace function drop_day_partitions(parent text, before timestamptz) returns integer
language plpgsql security definer set search_path = public, pg_temp as $$
declare
    child   text;
    dropped integer := 0;
begin
    perform require_old(parent, before);
    perform set_config('lock_timeout', '2s', true);
    perform set_config('leadline.retention', 'on', true);
    case parent
        when 'inference_raw' then delete from inference_raw_default r where r.created_at < before;
        when 'inference_record' then delete from inference_record_default r where r.created_at < before;
        when 'event_history' then delete from event_history_default h where h.at < before;
    end case;
    perform set_config('leadline.retention', 'off', true);
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

-- Deletes at most `max_rows` events that ended before `before`, with their inferences, charges, write commands and
-- actions, and returns how many. Parked events are kept, however old, because they wait for an operator.
create function delete_finished_events(before timestamptz, max_rows bigint) returns bigint
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
revoke execute on function
    add_day_partitions(text, integer), drop_day_partitions(text, timestamptz),
    delete_finished_events(timestamptz, bigint), park_stuck_command(uuid, text, text) from public;

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
