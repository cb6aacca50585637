-- In which service tier the model answered, and how much of the prompts the provider's cache served.

alter table inference add column service_tier text
    check (service_tier in ('default', 'flex', 'scale', 'priority'));
comment on column inference.service_tier is
    'in which the last answer was processed, as it says itself, and by which it was priced: a name of '
    'domain::model::ServiceTier; a test compares the two. Null when the answer does not say it';

-- With the share of the cache. What a model without a price cost is unknown, and not nothing: neither was anything reserved, nor
-- has its answer a cost. An inference without a charge is one of `leadline playbook run`.
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
       sum(estimated)::bigint as estimated_micro_dollars,
       round(100 * sum(cached_tokens) / nullif(sum(prompt_tokens), 0), 1) as cached_percent
from (select (i.created_at at time zone 'UTC')::date as day, i.playbook, i.model, 1 as inferences,
             (i.outcome <> 'valid')::integer as not_valid, i.prompt_tokens, i.cached_tokens, i.completion_tokens,
             case when c.inference_id is null then i.cost_micro_dollars end as micro_dollars, null::bigint as estimated
      from inference i left join (select distinct inference_id from charge) c on c.inference_id = i.id
      union all
      select (c.created_at at time zone 'UTC')::date, c.playbook, coalesce(i.model, c.model), 0, 0, 0, 0, 0,
             case when c.reserved_micro_dollars > 0 or i.cost_micro_dollars is not null then c.micro_dollars end,
             case when c.state in ('reserved', 'estimated') then c.micro_dollars end
      from charge c left join inference i on i.id = c.inference_id
      where c.state <> 'free') as spent
group by 1, 2, 3
order by 1 desc, 2, 3;

comment on view cost_by_playbook_and_day is
    'what the model cost. estimated_micro_dollars is the part whose answer was lost, unreadable or silent about it, and '
    'counts as the most that it can be; cached_percent is the share of prompt_tokens that was billed at the cached price';
