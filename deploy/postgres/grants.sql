-- What each role of roles.sql may do with the ledger. `leadline migrate` runs this at its end, as the owner; without the
-- roles it changes nothing. It takes everything away first, so that it is the whole truth.
--
-- No role but the owner may delete or truncate anything but record leases, change what was asked, answered or written, or
-- touch the history: triggers write that, with the owner's rights, and retention and erasure are functions of the owner's
-- (migrations/20261126000040_append_only.sql). What is kept for how long is a table that only the owner may change
-- (migrations/20261126000061_retention.sql).
do $$
begin
-- Two migrations at the same time would change the same rows of Postgres' catalogue.
perform pg_advisory_xact_lock(hashtext('leadline grants'));
if (select count(*) from pg_roles
    where rolname in ('leadline_inference', 'leadline_writer', 'leadline_operator', 'leadline_auditor')) < 4 then
    raise notice 'the roles of deploy/postgres/roles.sql do not exist: every service has the rights of its own user';
    return;
end if;

revoke all on schema public from public;
revoke all on all tables in schema public
    from public, leadline_inference, leadline_writer, leadline_operator, leadline_auditor;
revoke all on all sequences in schema public
    from public, leadline_inference, leadline_writer, leadline_operator, leadline_auditor;
revoke all on all functions in schema public
    from public, leadline_inference, leadline_writer, leadline_operator, leadline_auditor;
grant usage on schema public to leadline_inference, leadline_writer, leadline_operator, leadline_auditor;

-- Which migrations there are, for /readyz and `leadline check`.
grant select on _sqlx_migrations to leadline_inference, leadline_writer, leadline_operator;

-- Claims events, reserves money, stores what was asked and answered, records write commands.
grant select on event, inference, inference_raw, write_command, write, undone_write, action, rate_limit, charge
    to leadline_inference;
grant insert on event, inference, inference_raw, inference_record, write_command, charge to leadline_inference;
grant update (state, micro_dollars, settled_at) on charge to leadline_inference;
grant execute on function
    begin_charges(uuid[], uuid[], integer[], uuid[], text[], bigint[], text[], bigint[], text[], bigint[], bigint[], bigint[])
    to leadline_inference, leadline_operator;
grant execute on function record_actions(uuid[], uuid[], text[], text[], jsonb[], integer[])
    to leadline_inference, leadline_operator;
grant execute on function cancel_waiting(bigint, text, bigint, timestamptz) to leadline_inference;
grant update (state, attempt, worker, lease_expires_at, reason, detail, due_at, playbook, message_copy_id, age_since,
              unusable_answers)
    on event to leadline_inference;

grant select, insert on record_merge to leadline_inference;
grant update (survivor_id) on record_merge to leadline_inference;

-- Reads which versions of a playbook have passed their gate, and says what it runs. Only an operator records that one has.
grant select on evaluation to leadline_inference;
grant select, insert, update on playbook_gate to leadline_inference;
grant insert on evaluation to leadline_operator;

-- Holds back versions of a playbook whose rates leave their bounds: of what people changed and decided it reads how much, and no values.
-- Only an operator lets a version go on.
grant select, insert on drift to leadline_inference;
grant update (used_at) on drift to leadline_inference;
grant select (write_command_id, seen_at, taken_back_at) on correction to leadline_inference;
grant select (write_command_id, decision) on review to leadline_inference;
grant select (write_command_id, reason) on skipped_write to leadline_inference;
grant update (resumed_at, resumed_by, why) on drift to leadline_operator;

-- Carries write commands out and records what was there before. It reads no prompt and no answer.
grant select on event, write_command, write, skipped_write, action, record_lease, rate_limit to leadline_writer;
grant select (id, event_id, playbook) on inference to leadline_writer;
grant insert on write, skipped_write, record_lease to leadline_writer;
grant update (state, reason, detail, lease_expires_at) on event to leadline_writer;
grant update (state, attempt, worker, lease_expires_at, reason, detail, due_at, finished_at, object_id, merged_from)
    on write_command to leadline_writer;
