-- What measuring found: see docs/performance.md.

-- "Was this done for the record lately?" went through all that was ever done under the action's name.
create index write_command_record on write_command (portal_id, object_type, object_id);

-- Checked and written down once for each statement, which concerns many events, not once for each event.
drop trigger event_transition_check on event;
drop trigger event_history_on_insert on event;
drop trigger event_history_on_update on event;
drop function event_check_transition();
drop function event_record_history();

create function event_set_times() returns trigger language plpgsql as $$
begin
    new.state_since := clock_timestamp();
    new.finished_at := case
        when new.state in ('claimed', 'waiting', 'decided') then null else clock_timestamp() end;
    return new;
end $$;

create trigger event_times before update of state, attempt on event
    for each row when (old.state is distinct from new.state or old.attempt is distinct from new.attempt)
    execute function event_set_times();

create function event_inserted() returns trigger language plpgsql as $$
begin
    insert into event_history (event_id, from_state, state, attempt, worker, reason, detail)
    select n.id, null, n.state, n.attempt, n.worker, n.reason, n.detail from new_rows n;
    return null;
end $$;

create trigger event_history_on_insert after insert on event
    referencing new table as new_rows for each statement execute function event_inserted();

create function event_updated() returns trigger language plpgsql as $$
declare
    wrong record;
begin
    select o.event_key, o.state as from_state, n.state as to_state into wrong
    from old_rows o join new_rows n on n.id = o.id
    left join event_transition t on t.from_state = o.state and t.to_state = n.state
    where (o.state <> n.state or o.attempt <> n.attempt) and t.from_state is null
    limit 1;
    if found then
        raise exception 'event % may not go from % to %', wrong.event_key, wrong.from_state, wrong.to_state
            using errcode = 'check_violation';
    end if;
    insert into event_history (event_id, from_state, state, attempt, worker, reason, detail)
    select n.id, o.state, n.state, n.attempt, n.worker, n.reason, n.detail
    from old_rows o join new_rows n on n.id = o.id
    where o.state <> n.state or o.attempt <> n.attempt;
    return null;
end $$;

create trigger event_history_on_update after update on event
    referencing old table as old_rows new table as new_rows for each statement execute function event_updated();

-- Prompts are long: LZ4 packs them at a fraction of the CPU time. A Postgres that was built without it goes on as before.
do $$
begin
    alter table inference_raw alter column prompt set compression lz4, alter column answer set compression lz4;
    alter table event alter column payload set compression lz4;
exception when feature_not_supported then
    raise notice 'this Postgres has no LZ4';
end $$;
