-- What is kept for how long is the owner's to say: `leadline migrate` writes it from the settings (`retention.raw_days`,
-- `retention.events_days`).
create table retention (
    of_table text primary key check (kept_at_least(of_table) is not null),
    days     integer not null,
    check (days = 0 or make_interval(days => days) >= kept_at_least(of_table))
);

comment on table retention is 'for how many days rows are kept; written by leadline migrate, from the settings';
comment on column retention.of_table is
    'inference_raw: prompts and answers; inference_record: what was read for them; event_history: ended events with everything that '
    'belongs to them';
comment on column retention.days is '0: for ever';

insert into retention (of_table, days) values ('inference_raw', 90), ('inference_record', 400), ('event_history', 400);

-- The moment before which rows may be deleted; null: none may.
create function deletable_before(parent text) returns timestamptz language sql stable as $$
    select clock_timestamp() - make_interval(days => r.days) from retention r where r.of_table = parent and r.days > 0
$$;
