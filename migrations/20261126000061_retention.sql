-- What is kept for how long is the owner's to say: `leadline migrate` writes it from the settings (`retention.raw_days`,
-- `retention.events_days`). Until now a service named the day before which it wanted rows deleted.
create table retention (
    of_table text primary key check (kept_at_least(of_table) is not null),
    days     integer not null,
    check (days = 0 or make_interval(days => days) >= kept_at_least(of_table))
);

comment on table retention is 'for how many days rows are kept; written by leadline migrate, from the settings';
comment on column retention.of_table is
    'inference_raw: prompts and answers; inference_record: what was read for them; event_history: ended events with everything that '
    'belongs to them';
comment on column retention.days is '0: for ever';

insert into retention (of_table, days) values ('inference_raw', 90), ('inference_record', 400), ('event_history', 400);

-- The moment before which rows may be deleted; null: none may.
create function deletable_before(parent text) returns timestamptz language sql stable as $$
    select clock_timestamp() - make_interval(days => r.days) from retention r where r.of_table = parent and r.days > 0
$$;

drop function drop_day_partitions(text, timestamptz);
drop function delete_finished_events(timestamptz, bigint);
drop function require_old(text, timestamptz);

-- Drops the partitions whose days were over before the table's retention began, deletes older rows from the default partition,
-- and returns how many partitions it dropped.
create function drop_day_partitions(parent text) returns integer
language plpgsql security definer set search_path = public, pg_temp as $$
declare
    before  timestamptz := deletable_before(parent);
    child   text;
    dropped integer := 0;
begin
    if kept_at_least(parent) is null then
        raise exception '% has no partition a day', parent using errcode = 'invalid_parameter_value';
    elsif before is null then
        return 0;
    end if;
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

-- Deletes at most `max_rows` events that ended before the retention of the history began, with their inferences, charges, write
-- commands and actions, and returns how many. Parked events are kept, however old, because they wait for an operator.
create function delete_finished_events(max_rows bigint) returns bigint
language plpgsql security definer set search_path = public, pg_temp as $$
declare
    before   timestamptz := deletable_before('event_history');
    events   uuid[];
    commands uuid[];
begin
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

revoke execute on function drop_day_partitions(text), delete_finished_events(bigint) from public;
