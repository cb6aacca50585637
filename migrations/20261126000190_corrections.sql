-- Corrections: what people changed of the values that the fleet wrote, and what the report about a playbook reads.

create table correction (
    id               bigint generated always as identity primary key,
    write_command_id uuid not null,
    property         text not null,
    portal_id        bigint not null,
    object_type      text not null,
    object_id        bigint not null,
    value            text,
    changed_at       timestamptz not null,
    seen_at          timestamptz not null default clock_timestamp(),
    seen_by          text not null check (seen_by in ('webhook', 'read')),
    taken_back_at    timestamptz,
    foreign key (write_command_id, property) references write (write_command_id, property) on delete cascade
);

call compress_with_lz4('correction', 'value');

comment on table correction is
    'values of people in place of a value that was written: one row for each other value. The written one is in write';
comment on column correction.object_id is 'the record at which it was seen; 0 after it was erased';
comment on column correction.value is 'the person''s value; null when the property was cleared';
comment on column correction.changed_at is 'when the person set it last, by HubSpot''s clock';
comment on column correction.seen_by is 'a name of domain::CorrectionSource; a test compares the two';
comment on column correction.taken_back_at is 'when a person put the written value back: then it is no correction any more';

create index correction_write on correction (write_command_id, property);
create index correction_record on correction (portal_id, object_type, object_id, property);
create index correction_seen_at on correction (seen_at);

-- Records what people set properties to, and returns the playbook and property of what was not known. What the fleet never wrote, what
-- it wrote only afterwards, and what equals the written value is no correction. Seen twice, it is recorded once: the row of the
-- write is locked meanwhile. A function of the owner's: a service reads no correction and changes none.
create function record_corrections(
    of_portal bigint[], of_type text[], of_id bigint[], of_property text[], of_value text[], of_time timestamptz[], how text
) returns table (by_playbook text, on_property text)
language plpgsql security definer set search_path = public, pg_temp as $$
declare
    seen    record;
    written record;
    known   bigint;
begin
    for seen in
        select * from unnest(of_portal, of_type, of_id, of_property, of_value, of_time)
            as told (portal_id, object_type, object_id, property, value, changed_at)
        order by 1, 2, 3, 4, changed_at
    loop
        select w.write_command_id, w.after, w.written_at, i.playbook, c.undo_id is not null as is_undo into written
        from write w
        join write_command c on c.id = w.write_command_id
        join inference i on i.id = c.inference_id
        where w.portal_id = seen.portal_id and w.object_type = seen.object_type
          and w.object_id in (select seen.object_id
                              union all
                              select m.old_id from record_merge m
                              where (m.portal_id, m.object_type, m.survivor_id)
                                    = (seen.portal_id, seen.object_type, seen.object_id))
          and w.property = seen.property
          -- HubSpot's times are milliseconds.
          and date_trunc('milliseconds', w.written_at) <= seen.changed_at
        order by w.written_at desc, w.occurred_at desc, w.event_key collate "C" desc
        limit 1 for no key update of w;
        -- What was undone is not a playbook's any more.
        continue when not found or written.is_undo;
        if coalesce(seen.value, '') = written.after then
            update correction o set taken_back_at = seen.changed_at
            where (o.write_command_id, o.property) = (written.write_command_id, seen.property)
              and o.taken_back_at is null and o.changed_at <= seen.changed_at;
            continue;
        end if;
        select o.id into known from correction o
        where (o.write_command_id, o.property) = (written.write_command_id, seen.property)
          and coalesce(o.value, '') = coalesce(seen.value, '');
        if found then
            update correction o
            set changed_at = greatest(o.changed_at, seen.changed_at),
                taken_back_at = case when o.taken_back_at >= seen.changed_at then o.taken_back_at end
            where o.id = known;
            continue;
        end if;
        insert into correction (write_command_id, property, portal_id, object_type, object_id, value, changed_at, seen_by)
        values (written.write_command_id, seen.property, seen.portal_id, seen.object_type, seen.object_id,
                nullif(seen.value, ''), seen.changed_at, how);
        by_playbook := written.playbook;
        on_property := seen.property;
        return next;
    end loop;
end $$;

revoke execute on function
    record_corrections(bigint[], text[], bigint[], text[], text[], timestamptz[], text) from public;

-- The ids of one record, as far as merges are known: this one, that of its survivor, and those that were merged into it.
create function ids_of_record(of_portal bigint, of_type text, of_id bigint) returns setof bigint
language sql stable set search_path = public, pg_temp as $$
    with survivor as (
        select coalesce((select m.survivor_id from record_merge m
                         where (m.portal_id, m.object_type, m.old_id) = (of_portal, of_type, of_id)), of_id) as id
    )
    select id from survivor
    union all
    select m.old_id from survivor s
    join record_merge m on (m.portal_id, m.object_type, m.survivor_id) = (of_portal, of_type, s.id)
$$;

revoke execute on function ids_of_record(bigint, text, bigint) from public;

-- What is erased of a written value is erased of its corrections. Those of the erased record itself go whole; at another record
-- the person's value stays, as what a write policy kept does, unless it is an erased value.
create function erase_corrections() returns trigger
language plpgsql security definer set search_path = public, pg_temp as $$
begin
    if new.object_id = 0 then
        update correction o set value = case when o.value is not null then '(erased)' end, object_id = 0
        where (o.write_command_id, o.property) = (new.write_command_id, new.property);
    else
        update correction o set value = '(erased)'
        where (o.portal_id, o.object_type, o.property) = (old.portal_id, old.object_type, old.property)
          and o.object_id = any(array(select ids_of_record(old.portal_id, old.object_type, old.object_id)))
          and o.value = old.after;
    end if;
    return null;
end $$;

create trigger write_erase_corrections after update of after on write
    for each row when (current_setting('leadline.erasure', true) = 'on') execute function erase_corrections();

-- "Which answers of this playbook are there since then?"
create index inference_playbook on inference (playbook, created_at);

create view overrides as
select o.portal_id, o.object_type, o.object_id, o.property, w.before, w.after as written_value, o.value as persons_value,
       w.written_at, o.changed_at, o.seen_at, o.seen_by, o.taken_back_at, w.event_key, i.playbook, i.playbook_version, i.model,
       c.inference_id, o.write_command_id
from correction o
join write w on (w.write_command_id, w.property) = (o.write_command_id, o.property)
join write_command c on c.id = w.write_command_id
join inference i on i.id = c.inference_id;

comment on view overrides is
    'every value of a person in place of a value that was written: what was there before, what was written, what the person set';
