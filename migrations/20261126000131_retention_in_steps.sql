-- Retention and partitions in steps: one transaction for each partition or each few rows, so that no statement runs for long
-- and no lock is held while the next one is waited for. How long is waited for a lock is the connection's to say.

drop function add_day_partitions(text, integer);

-- Makes the partition of a day, today or one to come, and returns whether it did. A row of a day without a partition goes into
-- the default partition.
create function add_day_partition(parent text, days_ahead integer) returns boolean
language plpgsql security definer set search_path = public, pg_temp as $$
declare
    day   date := (clock_timestamp() at time zone 'UTC')::date + days_ahead;
    child text := format('%s_%s', parent, to_char(day, 'YYYYMMDD'));
begin
    if kept_at_least(parent) is null or days_ahead not between 0 and 366 then
        raise exception 'no partition of % in % days', parent, days_ahead using errcode = 'invalid_parameter_value';
    end if;
    -- One process at a time: partitions exist for days ahead, so it may be tried later.
    if not pg_try_advisory_xact_lock(hashtext('leadline partitions')) or to_regclass(child) is not null then
        return false;
    end if;
    begin
        execute format('create table %I partition of %I for values from (%L) to (%L)', child, parent,
                       day::text || ' 00:00:00+00', (day + 1)::text || ' 00:00:00+00');
    exception when check_violation then
        -- The default partition has rows of that day already.
        return false;
    end;
    if parent = 'event_history' then
        perform refuse_truncate(child);
    end if;
    return true;
end $$;

-- Drops the oldest partition, if its day was over before the table's retention began, and returns whether it did.
create function drop_oldest_day(parent text) returns boolean
language plpgsql security definer set search_path = public, pg_temp as $$
declare
    before timestamptz := deletable_before(parent);
    child  text;
begin
    if kept_at_least(parent) is null then
        raise exception '% has no partition a day', parent using errcode = 'invalid_parameter_value';
    end if;
    select c.relname into child
    from pg_inherits i join pg_class c on c.oid = i.inhrelid
    where i.inhparent = to_regclass(parent) and c.relname ~ ('^' || parent || '_[0-9]{8}$')
      and to_date(right(c.relname, 8), 'YYYYMMDD') + 1 <= (before at time zone 'UTC')::date
    order by c.relname
    limit 1;
    if child is null then
        return false;
    end if;
    execute format('drop table if exists %I', child);
    return true;
end $$;

-- Deletes at most `max_rows` rows of the default partition from before the table's retention began, and returns how many.
create function delete_default_rows(parent text, max_rows bigint) returns bigint
language plpgsql security definer set search_path = public, pg_temp as $$
declare
    before  timestamptz := deletable_before(parent);
    deleted bigint;
begin
    perform set_config('leadline.retention', 'on', true);
    case parent
        when 'inference_raw' then
            delete from inference_raw_default r
            where r.ctid = any(array(select o.ctid from inference_raw_default o where o.created_at < before limit max_rows));
        when 'inference_record' then
            delete from inference_record_default r
            where r.ctid = any(array(select o.ctid from inference_record_default o where o.created_at < before limit max_rows));
        when 'event_history' then
            delete from event_history_default h
            where h.ctid = any(array(select o.ctid from event_history_default o where o.at < before limit max_rows));
    end case;
    get diagnostics deleted = row_count;
    perform set_config('leadline.retention', 'off', true);
    return deleted;
end $$;

-- Deletes at most `max_rows` events that ended before the retention of the history began, with their inferences, charges, write
-- commands and actions, and returns how many. Parked events are kept, however old, because they wait for an operator.
--
-- Each of its statements is about rows that an index finds: the size of the tables, and of their many partitions, must not lead
-- the planner to read them whole.
create function delete_finished_events(max_rows bigint) returns bigint
language plpgsql security definer set search_path = public, pg_temp
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off set jit = off as $$
declare
    before   timestamptz := deletable_before('event_history');
    events   uuid[];
    commands uuid[];
    asked    uuid[];
    asked_at timestamptz[];
begin
    events := array(select e.id from event e where e.finished_at < before and e.state <> 'parked'
                    order by e.finished_at limit max_rows for update skip locked);
    commands := array(select c.id from write_command c where c.event_id = any(events));
    select array_agg(i.id), array_agg(i.created_at) into asked, asked_at from inference i where i.event_id = any(events);
    delete from write where write_command_id = any(commands);
    delete from skipped_write where write_command_id = any(commands);
    delete from action where write_command_id = any(commands);
    delete from write_command where id = any(commands);
    delete from inference_raw r using unnest(asked, asked_at) as key (id, at)
    where r.inference_id = key.id and r.created_at = key.at;
    delete from charge where event_id = any(events);
    delete from inference where id = any(asked);
    delete from event where id = any(events);
    return cardinality(events);
end $$;

revoke execute on function
    add_day_partition(text, integer), drop_oldest_day(text), delete_default_rows(text, bigint), delete_finished_events(bigint)
    from public;
