-- Undo beside erasure and retention; and what an undo selects is found by indexes.

-- "Which tasks, notes and notifications were made since then?"
create index action_made on action (finished_at) where state = 'done' and kind in ('create_task', 'create_note', 'notify');
create index undo_created_at on undo (created_at);

-- Whether a write or an action is among those that are to be undone: null selects everything.
create function is_selected(
    of_event uuid, of_playbook text, of_version text, done_at timestamptz,
    event uuid, playbook text, version_prefix text, since timestamptz, until timestamptz
) returns boolean language sql immutable parallel safe as $$
    select (event is null or of_event = event)
       and (playbook is null or of_playbook = playbook)
       and (version_prefix is null or starts_with(of_version, version_prefix))
       and (since is null or done_at >= since)
       and (until is null or done_at <= until)
$$;

-- The values of these write commands at other records than the erased one: an erased value may stand there elsewhere, as the one that
-- was there before. What an undo put back is no value of the answer.
create function erased_values(of_commands uuid[], of_portal bigint, of_type text, of_id bigint)
returns table (portal_id bigint, object_type text, object_id bigint, property text, value text, since timestamptz)
language sql stable set search_path = public, pg_temp as $$
    select w.portal_id, w.object_type, known.id, w.property, w.after, min(w.written_at)
    from write w join write_command c on c.id = w.write_command_id
    cross join lateral ids_of_record(w.portal_id, w.object_type, w.object_id) as known (id)
    where w.write_command_id = any(of_commands) and c.undo_id is null and w.after <> '(erased)'
      and (w.portal_id, w.object_type, w.object_id) <> (of_portal, of_type, of_id)
    group by 1, 2, 3, 4, 5
$$;

-- The write commands whose rows have one of these values as the one that was there before, and the undos that put it back. Their events
-- are locked before anything is changed.
create function holders_of_erased_values(of_commands uuid[], of_portal bigint, of_type text, of_id bigint) returns uuid[]
language sql stable set search_path = public, pg_temp as $$
    with erased as (
        select * from erased_values(of_commands, of_portal, of_type, of_id)
    ), later as (
        select w.write_command_id, w.property
        from erased e join write w on (w.portal_id, w.object_type, w.object_id, w.property)
                                      = (e.portal_id, e.object_type, e.object_id, e.property)
        where w.written_at >= e.since and w.before = e.value
    )
    select coalesce(array_agg(h.id), '{}')
    from (select write_command_id as id from later
          union
          select t.undo_command_id from later join undone_write t using (write_command_id, property)
          union
          select c.id
          from erased e join write_command c on (c.portal_id, c.object_type, c.object_id)
                                                = (e.portal_id, e.object_type, e.object_id)
          join proposed_write p on (p.write_command_id, p.property) = (c.id, e.property)
          where c.proposed_at >= e.since
            and (p.before = e.value
                 or exists (select from review r where r.write_command_id = c.id
                              and r.properties @> jsonb_build_array(
                                      jsonb_build_object('property', e.property, 'before', e.value))))) as h
$$;

-- Erases one such value wherever it stands as the one that was there before: in writes, in skipped writes, in proposals and in the
-- decisions about them. An undo that is to put it back is dropped, and what else it would have undone can be undone again; of one
-- that has put it back, the value goes. The caller has locked the events.
create function erase_value(of_portal bigint, of_type text, of_id bigint, of_property text, of_value text, since timestamptz)
returns void language plpgsql security definer set search_path = public, pg_temp
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off set jit = off as $$
declare
    undos   uuid[];
    dropped uuid[];
