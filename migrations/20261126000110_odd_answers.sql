-- Answers that are empty, and answers whose cost is unknown.

-- Reasoning that takes all of the room leaves no answer.
alter table inference drop constraint inference_outcome_check;
alter table inference add constraint inference_outcome_check
    check (outcome in ('valid', 'invalid', 'unverified', 'refused', 'truncated', 'filtered', 'empty'));

-- What a model without a price cost is unknown, and not nothing: neither was anything reserved, nor has its answer a cost.
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
      select (c.created_at at time zone 'UTC')::date, c.playbook, coalesce(i.model, c.model), 0, 0, 0, 0, 0,
             case when c.reserved_micro_dollars > 0 or i.cost_micro_dollars is not null then c.micro_dollars end,
             case when c.state in ('reserved', 'estimated') then c.micro_dollars end
      from charge c left join inference i on i.id = c.inference_id
      where c.state <> 'free') as spent
group by 1, 2, 3
order by 1 desc, 2, 3;
