-- Which versions of a playbook have passed their gate, and what the workers run.

-- A run of `leadline playbook eval --record`. The text of the file is here, too, so that workers can stay on a version that passed
-- after the file has changed. Nothing of it concerns a person: cases are made up, or have their names replaced.
create table evaluation (
    id           uuid             primary key,
    at           timestamptz      not null default clock_timestamp(),
    recorded_by  text             not null,
    playbook     text             not null,
    version      text             not null,
    model        text             not null,
    effort       text             not null,
    cases        integer          not null check (cases > 0),
    answers      integer          not null check (answers >= cases),
    hits         integer          not null check (hits between 0 and answers),
    passed       boolean          not null,
    file_text    text             not null,
    report       jsonb            not null
);
create index evaluation_passed on evaluation (playbook, at desc) where passed;

comment on table evaluation is 'recorded run of `leadline playbook eval`: a version of a playbook, a model and an effort, and whether they pass the gate';
comment on column evaluation.recorded_by is 'who recorded it, as the operating system calls them';
comment on column evaluation.version is 'the hash of the file';
comment on column evaluation.effort is 'the effort that was asked for; none for a model that does not reason';
comment on column evaluation.hits is 'answers that meet every expectation of their case';
comment on column evaluation.passed is 'whether the hits are enough for the gate of this version';
comment on column evaluation.file_text is 'the playbook file';
comment on column evaluation.report is 'the result for this model, as `--json` prints it, and the cases with their hashes';

create trigger evaluation_append_only before update or delete on evaluation
    for each row execute function refuse_change();
select refuse_truncate('evaluation');

-- What the workers make of the gates. Each says it every few seconds while it runs, so that an old row is of no worker.
create table playbook_gate (
    playbook     text        primary key,
    state        text        not null check (state in ('open', 'behind', 'closed')),
    version      text        not null,
    model        text        not null,
    effort       text        not null,
    runs_version text,
    detail       text,
    worker       text        not null,
    at           timestamptz not null default clock_timestamp()
);

comment on table playbook_gate is 'playbook with a gate: whether the version of the file runs, the last one that passed, or none';
comment on column playbook_gate.version is 'the version in the file of the worker';
comment on column playbook_gate.runs_version is 'the version that it runs; null when none has passed';
comment on column playbook_gate.at is 'when a worker said so the last time';
