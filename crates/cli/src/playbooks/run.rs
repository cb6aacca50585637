//! `leadline playbook run`: runs a playbook for one record, step by step.

use std::{collections::HashSet, process::ExitCode, sync::Arc, time::Duration};

use anyhow::{Context as _, bail};
use bootstrap::CallHooks;
use broker::{Publisher, Route, Stage};
use domain::{
    ActionId, ChargeId, Event, EventKey, EventState, Inference, ObjectType, Reason, RecordRef,
    event::{EventKind, Subject},
    inference::ChargeState,
    review::WriteMode,
    write_command::{ActionSpec, DealStage},
};
use inference::{ModelAnswer, ModelClient, PortalClock, QuestionLog, context};
use ledger::{ChargeRequest, Claim, ClaimRequest, Claimed, Decision, Ledger, RecordLimits, SettledCharge, Worker};
use playbook::{Context, PlannedWrite, Playbook, manual_event_variable};
use serde_json::json;
use settings::Settings;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use crate::{
    event,
    print::{self, Format, Progress, say},
    record,
};

/// The lease on the event that `--write` creates. Its decision is committed right after the claim.
const LEASE: Duration = Duration::from_secs(60);

/// How long `--write` waits for a writer.
const MAX_WAIT: Duration = Duration::from_secs(60);

/// Shows context, prompt, answer and what follows from it; with `write` it also writes that to HubSpot.
pub async fn run(settings: &Settings, playbook: &Playbook, record: &str, write: bool) -> anyhow::Result<ExitCode> {
    let record = record::parse(record, settings)?;
    if !playbook.selection.records.contains(&record.object_type) {
        let kinds: Vec<_> = playbook.selection.records.iter().map(ObjectType::name).collect();
        bail!("the playbook is about {}, not about a {}", kinds.join(" and "), record.object_type);
    }
    let hubspot = bootstrap::hubspot_client(settings, CallHooks::default())?;
    let local = PortalClock::new(hubspot.clone()).now().await.context("the portal's time zone cannot be read")?;
    let reader = inference::wiring::crm_reader(hubspot, settings);
    let text_pool = inference::wiring::text_pool(settings);
    let openai = bootstrap::openai_client(settings, CallHooks::default())?;
    let model_client = ModelClient::unlimited(openai, text_pool.clone(), settings.inference.max_parts);
    let model = inference::model_of(settings, playbook);
    let now = local.now;

    let read = context::read(&reader, &text_pool, &record, &playbook.context).await;
    let mut read = read.with_context(|| format!("{record} cannot be read"))?.context;
    read.remove_own_entries(&own_actions(settings, &read).await);
    let read = Arc::new(read);
    say!("context ({} entries)", read.entries.len());
    print_indented(&read.whole());
    let variables = playbook.variables(&manual_event_variable(now), &read);
    if let Some(guard) = playbook.first_matching_guard(&variables)? {
        say!("a guard holds: {} ({}); the fleet would not ask the model", guard.when.source, guard.name);
        return Ok(ExitCode::SUCCESS);
    }
    say!("guards: none of {} holds", playbook.selection.guards.len());
    print::blank();
    if read.entries.is_empty() {
        say!("the records hold no text (empty_context); the fleet would not ask the model");
        return Ok(ExitCode::SUCCESS);
    }

    let ModelAnswer { mut inferences, result } =
        inference::answer(&model_client, playbook, &model, &record, (&read, &local), &QuestionLog::none()).await;
    let Some(inference) = inferences.pop() else {
        result?;
        bail!("the model gave no answer");
    };
    print_answered(&inference);
    let fields = match result {
        Ok(answer) => answer.fields,
        Err(error) => {
            say!("nothing would be written: {error}");
            return Ok(ExitCode::FAILURE);
        }
    };
    let intended =
        playbook.plan_writes(&manual_event_variable(now), &read, &fields, &inference.model, &local, WriteMode::Live)?;
    print_intended(&intended);
    if !write {
        say!("nothing was written; run it with --write to write it");
        return Ok(ExitCode::SUCCESS);
    }
    submit(settings, playbook, &record, inference, intended, now).await
}

