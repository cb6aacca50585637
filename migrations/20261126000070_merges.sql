-- Merged records. HubSpot mints a new id for the record that survives a merge: what was decided for an old id goes on with the new
-- one, and what was written under an old id counts for the order of writes to the new one.

create table record_merge (
    portal_id   bigint not null,
    object_type text not null,
    old_id      bigint not null,
    survivor_id bigint not null check (survivor_id <> old_id),
    noticed_at  timestamptz not null default clock_timestamp(),
    primary key (portal_id, object_type, old_id)
);

comment on table record_merge is 'records that were merged into another one, as far as the fleet has noticed';
comment on column record_merge.survivor_id is
    'the record that survives, after the last of several merges: no survivor is itself merged into another one';

create index record_merge_survivor on record_merge (portal_id, object_type, survivor_id);

alter table write_command add column merged_from bigint;

comment on column write_command.merged_from is
    'the id of the record that it was decided for, if that record was merged into object_id before it was written';

-- Forgets under which ids a record was known before it was merged. A function of the owner's: no service deletes by itself.
create function erase_merges(of_portal bigint, of_type text, of_id bigint) returns void
language sql security definer set search_path = public, pg_temp as $$
    update write_command set merged_from = null
    where portal_id = of_portal and object_type = of_type
      and (merged_from = of_id
           or merged_from in (select old_id from record_merge
                              where portal_id = of_portal and object_type = of_type and survivor_id = of_id));
    delete from record_merge
    where portal_id = of_portal and object_type = of_type and (old_id = of_id or survivor_id = of_id)
$$;

-- One transaction at a time tells of merges, or asks for a record to be erased under all of its ids: neither overlooks what the
-- other has not committed yet.
create function lock_merges() returns void
language sql set search_path = public, pg_temp as $$
    select pg_advisory_xact_lock(hashtextextended('record_merge', 0))
$$;

revoke execute on function erase_merges(bigint, text, bigint), lock_merges() from public;

create view merged_records as
select m.portal_id, m.object_type, m.old_id, m.survivor_id, m.noticed_at,
       (select count(*) from write_command c
        where (c.portal_id, c.object_type, c.object_id) = (m.portal_id, m.object_type, m.survivor_id)
          and c.merged_from = m.old_id) as write_commands
from record_merge m;

comment on view merged_records is
    'records that were merged into another one, and how many write commands about them went on with that one';
