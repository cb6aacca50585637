-- Views for people: what became of an event, how fast the fleet is, what fails, what it costs.

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
left join inference i on i.event_id = e.id and i.outcome = 'valid' and i.part is null;

comment on view event_status is 'one row per event and valid answer';

create view unfinished_events as
select e.event_key, e.state, e.reason, e.attempt, e.requeues, e.worker, e.first_claimed_at, e.state_since,
       e.lease_expires_at, e.due_at, clock_timestamp() - e.first_claimed_at as age
from event e
where e.finished_at is null
order by e.first_claimed_at;

comment on view unfinished_events is 'events that are claimed, waiting or decided, the oldest first';

create view parked as
select e.id as event_id, e.event_key, 'events' as stage, null::uuid as write_command_id, e.playbook, e.reason, e.detail,
       e.portal_id, e.object_type, e.object_id, e.state_since as parked_at
from event e
left join lateral (select h.from_state from event_history h where h.event_id = e.id order by h.id desc limit 1) as last
    on true
where e.state = 'parked'
  -- An event that was decided before is parked because of its write commands, which have rows of their own.
  and coalesce(last.from_state <> 'decided',
               not exists (select from write_command c where c.event_id = e.id and c.state = 'parked'))
union all
select e.id, e.event_key, 'writes', c.id, i.playbook, c.reason, c.detail, c.portal_id, c.object_type, c.object_id,
       c.finished_at
from write_command c
join event e on e.id = c.event_id
join inference i on i.id = c.inference_id
where c.state = 'parked';

comment on view parked is
    'what waits for an operator: events that failed before a decision (stage events) and write commands (stage writes)';

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

comment on view throughput_by_minute is 'finished events a minute; p50 and p99 are from the first claim to the end';

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
       count(*) filter (where outcome <> 'valid') as not_valid,
       sum(prompt_tokens) as prompt_tokens,
       sum(cached_tokens) as cached_tokens,
       sum(completion_tokens) as completion_tokens,
       sum(cost_micro_dollars)::bigint as cost_micro_dollars
from inference
group by 1, 2, 3
order by 1 desc, 2, 3;

create view inference_text as
select i.id as inference_id, i.event_id, i.playbook, i.portal_id, i.object_type, i.object_id, i.part, i.outcome,
       i.created_at, r.prompt, r.answer
from inference i
join inference_raw r on r.inference_id = i.id and r.created_at = i.created_at;

comment on view inference_text is 'prompts and answers, as long as they are kept';

create view action_status as
select a.id,
       a.name,
       a.kind,
       a.state,
       a.reason,
       a.hubspot_id,
       c.portal_id,
       c.object_type,
       c.object_id,
       i.playbook,
       i.playbook_version,
       c.event_key,
       a.created_at,
       a.finished_at
from action a
join write_command c on c.id = a.write_command_id
join inference i on i.id = c.inference_id;

-- What the fleet has taken of each limit within the window that ends now.
create view limit_usage as
select l.name, l.quota, l.share, l.allowed,
       quota_used(l, now_slice - case when l.slices = 1 then 1 else l.slices end, now_slice) as used,
       l.window_ms, l.observed_at, l.rejections,
       case when l.held_until > clock_timestamp() then l.held_until end as held_until,
       l.slices = 1 and l.name like 'openai/money/%' as is_money
from rate_limit l,
     lateral (select floor(extract(epoch from clock_timestamp()) * 1000 / (l.window_ms::float8 / l.slices))::bigint
                     as now_slice) as now;

comment on view limit_usage is 'the common part of rate_limits and spend_limits';

create view rate_limits as
select name, quota, share, allowed, used, window_ms, observed_at, rejections, held_until
from limit_usage
where not is_money;

comment on view rate_limits is 'calls and tokens: what the fleet has taken within the window, and what it takes at most';

create view spend_limits as
select name,
       substring(name from '^openai/money/(.+)/day$') as playbook,
       quota as micro_dollars_per_day,
       used as micro_dollars_spent
from limit_usage
where is_money;

comment on view spend_limits is
    'money for inferences by calendar day in UTC; playbook is null for the limit of all playbooks together. '
    'What is set aside for an inference under way counts as spent';
