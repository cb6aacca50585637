-- Leases come and go. What Postgres knows about their number was true at another moment, and a plan that it made while there were
-- none goes through all that there are, once for each lease that ends.

-- Ends the leases of a worker on records, in the order in which they are locked, so that two workers do not deadlock. A record that is
-- marked for verification keeps its row, with an expired lease.
create function unlock_records(portals bigint[], types text[], ids bigint[], of_worker text) returns void
language plpgsql set enable_seqscan = off as $$
declare
    of record;
begin
    for of in select * from unnest(portals, types, ids) as input (portal_id, object_type, object_id) order by 1, 2, 3 loop
        delete from record_lease l
        where (l.portal_id, l.object_type, l.object_id) = (of.portal_id, of.object_type, of.object_id)
          and l.worker = of_worker and not l.verify;
        if not found then
            update record_lease l set expires_at = 'epoch'
            where (l.portal_id, l.object_type, l.object_id) = (of.portal_id, of.object_type, of.object_id)
              and l.worker = of_worker;
        end if;
    end loop;
end $$;
