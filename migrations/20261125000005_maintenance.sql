-- What the fleet does about itself: tasks of one worker at a time, outages, lost messages, old data.

create table singleton_lease (
    name       text primary key,
    holder     text not null,
    expires_at timestamptz not null
);

comment on table singleton_lease is 'tasks that one worker of the fleet does at a time: which worker, and until when';

create table circuit_breaker (
    dependency text primary key,
    state      text not null check (state in ('closed', 'open', 'half_open')),
    reason     text,
    detail     text,
    worker     text not null,
    opened_at  timestamptz,
    probes     integer not null default 0,
    due_at     timestamptz,
    changed_at timestamptz not null default clock_timestamp()
);

comment on table circuit_breaker is 'outages of HubSpot and OpenAI, shared by the whole fleet';
comment on column circuit_breaker.state is 'a name of domain::CircuitBreakerState; a test compares the two';
comment on column circuit_breaker.opened_at is 'when the outage began';
comment on column circuit_breaker.probes is 'how many probes failed since';
comment on column circuit_breaker.due_at is
    'open: when the next probe is due; half_open: when it closes by itself, if no call fails before';

-- Work that a message in RabbitMQ should bring on, and when at the latest: when the lease of its worker ends, when its
-- message comes out of the retry queue, or since it was recorded.
create view pending_work as
select 'event' as kind, id, state::text as state, requeued_at, requeues,
       case state when 'claimed' then lease_expires_at else coalesce(due_at, state_since) end as due_at
from event
where finished_at is null and state in ('claimed', 'waiting')
union all
select 'write_command', id, state::text, requeued_at, requeues,
       case state when 'recorded' then created_at when 'sending' then lease_expires_at
                  else coalesce(due_at, created_at) end
from write_command
where finished_at is null;

comment on view pending_work is 'unfinished events and write commands, with the time at which a worker should have them';

-- Pending work whose message seems lost: overdue by more than `stuck_after`, the longest first. What was published again
-- is left alone for twice as long each time, because its message may only be behind many others.
create function stuck_work(of_kind text, stuck_after interval, max_rows bigint)
returns table (id uuid, overdue_seconds float8, requeues integer) language sql stable as $$
    select p.id, extract(epoch from now() - p.due_at)::float8, p.requeues
    from pending_work p
    where p.kind = of_kind and p.due_at < now() - stuck_after
      and (p.requeued_at is null or p.requeued_at < now() - stuck_after * power(2, least(p.requeues, 8)))
    order by p.due_at
    limit max_rows
$$;

-- Makes the partitions of today and the days ahead, and returns how many it made. A row of a day without a partition goes
-- into the default partition.
create function add_day_partitions(parent text, ahead integer) returns integer language plpgsql as $$
declare
    today date := (clock_timestamp() at time zone 'UTC')::date;
    day   date;
    child text;
    added integer := 0;
begin
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
                added := added + 1;
            exception when check_violation or lock_not_available then
                -- The default partition has rows of that day already, or a long query reads the table.
                null;
            end;
        end if;
    end loop;
    return added;
end $$;

select add_day_partitions('inference_raw', 7), add_day_partitions('inference_record', 7),
       add_day_partitions('event_history', 7);