-- Records what would be written, and gives up what nobody decided about.
grant update (mode, claimed_with_mode, proposed_at, expires_at) on write_command to leadline_writer;
grant select, insert on proposed_write, review to leadline_writer;
grant update (before, proposed_at, replaced_at) on proposed_write to leadline_writer;
-- Tells a channel of proposals, and takes what a person decides on the page of one.
grant select on proposals to leadline_writer;
grant update (announced_at, created_at) on write_command to leadline_writer;
grant update (edited) on proposed_write to leadline_writer;
grant update (age_since) on event to leadline_writer;
grant select, insert on record_merge to leadline_writer;
grant update (survivor_id) on record_merge to leadline_writer;
grant execute on function erase_merged(bigint, text, bigint), lock_merges() to leadline_inference, leadline_writer;
grant execute on function unlock_records(bigint[], text[], bigint[], text) to leadline_writer;
-- The id, when a recovered ledger finds again what it has forgotten.
grant update (id, state, sending_since, reason, detail, hubspot_id, finished_at) on action to leadline_writer;
grant execute on function recovered_at() to leadline_inference, leadline_writer, leadline_operator;
grant select on recovery to leadline_inference;
-- Shows what was spent today.
grant select on spend_limits to leadline_inference;
grant update, delete on record_lease to leadline_writer;

-- Looks at everything but the key of the receipts, replays, discards and erases, publishes again what lost its message, and tries a
-- playbook as an inference worker does.
grant select on all tables in schema public to leadline_operator;
revoke select on receipt_key from leadline_operator;
grant insert on event, inference, inference_raw, inference_record, write_command, charge to leadline_operator;
grant update (state, micro_dollars, settled_at) on charge to leadline_operator;
grant update (state, attempt, worker, lease_expires_at, reason, detail, due_at, playbook, message_copy_id, age_since,
              unusable_answers)
    on event to leadline_operator;
grant update (state, reason, detail, due_at, finished_at, created_at) on write_command to leadline_operator;
grant update (state, sending_since, reason, detail, finished_at) on action to leadline_operator;
-- Decides about proposals.
grant update (mode, expires_at) on write_command to leadline_operator;
grant update (edited) on proposed_write to leadline_operator;
grant insert on review to leadline_operator;

-- Has writes undone.
grant insert on undo, undone_write, undone_action to leadline_operator;
grant execute on function
    lock_undo(), is_selected(uuid, text, text, timestamptz, uuid, text, text, timestamptz, timestamptz)
    to leadline_operator;

-- Erases what HubSpot deleted for privacy reasons (inference), or what an operator erases, and takes no event of it any more.
grant select on erasure to leadline_inference;
grant execute on function
    record_hash(bigint, text), is_erased(bigint, text[], timestamptz), request_erasure(bigint, text, bigint, text),
    erasure_size(bigint, text, bigint), erase_record(bigint, text, bigint, bigint, integer), conclude_erasure(bigint, text, bigint, boolean)
    to leadline_inference, leadline_operator;

-- Records what people changed of what was written: an inference worker sees it in webhooks, a writer when it reads.
grant execute on function record_corrections(bigint[], text[], bigint[], text[], text[], timestamptz[], text)
    to leadline_inference, leadline_writer;

-- What every worker does besides: publishes again what lost its message, shares limits and outages, deletes old data.
grant select on pending_work, singleton_lease, circuit_breaker, outage to leadline_inference, leadline_writer;
grant update (requeued_at, requeues) on event, write_command to leadline_inference, leadline_writer, leadline_operator;
grant insert, update on rate_limit to leadline_inference, leadline_writer, leadline_operator;
grant insert, update on circuit_breaker, singleton_lease to leadline_inference, leadline_writer;
grant execute on function
    age_seconds(timestamptz), stuck_work(text, interval, bigint), define_rate_limit(text, bigint, integer, float8, bigint),
    lock_rate_limits(text[]), share_of_quota(bigint, float8), headroom(bigint), quota_used(rate_limit, bigint, bigint),
    paced_amount(rate_limit, bigint, bigint), observe_rate_limit(rate_limit, bigint, float8, float8),
    acquire_quota(text[], bigint[], bigint[], float8, bigint[], bigint[], float8[], float8, integer[], bigint[], bigint[])
    to leadline_inference, leadline_writer, leadline_operator;
grant execute on function
    add_day_partition(text, integer), drop_oldest_day(text), delete_default_rows(text, bigint), delete_finished_events(bigint)
    to leadline_inference, leadline_writer;
grant execute on function park_stuck_command(uuid, text, text) to leadline_inference, leadline_writer, leadline_operator;

-- Every view, and no table.
grant select on
    event_status, event_states, action_status, written_properties, skipped_properties, merged_records, parked, unfinished_events,
    pending_work, failures_by_reason, throughput_by_minute, cost_by_playbook_and_day, inference_text, rate_limits,
    spend_limits, limit_usage, undone_properties, proposals, overrides
    to leadline_auditor;
-- The views about limits call it.
grant execute on function quota_used(rate_limit, bigint, bigint) to leadline_auditor;
end $$;
