-- A newer proposal takes out of an older one what it proposes as well; the rest of the older one waits on.

alter table proposed_write add column replaced_at timestamptz;

comment on column proposed_write.replaced_at is
    'when a newer proposal of the same playbook for the record took it over; it is not written any more';

-- As before, without what a newer proposal took over.
create or replace view proposals as
select c.id as write_command_id, c.portal_id, c.object_type, c.object_id, c.event_key, i.playbook, i.playbook_version, i.model,
       i.cost_micro_dollars, c.attempt, c.reason is not distinct from 'value_changed' as is_changed, c.proposed_at,
       clock_timestamp() - c.proposed_at as age, c.expires_at,
       coalesce((select jsonb_agg(jsonb_build_object(
                            'property', p.property, 'before', p.before, 'proposed', p.proposed, 'edited', p.edited,
                            'quotation', i.fields ->> ((c.review -> 'fields' ->> p.property) || '_quote'))
                        order by p.property)
                 from proposed_write p
                 where p.write_command_id = c.id and p.replaced_at is null
                   and not exists (select from write w where w.write_command_id = c.id and w.property = p.property)),
                '[]') as properties,
       coalesce((select jsonb_agg(jsonb_build_object('name', a.name, 'kind', a.kind, 'spec', a.spec) order by a.id)
                 from action a where a.write_command_id = c.id and a.finished_at is null), '[]') as actions
from write_command c join inference i on i.id = c.inference_id
where c.state = 'proposed';