/// Prints a question, its answer, and how it was checked.
fn print_answered(inference: &Inference) {
    say!("prompt");
    print_indented(&event::messages(&inference.prompt));
    say!(
        "answer of {}: {} tokens in, {} tokens out, {} µ$, {} ms",
        inference.model,
        inference.usage.prompt_tokens,
        inference.usage.completion_tokens,
        inference.cost_micro_dollars.map_or_else(|| "unknown".to_owned(), |cost| cost.to_string()),
        inference.latency.as_millis()
    );
    print_indented(&pretty(&inference.answer));
    let unverified = &inference.unverified;
    let quotes =
        if unverified.is_empty() { "all found".to_owned() } else { format!("NOT FOUND for {}", unverified.join(", ")) };
    say!("checks");
    say!("  schema and bounds: {}", inference.outcome.as_str());
    say!("  quotations: {quotes}");
    print::blank();
}

/// The actions of the fleet whose notes and tasks are in the context. Without the ledger it is not known which markers
/// are the fleet's own; then all of them count.
async fn own_actions(settings: &Settings, context: &Context) -> HashSet<ActionId> {
    let marked = context.marked_actions();
    if marked.is_empty() {
        return HashSet::new();
    }
    let known = match bootstrap::connect_ledger(settings, "leadline") {
        Ok(ledger) => ledger.known_actions(&marked).await.map_err(anyhow::Error::from),
        Err(error) => Err(error.into()),
    };
    known.unwrap_or_else(|error| {
        print::error(format_args!(
            "the ledger cannot say which notes and tasks are the fleet's own, so all with a marker are left out: {error}"
        ));
        marked.into_iter().collect()
    })
}

/// Prints a text that is not ours, so that none of its lines looks like one of ours, and an empty line.
fn print_indented(text: &str) {
    print::text(&print::indented(text));
    print::blank();
}

fn pretty(answer: &str) -> String {
    let value: Result<serde_json::Value, _> = serde_json::from_str(answer);
    value.ok().and_then(|value| serde_json::to_string_pretty(&value).ok()).unwrap_or_else(|| answer.to_owned())
}

fn print_intended(intended: &[PlannedWrite]) {
    say!("what follows");
    for PlannedWrite { record, properties, actions, terms } in intended {
        match terms.mode {
            WriteMode::Live => {}
            WriteMode::Review => say!("  proposed, and written when somebody approves it:"),
            WriteMode::Shadow => say!("  in shadow, and not written:"),
        }
        for change in properties {
            say!("  {record}.{} = {:?}  ({})", change.property, change.value, change.policy.as_str());
        }
        for action in actions {
            let what = match &action.spec {
                ActionSpec::CreateTask(task) => {
                    let owner = task.owner.as_deref().unwrap_or("none");
                    let due = task.due.replace_nanosecond(0).unwrap_or(task.due).format(&Rfc3339).unwrap_or_default();
                    format!("{:?}, {} priority, owner {owner}, due {due}", task.subject, task.priority.as_str())
                }
                ActionSpec::CreateNote { body, .. } => format!("{body:?}"),
                ActionSpec::MoveDeal(DealStage { stage, .. }) => format!("to {stage}"),
                ActionSpec::Notify { channel, text } => format!("{channel}: {text:?}"),
                ActionSpec::DeleteEngagement { engagement } => engagement.to_string(),
                ActionSpec::MoveDealBack { to, .. } => format!("to {to}"),
            };
            say!("  {record}: {} ({}) {what}", action.spec.kind(), action.name);
        }
    }
    print::blank();
}

