-- A ledger that is restored from a backup, or whose standby is promoted, does not know what was done since. HubSpot does. So the
-- ledger notices that it was recovered, and what happened before is looked for in HubSpot before it is done.

create table recovery (
    database        text primary key,
    recovered_at    timestamptz,
    forgotten_since timestamptz
);

comment on table recovery is 'databases in which this ledger has been: the first one, and one for each backup that was restored and each '
    'standby that was promoted';
comment on column recovery.database is 'what tells it from every other one; see database_identity()';
comment on column recovery.recovered_at is
    'what happened before may have been forgotten; null for the first one. It is the time at which the recovery was noticed, which is '
    'before the first write command was claimed';
comment on column recovery.forgotten_since is
    'what was done for events from then on may have been forgotten: a day before the newest claim that the ledger knew';

-- The server (a backup that is restored elsewhere), the database and this very table (a backup that is restored on the same server),
-- and the timeline, which every promotion and every recovery to a point in time begins anew.
create function database_identity() returns text language plpgsql stable as $$
declare
    server text;
    timeline text;
begin
    -- A service that is like Postgres may have neither to show. The rest still tells a restored backup.
    begin
        select system_identifier into server from pg_control_system();
    exception when others then
        server := 'unknown';
    end;
    begin
        -- Postgres' documentation, "Continuous Archiving": the first eight digits of a WAL file's name are its timeline.
        timeline := left(pg_walfile_name(pg_current_wal_lsn()), 8);
    exception when others then
        timeline := 'unknown';
    end;
    return concat_ws('/', server, (select oid from pg_database where datname = current_database()), 'recovery'::regclass::oid,
                     timeline);
end $$;

comment on function database_identity() is 'differs after a backup was restored or a standby was promoted';

-- With the owner's rights: whoever may ask may not invent a recovery.
create function recovered_at() returns timestamptz language plpgsql security definer set search_path = public, pg_temp as $$
declare
    here text := database_identity();
begin
    if not exists (select from recovery where database = here) then
        insert into recovery (database, recovered_at, forgotten_since)
        select here, clock_timestamp(), (select max(first_claimed_at) - interval '1 day' from event)
        where exists (select from recovery)
        union all
        select here, null, null where not exists (select from recovery)
        on conflict do nothing;
    end if;
    return (select r.recovered_at from recovery r where database = here);
end $$;

comment on function recovered_at() is
    'since when what happened earlier may have been forgotten; null when the ledger was never recovered. Notices a recovery';