begin
    undos := array(
        select distinct c.id
        from write w
        join undone_write t on (t.write_command_id, t.property) = (w.write_command_id, w.property)
        join write_command c on c.id = t.undo_command_id
        where (w.portal_id, w.object_type, w.object_id, w.property) = (of_portal, of_type, of_id, of_property)
          and w.written_at >= since and w.before = of_value
          and (c.properties @> jsonb_build_array(jsonb_build_object('property', of_property, 'value', of_value))
               or exists (select from action a where a.write_command_id = c.id and a.kind = 'move_deal_back'
                                                 and a.spec ->> 'to' = of_value)));
    update write w set before = '(erased)'
    where (w.portal_id, w.object_type, w.object_id, w.property) = (of_portal, of_type, of_id, of_property)
      and w.written_at >= since and w.before = of_value;
    update skipped_write s set current_value = '(erased)' from write_command c
    where (c.portal_id, c.object_type, c.object_id) = (of_portal, of_type, of_id)
      and (s.write_command_id, s.property) = (c.id, of_property) and s.at >= since and s.current_value = of_value;
    update proposed_write p set before = '(erased)' from write_command c
    where (c.portal_id, c.object_type, c.object_id) = (of_portal, of_type, of_id)
      and (p.write_command_id, p.property) = (c.id, of_property) and p.proposed_at >= since and p.before = of_value;
    update review r
    set properties = (select jsonb_agg(case when p @> jsonb_build_object('property', of_property, 'before', of_value)
                                            then p || '{"before": "(erased)"}' else p end order by n)
                      from jsonb_array_elements(r.properties) with ordinality as each (p, n))
    from write_command c
    where (c.portal_id, c.object_type, c.object_id) = (of_portal, of_type, of_id) and r.write_command_id = c.id
      and r.decided_at >= since
      and r.properties @> jsonb_build_array(jsonb_build_object('property', of_property, 'before', of_value));

    dropped := array(select c.id from write_command c
                     where c.id = any(undos) and (c.finished_at is null or c.state = 'parked'));
    -- An undo is no outcome of its event.
    perform drop_commands(dropped, 'record_erased');
    update write_command c
    set properties = (select coalesce(jsonb_agg(p order by n), '[]')
                      from jsonb_array_elements(c.properties) with ordinality as each (p, n)
                      where not p @> jsonb_build_object('property', of_property, 'value', of_value))
    where c.id = any(undos);
    update action a set spec = jsonb_build_object('kind', a.kind, 'erased', true), detail = null
    where a.write_command_id = any(undos) and a.kind = 'move_deal_back' and a.spec ->> 'to' = of_value;
    update write w set after = '(erased)'
    where w.write_command_id = any(undos) and w.property = of_property and w.after = of_value;
    update skipped_write s set proposed_value = '(erased)'
    where s.write_command_id = any(undos) and s.property = of_property and s.proposed_value = of_value;
    delete from undone_write where undo_command_id = any(dropped);
    delete from undone_action where undo_command_id = any(dropped);
end $$;

-- As before, but an erased value is also erased where a proposal or an undo has it.
create or replace function erase_record(
    of_portal bigint, of_type text, of_id bigint, max_rows bigint, looked_at integer,
    out changed bigint, out events bigint, out inferences bigint, out write_commands bigint, out written_values bigint,
    out actions bigint, out of_dropped uuid[], out looked_at_now integer
) language plpgsql security definer set search_path = public, pg_temp
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off set jit = off as $$
declare
    this      text := of_type || '/' || of_id;
    hash      bytea := record_hash(of_portal, this);
    known     text[];
    -- Inferences, and when they were stored.
    about     uuid[];
    about_at  timestamptz[];
    about_own uuid[];
    commands  uuid[];
    -- Of other records: those that have an erased value as the one from before.
    holders   uuid[];
    named     uuid[];
    of_engagements uuid[] := '{}';
    -- The events of the inferences; of those about the record itself.
    led       uuid[];
    led_own   uuid[];
    key_type  text;
    key_id    bigint;
    found_ids uuid[];
    found_at  timestamptz[];
    touched   bigint;
