-- Erasing a person with many rows, or in a large ledger, in steps that are all of about the same size.
--
-- Each looks at the next few rows of the record by an index, then at the next few of its engagements, and names the day of what it
-- looks for in tables with a partition a day.

-- About how many rows erasing a record will change: what is about itself.
create function erasure_size(of_portal bigint, of_type text, of_id bigint) returns bigint
language sql stable security definer set search_path = public, pg_temp set enable_seqscan = off set jit = off as $$
    select (select count(*) from inference i where (i.portal_id, i.object_type, i.object_id) = (of_portal, of_type, of_id))
         + (select count(*) from event e where (e.portal_id, e.object_type, e.object_id) = (of_portal, of_type, of_id))
         + (select count(*) from write_command c where (c.portal_id, c.object_type, c.object_id) = (of_portal, of_type, of_id))
$$;

-- Erases the next part, at most about `max_rows` rows of each kind, of a record whose erasure was asked for: what was read,
-- asked, answered and written about it, and its id. Of other records' answers that read it or one of its engagements, it
-- erases the prompt, the answer and the values that followed. What has not ended is dropped, so that nobody commits it any
-- more. `changed` is 0 when nothing is left; `of_dropped` are the events whose write commands were dropped.
--
-- What is about the record itself comes first. Then `looked_at` of its records (`erasure.records`: itself and its engagements) are
-- done with; `looked_at_now` is to be given to the next call.
--
-- Each statement is about rows that an index finds: the size of the tables, and of their many partitions, must not lead the
-- planner to read them whole.
create function erase_record(
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
    perform from event e
    where e.id = any(named || of_engagements || led || array(select c.event_id from write_command c where c.id = any(commands)))
    order by e.id for update;

    of_dropped := drop_commands(commands, 'record_erased');
    delete from inference_raw r using unnest(about, about_at) as key (id, at)
    where r.inference_id = key.id and r.created_at = key.at;
    -- An erased value may stand elsewhere as the one that was there before. What stands with the record itself goes anyway.
    update write later set before = '(erased)'
    from write w
    where w.write_command_id = any(commands) and (w.portal_id, w.object_type, w.object_id) <> (of_portal, of_type, of_id)
      and (later.portal_id, later.object_type, later.object_id, later.property)
          = (w.portal_id, w.object_type, w.object_id, w.property)
      and later.written_at >= w.written_at and later.before = w.after;
    update skipped_write s set current_value = '(erased)'
    from write w, write_command c
    where w.write_command_id = any(commands) and (w.portal_id, w.object_type, w.object_id) <> (of_portal, of_type, of_id)
      and s.write_command_id = c.id and s.property = w.property
      and (c.portal_id, c.object_type, c.object_id) = (w.portal_id, w.object_type, w.object_id)
      and s.at >= w.written_at and s.current_value = w.after;
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

revoke execute on function
    erasure_size(bigint, text, bigint), erase_record(bigint, text, bigint, bigint, integer) from public;