/// Writes like the fleet does: commits an event with its decision to the ledger and publishes the write commands. So the
/// write can be traced and undone.
async fn submit(
    settings: &Settings,
    playbook: &Playbook,
    record: &RecordRef,
    inference: Inference,
    intended: Vec<PlannedWrite>,
    now: OffsetDateTime,
) -> anyhow::Result<ExitCode> {
    let ledger = bootstrap::connect_ledger(settings, "leadline")?;
    let publisher = Publisher::open(bootstrap::broker_settings(settings, "leadline")?).await?;
    let event = manual_run_event(playbook, record, now);
    let worker = Worker::named("leadline");
    let claims = ledger
        .claim(&[ClaimRequest { event: &event, message_copy_id: uuid::Uuid::nil(), trace_id: None }], &worker, LEASE)
        .await?;
    let Some(Claim::Granted(claimed)) = claims.into_iter().next() else { bail!("the ledger did not accept the event") };
    let charge = record_charge(&ledger, &claimed, &inference).await?;
    let command = |planned: PlannedWrite| planned.into_command(playbook, &event, claimed.event_id, inference.id);
    let commands: Vec<_> = intended.into_iter().map(command).collect();
    let decision = Decision {
        playbook: None,
        wait: None,
        event_id: claimed.event_id,
        attempt: claimed.attempt,
        state: if commands.is_empty() { EventState::Skipped } else { EventState::Decided },
        reason: commands.is_empty().then_some(Reason::NothingIntended),
        detail: None,
        inferences: vec![inference],
        commands: commands.clone(),
        charges: vec![charge],
        unusable: vec![],
    };
    ledger.commit_decisions(&[decision]).await?;
    for command in &commands {
        publisher.publish(Route::Queue(Stage::Writes), &maintenance::command_message(command.id)).await?;
    }
    until_written(&ledger, &event.key).await
}

/// Records what the answer that is written has cost, as of any other question. Limits do not hold for an operator.
async fn record_charge(ledger: &Ledger, claimed: &Claimed, inference: &Inference) -> anyhow::Result<SettledCharge> {
    let micro_dollars = inference.cost_micro_dollars.unwrap_or(0);
    let charge = ChargeRequest {
        id: ChargeId::new(),
        event_id: claimed.event_id,
        attempt: claimed.attempt,
        inference_id: inference.id,
        playbook: inference.playbook.clone(),
        record: inference.record.clone(),
        model: inference.model_requested.clone(),
        most_micro_dollars: micro_dollars,
        record_limits: RecordLimits::default(),
    };
    ledger.begin_charges(std::slice::from_ref(&charge)).await?;
    Ok(SettledCharge { id: charge.id, state: ChargeState::Answered, micro_dollars })
}

/// The event that stands for this run in the ledger.
fn manual_run_event(playbook: &Playbook, record: &RecordRef, now: OffsetDateTime) -> Event {
    let subject = Subject::Record { object_type: record.object_type.clone(), object_id: record.object_id };
    let at = i64::try_from(now.unix_timestamp_nanos() / 1_000_000).unwrap_or(i64::MAX);
    let id = format!("{}@{}", playbook.name, playbook.version);
    Event {
        key: EventKey::new(record.portal_id, EventKind::Manual, &subject, None, at, &id),
        portal_id: record.portal_id,
        kind: EventKind::Manual,
        subject,
        property_name: None,
        occurred_at: now,
        change_source: None,
        source_id: None,
        payload: json!({"by": "leadline playbook run --write", "playbook": id}).into(),
    }
}

async fn until_written(ledger: &Ledger, key: &EventKey) -> anyhow::Result<ExitCode> {
    let started = std::time::Instant::now();
    let progress = Progress::start("waits for a writer", 0);
    loop {
        let story = ledger.event_story(key.as_str()).await?.context("the event is not in the ledger")?;
        if story.state.is_final() {
            drop(progress);
            event::print_story(&story, Format::default())?;
            return Ok(if story.state == EventState::Parked { ExitCode::FAILURE } else { ExitCode::SUCCESS });
        }
        if started.elapsed() > MAX_WAIT {
            bail!("no writer has finished it within {MAX_WAIT:?}; `leadline event {key}` shows its state");
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}