begin
    changed := 0; events := 0; inferences := 0; write_commands := 0; written_values := 0; actions := 0;
    of_dropped := '{}'; looked_at_now := looked_at;
    -- One at a time erases a record.
    select e.records into known from erasure e where e.record_hash = hash and e.records is not null for update;
    if not found then
        return;
    end if;
    perform set_config('leadline.erasure', 'on', true);

    -- Answers about it, its write commands, its own events and those of its associations, whatever they hold. That they were here is
    -- known from the receipt.
    select coalesce(array_agg(own.id), '{}'), coalesce(array_agg(own.created_at), '{}') into about, about_at
    from (select i.id, i.created_at from inference i
          where (i.portal_id, i.object_type, i.object_id) = (of_portal, of_type, of_id) limit max_rows) as own;
    about_own := about;
    commands := array(select c.id from write_command c
                      where (c.portal_id, c.object_type, c.object_id) = (of_portal, of_type, of_id) limit max_rows);
    named := array(
        select e.id from event e
        where (e.portal_id, e.object_type, e.object_id) = (of_portal, of_type, of_id) limit max_rows)
        || array(
        select e.id from event e where e.portal_id = of_portal and e.associated @> array[this] limit max_rows);

    -- Its engagements: those that were read for these answers, and those that these association events tie to it.
    known := known || array(
        (select r.object_type || '/' || r.object_id
         from unnest(about, about_at) as key (id, at)
         join inference_record r on r.inference_id = key.id and r.created_at = key.at
         where r.portal_id = of_portal and r.is_own
         union
         select other from event e, unnest(e.associated) as other
         where e.id = any(named) and split_part(other, '/', 1) in ('0-18', '0-27', '0-46', '0-47', '0-48', '0-49'))
        except select unnest(known || this));
    update erasure set records = known where record_hash = hash and records <> known;

    -- Nothing is left about itself: others' answers that read it or one of its engagements, and the events of these. They lose their
    -- values alone: an engagement may be somebody else's, too, and its event has its effect, once.
    if cardinality(about) + cardinality(commands) + cardinality(named) = 0 then
        while looked_at_now < cardinality(known) and changed < max_rows loop
            key_type := split_part(known[looked_at_now + 1], '/', 1);
            key_id := split_part(known[looked_at_now + 1], '/', 2)::bigint;
            select coalesce(array_agg(r.inference_id), '{}'), coalesce(array_agg(r.created_at), '{}') into found_ids, found_at
            from (select o.inference_id, o.created_at from inference_record o
                  where (o.portal_id, o.object_type, o.object_id) = (of_portal, key_type, key_id) limit max_rows) as r;
            about := about || found_ids;
            about_at := about_at || found_at;
            touched := cardinality(found_ids);
            if known[looked_at_now + 1] <> this then
                found_ids := array(select e.id from event e
                                   where (e.portal_id, e.object_type, e.object_id) = (of_portal, key_type, key_id)
                                     and (e.payload ? 'propertyValue' or e.detail is not null) limit max_rows);
                of_engagements := of_engagements || found_ids;
                touched := greatest(touched, cardinality(found_ids));
            end if;
            -- What it cost, also when nothing was found.
            changed := changed + 1 + touched;
            exit when touched = max_rows;
            looked_at_now := looked_at_now + 1;
        end loop;
    end if;

    select coalesce(array_agg(distinct i.event_id), '{}'),
           coalesce(array_agg(distinct i.event_id) filter (where i.id = any(about_own)), '{}')
    into led, led_own from inference i where i.id = any(about);
    commands := array(select unnest(commands) union select c.id from write_command c where c.inference_id = any(about));
    -- Every statement that changes several locks the events first, in the order of ids.
    holders := holders_of_erased_values(commands, of_portal, of_type, of_id);
    perform from event e
    where e.id = any(named || of_engagements || led
                     || array(select c.event_id from write_command c where c.id = any(commands || holders)))
    order by e.id for update;

    of_dropped := drop_commands(commands, 'record_erased');
    delete from inference_raw r using unnest(about, about_at) as key (id, at)
    where r.inference_id = key.id and r.created_at = key.at;
    perform erase_value(e.portal_id, e.object_type, e.object_id, e.property, e.value, e.since)
    from erased_values(commands, of_portal, of_type, of_id) as e;
    update write set after = '(erased)',
           before = case when (portal_id, object_type, object_id) = (of_portal, of_type, of_id)
                         then case when before is not null then '(erased)' end else before end,
           object_id = case when (portal_id, object_type, object_id) = (of_portal, of_type, of_id) then 0 else object_id end
    where write_command_id = any(commands);
    get diagnostics written_values = row_count;
    update skipped_write s set proposed_value = '(erased)',
           current_value = case when (c.portal_id, c.object_type, c.object_id) = (of_portal, of_type, of_id)
                                then case when s.current_value is not null then '(erased)' end else s.current_value end
    from write_command c where c.id = s.write_command_id and c.id = any(commands);
    get diagnostics touched = row_count;
    written_values := written_values + touched;
    update action a set spec = jsonb_build_object('kind', a.kind, 'erased', true), detail = null,
           hubspot_id = case when (c.portal_id, c.object_type, c.object_id) = (of_portal, of_type, of_id)
                             then null else a.hubspot_id end
    from write_command c where c.id = a.write_command_id and c.id = any(commands);
    get diagnostics actions = row_count;
    update write_command set properties = '[]', detail = null,
           object_id = case when (portal_id, object_type, object_id) = (of_portal, of_type, of_id) then 0 else object_id end
    where id = any(commands);
    get diagnostics write_commands = row_count;
    -- An event changes its state for the last time when it is there for the last time.
    update event_history h set detail = null
    from event e
    where e.id = any(led || named || of_engagements) and h.event_id = e.id and h.detail is not null
      and h.at between e.first_claimed_at - interval '1 day' and e.state_since + interval '1 day';
    delete from inference_record r using unnest(about, about_at) as key (id, at)
    where r.inference_id = key.id and r.created_at = key.at;
    get diagnostics touched = row_count;
    changed := changed + touched;
    -- From here on, what is joined are the rows of a statement, by triggers of event.
    perform set_config('enable_hashjoin', 'on', true), set_config('enable_mergejoin', 'on', true);
    -- What led to an answer about it may be an event of another record: then only its words go.
    update event e set detail = null,
           payload = case when e.id = any(led_own) then e.payload - 'propertyValue' else e.payload end
    where e.id = any(led);
    update inference i set fields = null, unverified = '{}', context_hash = null,
           part = case when i.part is not null then 'erased:' || i.id end,
           object_id = case when (i.portal_id, i.object_type, i.object_id) = (of_portal, of_type, of_id) then 0 else i.object_id end
    where i.id = any(about);
    get diagnostics inferences = row_count;
    changed := changed + inferences + write_commands;

    -- The events.
    update write w set event_key = 'erased:' || c.event_id
    from write_command c where c.event_id = any(named) and w.write_command_id = c.id;
    update write_command c set event_key = 'erased:' || c.event_id where c.event_id = any(named);
    update event e
    set payload = '{"erased": true}', event_key = 'erased:' || e.id, object_id = null, associated = null
    where e.id = any(named);
    get diagnostics events = row_count;
    update event e set payload = e.payload - 'propertyValue' where e.id = any(of_engagements);
    get diagnostics touched = row_count;
    events := events + touched;
    update event e set detail = null where e.id = any(named || of_engagements) and e.detail is not null;
    -- A decided event ends with its write commands, of which one may be about somebody else.
    update event e set state = 'dropped', reason = 'record_erased', lease_expires_at = null, due_at = null
    where e.id = any(named)
      and (e.state in ('claimed', 'waiting')
           or e.state = 'parked' and not exists (select from write_command c
                                                 where c.event_id = e.id and c.state = 'parked'));
    changed := changed + events;

    update charge set object_id = 0
    where id in (select c.id from charge c where (c.portal_id, c.object_type, c.object_id) = (of_portal, of_type, of_id)
                 limit max_rows);
    get diagnostics touched = row_count;
    changed := changed + touched;
    delete from record_lease l where (l.portal_id, l.object_type, l.object_id) = (of_portal, of_type, of_id);

    perform set_config('leadline.erasure', 'off', true);
    if events + inferences + write_commands + written_values + actions > 0 then
        update erasure e
        set events = e.events + erase_record.events, inferences = e.inferences + erase_record.inferences,
            write_commands = e.write_commands + erase_record.write_commands,
            written_values = e.written_values + erase_record.written_values, actions = e.actions + erase_record.actions
        where e.record_hash = hash;
    end if;
