-- Two changes of one property in the same millisecond share their actions: those belong to the newer change, which replaces the
-- older one, unless they are carried out already. With the owner's rights: no service may rewrite what is to be done.
create function record_actions(
    commands uuid[], ids uuid[], names text[], kinds text[], specs jsonb[], cooldowns integer[]
) returns void language sql security definer set search_path = public, pg_temp as $$
    insert into action as known (write_command_id, id, name, kind, spec, cooldown_hours)
    select distinct on (input.id) input.command, input.id, input.name, input.kind, input.spec, input.cooldown
    from unnest(commands, ids, names, kinds, specs, cooldowns) as input (command, id, name, kind, spec, cooldown)
    join write_command c on c.id = input.command
    order by input.id, c.event_key collate "C" desc
    on conflict (id) do update
        set write_command_id = excluded.write_command_id, spec = excluded.spec, state = 'intended', reason = null,
            finished_at = null
        where (known.state = 'intended' or (known.state = 'skipped' and known.reason = 'newer_event_written'))
          and (select c.event_key collate "C" from write_command c where c.id = known.write_command_id)
              < (select c.event_key collate "C" from write_command c where c.id = excluded.write_command_id)
$$;

comment on function record_actions(uuid[], uuid[], text[], text[], jsonb[], integer[]) is
    'the actions of write commands; what an earlier claim has recorded stays as it is';
