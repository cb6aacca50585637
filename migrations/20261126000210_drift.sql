-- Drift: versions of a playbook that are held back because a rate of theirs left its bound.

create table drift (
    id            bigint           generated always as identity primary key,
    playbook      text             not null,
    version       text             not null,
    model         text,
    rate          text             not null check (rate in ('overridden', 'refused', 'unverified', 'parked')),
    part          bigint           not null,
    whole         bigint           not null check (whole >= part),
    bound_percent double precision not null,
    counted_from  timestamptz      not null,
    held_at       timestamptz      not null default clock_timestamp(),
    held_by       text             not null,
    used_at       timestamptz      not null default clock_timestamp(),
    resumed_at    timestamptz,
    resumed_by    text,
    why           text,
    check ((resumed_at is null) = (resumed_by is null))
);
create unique index drift_held on drift (playbook, version, rate) where resumed_at is null;

comment on table drift is
    'rate of a version of a playbook that left its bound: until an operator resumes the version, what it asks for is reviewed';
comment on column drift.version is 'the hash of the file';
comment on column drift.model is 'the snapshot whose answers are meant; null for those of all models together';
comment on column drift.rate is 'a name of domain::DriftRate; a test compares the two';
comment on column drift.part is 'so many …';
comment on column drift.whole is '… of so many that were counted';
comment on column drift.bound_percent is 'what the settings allow';
comment on column drift.counted_from is 'the time of the oldest answer that counts: the window, or the last time that the version was resumed';
comment on column drift.held_by is 'the worker that found it';
comment on column drift.used_at is 'when a worker said the last time that it runs this version';
comment on column drift.why is 'why the version was resumed, in the operator''s words';