end $$;

-- As before, but an event is kept while an undo of what it wrote waits or is parked: it has an end of its own. Who had what undone goes
-- when the last of its write commands has gone, and is no younger than what is deleted.
create or replace function delete_finished_events(max_rows bigint) returns bigint
language plpgsql security definer set search_path = public, pg_temp
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off set jit = off as $$
declare
    before   timestamptz := deletable_before('event_history');
    events   uuid[];
    commands uuid[];
    asked    uuid[];
    asked_at timestamptz[];
begin
    events := array(select e.id from event e
                    where e.finished_at < before and e.state not in ('parked', 'proposed')
                      and not exists (select from write_command c
                                      where c.event_id = e.id and c.undo_id is not null
                                        and (c.finished_at is null or c.state = 'parked'))
                    order by e.finished_at limit max_rows for update skip locked);
    commands := array(select c.id from write_command c where c.event_id = any(events));
    select array_agg(i.id), array_agg(i.created_at) into asked, asked_at from inference i where i.event_id = any(events);
    delete from write where write_command_id = any(commands);
    delete from skipped_write where write_command_id = any(commands);
    delete from action where write_command_id = any(commands);
    delete from write_command where id = any(commands);
    delete from inference_raw r using unnest(asked, asked_at) as key (id, at)
    where r.inference_id = key.id and r.created_at = key.at;
    delete from charge where event_id = any(events);
    delete from inference where id = any(asked);
    delete from event where id = any(events);
    delete from undo
    where id in (select u.id from undo u
                 where u.created_at < before and not exists (select from write_command c where c.undo_id = u.id)
                 order by u.created_at limit max_rows);
    return cardinality(events);
end $$;

revoke execute on function
    is_selected(uuid, text, text, timestamptz, uuid, text, text, timestamptz, timestamptz),
    erased_values(uuid[], bigint, text, bigint), holders_of_erased_values(uuid[], bigint, text, bigint),
    erase_value(bigint, text, bigint, text, text, timestamptz) from public;
