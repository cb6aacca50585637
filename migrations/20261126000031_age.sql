-- How long an event has been on its way, without the time in which the whole fleet paused: nothing waits without end.

create table outage (
    dependency text not null,
    opened_at  timestamptz not null,
    closed_at  timestamptz,
    reason     text,
    primary key (dependency, opened_at)
);

comment on table outage is
    'one row for each time that a circuit breaker was open; a half-open one that opens again begins another';
comment on column outage.closed_at is 'when it was half open; null while it is open';

create index outage_closed_at on outage (closed_at);

-- With the owner's rights, as the history of events: a service needs no right on the table. What is older than any event
-- can be is of no use.
create function circuit_breaker_record_outage() returns trigger
language plpgsql security definer set search_path = public, pg_temp as $$
begin
    if new.state = 'open' and (tg_op = 'INSERT' or old.state <> 'open') then
        delete from outage where closed_at < clock_timestamp() - interval '400 days';
        insert into outage (dependency, opened_at, reason) values (new.dependency, clock_timestamp(), new.reason);
    elsif tg_op = 'UPDATE' and old.state = 'open' and new.state <> 'open' then
        update outage set closed_at = clock_timestamp() where dependency = new.dependency and closed_at is null;
    end if;
    return null;
end $$;

create trigger circuit_breaker_outage after insert or update on circuit_breaker
    for each row execute function circuit_breaker_record_outage();

-- One that is open while this runs.
insert into outage (dependency, opened_at, reason)
select dependency, clock_timestamp(), reason from circuit_breaker where state = 'open';

-- The seconds since `since` in which no circuit breaker was open.
create function age_seconds(since timestamptz) returns float8 language sql stable as $$
    select extract(epoch from statement_timestamp() - since
                   - coalesce((select sum(upper(span) - lower(span))
                               from (select unnest(range_agg(tstzrange(
                                                greatest(opened_at, since),
                                                greatest(opened_at, since, coalesce(closed_at, statement_timestamp())))))
                                            as span
                                     from outage
                                     where closed_at is null or closed_at > since) as spans
                               where not isempty(span)),
                              interval '0'))::float8
$$;

alter table event add column age_since timestamptz not null default now();

comment on column event.age_since is
    'from when its age counts: its first claim, or when an operator replayed it. What is older than broker.max_age_seconds '
    'does not wait any more';
