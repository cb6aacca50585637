-- Inferences: what the model was asked, what it answered, and what that cost.

create table inference (
    id                 uuid primary key,
    event_id           uuid not null references event (id),
    portal_id          bigint not null,
    object_type        text not null,
    object_id          bigint not null,
    playbook           text not null,
    playbook_version   text not null,
    part               text,
    context_hash       text,
    model_requested    text not null,
    model              text not null,
    outcome            text not null
        check (outcome in ('valid', 'invalid', 'unverified', 'refused', 'truncated', 'filtered')),
    fields             jsonb,
    unverified         text[] not null default '{}',
    prompt_tokens      bigint not null,
    cached_tokens      bigint not null,
    completion_tokens  bigint not null,
    cost_micro_dollars bigint,
    latency_ms         bigint not null,
    request_id         text,
    attempt            integer not null,
    created_at         timestamptz not null default now()
);

comment on table inference is 'one row per answered question; prompt and answer are in inference_raw';
comment on column inference.object_id is 'the record that it is about; an event may concern several. 0 after it was erased';
comment on column inference.playbook_version is 'a hash of the playbook''s content';
comment on column inference.part is
    'for a part of a context that was too long for one question: the SHA-256 of that part''s prompt, in hex';
comment on column inference.context_hash is
    'SHA-256 of the playbook''s version and what was read; the same context is not sent again for a while';
comment on column inference.model is 'the dated snapshot that answered';
comment on column inference.outcome is 'a name of domain::inference::InferenceOutcome; a test compares the two';
comment on column inference.fields is 'the answer''s fields that passed the playbook''s schema';
comment on column inference.unverified is 'fields whose quotation was not found in what the model had read';
comment on column inference.cached_tokens is 'the part of prompt_tokens that was billed at the cached price';
comment on column inference.cost_micro_dollars is '10^-6 $; null for a model without a known price';
comment on column inference.request_id is 'OpenAI''s x-request-id, which its support asks for';
comment on column inference.attempt is 'the event''s attempt under which it was stored';

-- One valid answer per event, playbook, record and part: a redelivered event finds it and does not pay again. Erased records
-- have no id by which they could be told apart.
create unique index inference_valid
    on inference (event_id, playbook, portal_id, object_type, object_id, coalesce(part, ''))
    where outcome = 'valid' and object_id <> 0;
create index inference_of_record
    on inference (portal_id, object_type, object_id, playbook) where outcome = 'valid' and part is null;
create index inference_created_at on inference (created_at);

-- Prompts and answers are most of the ledger's bytes and the first to be deleted: a partition a day.
create table inference_raw (
    inference_id uuid not null,
    created_at   timestamptz not null,
    prompt       jsonb not null,
    answer       text not null,
    primary key (inference_id, created_at)
) partition by range (created_at);

-- Before the first partition is made: a partition takes the compression of its parent as it is at that moment.
call compress_with_lz4('inference_raw', 'prompt');
call compress_with_lz4('inference_raw', 'answer');

comment on table inference_raw is
    'prompt and answer as sent and received; created_at is that of the inference. Kept for retention.raw_days';
comment on column inference_raw.prompt is 'the messages as sent';
comment on column inference_raw.answer is 'as received, before any validation';

create table inference_raw_default partition of inference_raw default;

-- What was read for an inference beside its own record, by which an answer about one record is found that holds the texts of
-- another. Kept as long as the inference; a partition a day.
create table inference_record (
    inference_id uuid not null,
    created_at   timestamptz not null,
    portal_id    bigint not null,
    object_type  text not null,
    object_id    bigint not null,
    is_own       boolean not null
) partition by range (created_at);

comment on table inference_record is
    'one row for each record or engagement that was read for an inference beside its own record; created_at is that of the '
    'inference. Kept for retention.events_days';
comment on column inference_record.is_own is 'an engagement of the inference''s own record, not of one associated with it';

create index inference_record_inference on inference_record (inference_id);
create index inference_record_record on inference_record (portal_id, object_type, object_id);
create table inference_record_default partition of inference_record default;
