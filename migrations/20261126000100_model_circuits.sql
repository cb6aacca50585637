-- A model that is gone, forbidden or refuses a parameter pauses the playbooks that ask it, and nothing else.

-- A circuit breaker guards a dependency as a whole, or one model as one version of a playbook asks it: a playbook that is
-- edited, or asks another model, has another row, which is closed.
alter table circuit_breaker
    add column playbook         text not null default '',
    add column playbook_version text not null default '',
    add column model            text not null default '',
    add column parameter        text,
    add column refused_events   uuid[] not null default '{}';
alter table circuit_breaker drop constraint circuit_breaker_pkey;
alter table circuit_breaker add primary key (dependency, playbook, playbook_version, model);

comment on table circuit_breaker is
    'outages of HubSpot and OpenAI, and models that do not answer a playbook, shared by the whole fleet';
comment on column circuit_breaker.playbook is 'the playbook that a model does not answer; empty for a whole dependency';
comment on column circuit_breaker.parameter is 'closed: the parameter that the model refused last';
comment on column circuit_breaker.refused_events is
    'closed: the events for which it refused that parameter, without an answer in between';
comment on column circuit_breaker.due_at is
    'open: when the next probe is due; half_open: when it closes by itself, if no call fails before, or of a model when the next '
    'event may ask it';

comment on column event.age_since is
    'from when its age counts: its first claim, or when an operator replayed it; later by the time in which it waited for a '
    'paused model. What is older than broker.max_age_seconds does not wait any more';

-- An event may wait for weeks until the model of one playbook is there again. What another playbook answered meanwhile, and
-- cannot use, is not asked for again each time.
alter table event add column unusable_answers jsonb;
comment on column event.unusable_answers is
    'while it waits: which of its playbooks have an answer that cannot be used, and why';

create or replace function event_set_times() returns trigger language plpgsql as $$
begin
    new.state_since := clock_timestamp();
    new.finished_at := case
        when new.state in ('claimed', 'waiting', 'decided') then null else clock_timestamp() end;
    -- It has had no effect and never will: what the property held is kept for nothing.
    if new.state in ('skipped', 'superseded', 'dropped') then
        new.payload := new.payload - 'propertyValue';
    end if;
    if new.state not in ('claimed', 'waiting') then
        new.unusable_answers := null;
    end if;
    return new;
end $$;
