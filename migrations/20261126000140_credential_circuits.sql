-- One wrong key stops the workers that have it, and no others: each credential has a circuit of its own, by its fingerprint.

-- A worker whose credential is rejected pauses by itself. Its circuit opens, for all who have that credential, when another one of them
-- is rejected as well, or when none of them says that it works until the first is rejected again.
alter table circuit_breaker
    add column credential  text not null default '',
    add column rejected_by text[] not null default '{}',
    add column accepted_by text,
    add column accepted_at timestamptz;
alter table circuit_breaker drop constraint circuit_breaker_pkey;
alter table circuit_breaker add primary key (dependency, credential, playbook, playbook_version, model);

comment on table circuit_breaker is
    'outages of HubSpot and OpenAI, credentials that they reject, and models that do not answer a playbook, shared by the whole fleet';
comment on column circuit_breaker.credential is
    'the fingerprint of a credential that is rejected (a salted hash, which does not tell it); empty for all of them';
comment on column circuit_breaker.rejected_by is
    'not open: the workers whose calls with the credential were rejected; each of them pauses by itself';
comment on column circuit_breaker.accepted_by is
    'the worker for whom it worked meanwhile; open: one that goes on with another credential';
comment on column circuit_breaker.accepted_at is 'when it did';

-- The time in which a credential is rejected is left out of the age of events, as that of an outage, until a worker says that it goes on
-- with another one: then the fleet does not pause.
alter table outage add column credential text not null default '';
alter table outage drop constraint outage_pkey;
alter table outage add primary key (dependency, credential, opened_at);
comment on column outage.credential is 'the fingerprint of the credential whose circuit was open; empty for all of them';

-- A model that is away pauses its playbook alone, and leaves nothing out of the age of events.
create or replace function circuit_breaker_record_outage() returns trigger
language plpgsql security definer set search_path = public, pg_temp as $$
begin
    if new.playbook <> '' then
        return null;
    end if;
    -- The models were not looked after meanwhile. From now on that is due.
    if tg_op = 'UPDATE' and new.credential <> '' and new.state = 'closed' and old.state <> 'closed' then
        update circuit_breaker set due_at = clock_timestamp()
        where dependency = new.dependency and playbook <> '' and state <> 'closed' and due_at < clock_timestamp();
    end if;
    if new.state = 'open' and (tg_op = 'INSERT' or old.state <> 'open') then
        delete from outage where closed_at < clock_timestamp() - interval '400 days';
        insert into outage (dependency, credential, opened_at, reason)
        values (new.dependency, new.credential, clock_timestamp(), new.reason);
    elsif tg_op = 'UPDATE' and old.state = 'open'
          and (new.state <> 'open' or new.credential <> '' and new.accepted_by is not null) then
        update outage set closed_at = clock_timestamp()
        where dependency = new.dependency and credential = new.credential and closed_at is null;
    end if;
    return null;
end $$;
