-- What the model costs: reserved before a request is sent, settled when its answer is known. A worker that dies in between
-- leaves the reservation, which then counts.

create table charge (
    id                    uuid primary key,
    event_id              uuid not null references event (id),
    attempt               integer not null,
    inference_id          uuid not null,
    playbook              text not null,
    portal_id             bigint not null,
    object_type           text not null,
    object_id             bigint not null,
    model                 text not null,
    state                 text not null default 'reserved'
        check (state in ('reserved', 'answered', 'estimated', 'free')),
    reserved_micro_dollars bigint not null check (reserved_micro_dollars >= 0),
    micro_dollars         bigint not null check (micro_dollars >= 0),
    created_at            timestamptz not null default now(),
    settled_at            timestamptz
) with (fillfactor = 80);

comment on table charge is 'one row for each request to the model, written before it is sent; micro_dollars of all is what the model cost';
comment on column charge.id is 'also the request''s header X-Client-Request-Id';
comment on column charge.attempt is 'the event''s attempt under which it was sent';
comment on column charge.inference_id is
    'the inference that it is for; a question may take several requests. It has no row when no answer came';
comment on column charge.object_id is 'the record that the question is about; 0 after it was erased';
comment on column charge.model is 'the name in the request';
comment on column charge.state is 'a name of domain::inference::ChargeState; a test compares the two';
comment on column charge.reserved_micro_dollars is 'the most that the request can cost, in 10^-6 $; 0 for a model without a price';
comment on column charge.micro_dollars is 'what counts: what the answer says that it cost, or the reservation as long as that is unknown';

-- "What have the questions about this record cost today?"
create index charge_record on charge (portal_id, object_type, object_id, created_at);
create index charge_event on charge (event_id);

-- Reserves the most that each request can cost, where the day's limit of its record allows it: `of_record` for all playbooks
-- together, `of_playbook` for the request's own; 0: no limit. Returns in order whether it was reserved. A day is one in UTC.
create function begin_charges(
    ids uuid[], events uuid[], attempts integer[], inferences uuid[], playbooks text[], portals bigint[], types text[],
    objects bigint[], models text[], reservations bigint[], of_record bigint[], of_playbook bigint[]
) returns boolean[] language plpgsql as $$
declare
    today   timestamptz := date_trunc('day', clock_timestamp() at time zone 'UTC') at time zone 'UTC';
    begun   boolean[] := '{}';
    fits    boolean;
    spent   record;
begin
    -- Two workers that ask for the same record wait for each other. By buckets, so that the number of locks has a bound, and
    -- in order, so that two batches do not deadlock.
    perform pg_advisory_xact_lock(hashtext('leadline charges'), bucket)
    from (select distinct hashtext(concat_ws('/', portal, type, object)) & 255 as bucket
          from unnest(portals, types, objects) as input (portal, type, object)
          order by 1) as buckets;
    for i in 1 .. cardinality(ids) loop
        fits := true;
        if of_record[i] > 0 or of_playbook[i] > 0 then
            select coalesce(sum(c.micro_dollars), 0) as of_record,
                   coalesce(sum(c.micro_dollars) filter (where c.playbook = playbooks[i]), 0) as of_playbook
            into spent
            from charge c
            where (c.portal_id, c.object_type, c.object_id) = (portals[i], types[i], objects[i])
              and c.created_at >= today and c.id <> ids[i];
            fits := (of_record[i] = 0 or spent.of_record + reservations[i] <= of_record[i])
                and (of_playbook[i] = 0 or spent.of_playbook + reservations[i] <= of_playbook[i]);
        end if;
        if fits then
            insert into charge (id, event_id, attempt, inference_id, playbook, portal_id, object_type, object_id, model,
                                reserved_micro_dollars, micro_dollars, created_at)
            values (ids[i], events[i], attempts[i], inferences[i], playbooks[i], portals[i], types[i], objects[i], models[i],
                    reservations[i], reservations[i], clock_timestamp())
            -- The same batch again, whose answer was lost.
            on conflict (id) do nothing;
        end if;
        begun := begun || fits;
    end loop;
    return begun;
end $$;

-- An inference without a charge is one of `leadline playbook run`.
create or replace view cost_by_playbook_and_day as
select day,
       playbook,
       model,
       sum(inferences) as inferences,
       sum(not_valid) as not_valid,
       sum(prompt_tokens) as prompt_tokens,
       sum(cached_tokens) as cached_tokens,
       sum(completion_tokens) as completion_tokens,
       sum(micro_dollars)::bigint as cost_micro_dollars,
       sum(estimated)::bigint as estimated_micro_dollars
from (select (i.created_at at time zone 'UTC')::date as day, i.playbook, i.model, 1 as inferences,
             (i.outcome <> 'valid')::integer as not_valid, i.prompt_tokens, i.cached_tokens, i.completion_tokens,
             case when c.inference_id is null then i.cost_micro_dollars end as micro_dollars, null::bigint as estimated
      from inference i left join (select distinct inference_id from charge) c on c.inference_id = i.id
      union all
      select (c.created_at at time zone 'UTC')::date, c.playbook, coalesce(i.model, c.model), 0, 0, 0, 0, 0, c.micro_dollars,
             case when c.state in ('reserved', 'estimated') then c.micro_dollars end
      from charge c left join inference i on i.id = c.inference_id
      where c.state <> 'free') as spent
group by 1, 2, 3
order by 1 desc, 2, 3;

comment on view cost_by_playbook_and_day is
    'what the model cost. estimated_micro_dollars is the part whose answer was lost, unreadable or silent about it, and '
    'counts as the most that it can be';
