-- What waits for something that cannot come has an end.

-- A waiting event whose message is lost and whose payload is no webhook cannot be published again: the reconciler parks it.
insert into event_transition (from_state, to_state) values ('waiting', 'parked');

-- A record whose verification HubSpot refuses is given up after some passes.
alter table record_lease add column verify_failures integer not null default 0;
comment on column record_lease.verify_failures is 'how often its verification failed for a reason of its own';
