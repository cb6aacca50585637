-- The questions people ask.

create view event_status as
select e.event_key,
       e.state,
       e.reason,
       e.subscription_type,
       e.portal_id,
       e.object_type,
       e.object_id,
       e.occurred_at,
       e.first_claimed_at,
       e.finished_at,
       coalesce(e.finished_at, clock_timestamp()) - e.first_claimed_at as took,
       e.attempt,
       i.playbook,
       i.playbook_version,
       i.model,
       i.cost_micro_dollars,
       (select count(*) from write w join write_command c on c.id = w.write_command_id where c.event_id = e.id)
           as properties_written,
       e.trace_id
from event e
left join inference i on i.event_id = e.id and i.outcome = 'valid';

create view throughput_by_minute as
select date_trunc('minute', finished_at) as minute,
       count(*) as finished,
       count(*) filter (where state = 'written') as written,
       count(*) filter (where state = 'parked') as parked,
       percentile_disc(0.5) within group (order by finished_at - first_claimed_at) as p50,
       percentile_disc(0.99) within group (order by finished_at - first_claimed_at) as p99
from event
where finished_at is not null
group by 1
order by 1 desc;

create view failures_by_reason as
select state, reason, count(*) as events, min(state_since) as first, max(state_since) as last,
       (array_agg(event_key order by state_since desc))[1] as newest_event
from event
where state in ('parked', 'waiting')
group by state, reason
order by events desc;

create view cost_by_playbook_and_day as
select (created_at at time zone 'UTC')::date as day,
       playbook,
       model,
       count(*) as inferences,
       count(*) filter (where outcome <> 'valid') as without_use,
       sum(prompt_tokens) as prompt_tokens,
       sum(cached_tokens) as cached_tokens,
       sum(completion_tokens) as completion_tokens,
       sum(cost_micro_dollars)::bigint as cost_micro_dollars
from inference
group by 1, 2, 3
order by 1 desc, 2, 3;
