//! The ledger alone: its speed as it fills.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use domain::CommandState;
use domain::{
    Event, EventState, Inference, InferenceId, RecordRef, WriteCommand, WriteCommandId,
    inference::{InferenceOutcome, TokenUsage},
    model::ServiceTier,
    write_command::{PropertyChange, WritePolicy},
};
use ledger::{
    Claim, ClaimRequest, CommandClaim, CommandResult, Decision, Ledger, PriorAnswersRequest, Worker, WrittenProperty,
};
use serde_json::json;
use sqlx::PgPool;
use testbed::{Services, TestNamespace, step};

use super::{
    fleet::note_event,
    report::{Results, number},
};

const LEASE: Duration = Duration::from_secs(60);
const BATCH: i64 = 100;

/// Events of one measurement: about two seconds.
const ROUND: i64 = 8_000;

/// Measures with a thousand to a million events in the ledger.
pub async fn run(services: &Services, results: &mut Results) -> Result<()> {
    let namespace = TestNamespace::new(services).await?;
    let environment = vec![(lab::fleet::variable("ledger.url"), namespace.postgres_url.clone())];
    let settings = settings::Settings::load_from(None, environment, settings::ConfigScope::LedgerOnly)?;
    let ledger = bootstrap::connect_ledger(&settings, "leadline-bench").map_err(anyhow::Error::msg)?;
    ledger.migrate(bootstrap::retention(&settings)).await?;
    let pool = PgPool::connect(&namespace.postgres_url).await?;
    let mut first = 100_000_000;
    println!("\nthe ledger alone, every statement that an event needs (goal: within 10 % of the first)");
    let mut baseline = None;
    for rows in [1_000, 10_000, 100_000, 1_000_000] {
        step(&format!("{rows} events in the ledger"), fill(&pool, rows)).await?;
        // The first one is a warm-up. Of the others the median counts: Postgres' checkpoints disturb single ones.
        let mut rates = Vec::new();
        for _ in 0..4 {
            rates.push(rate(&ledger, first, ROUND).await?);
            first += ROUND;
        }
        rates[1..].sort_by(f64::total_cmp);
        let now = rates[2];
        let part = now / *baseline.get_or_insert(now);
        println!("  {rows:>9} events: {} events per second, {:.0} %", number(now), part * 100.0);
        results.row(&format!("the ledger alone with {rows} events"), format!("{} /s", number(now)), "90 % of first");
        results.bar("the ledger alone, by events in it", format!("{rows} events"), now, "/s", false);
    }
    Ok(())
}

/// Fills the ledger up to `rows` events, each with the rows that the fleet leaves.
async fn fill(pool: &PgPool, rows: i64) -> Result<()> {
    let known: i64 = sqlx::query_scalar("select count(*) from event").fetch_one(pool).await?;
    let mut from = known;
    while from < rows {
        let to = (from + 50_000).min(rows);
        sqlx::raw_sql(sqlx::AssertSqlSafe(format!("
            set session_replication_role = replica;
            create temporary table new as
            select gen_random_uuid() as e, gen_random_uuid() as i, gen_random_uuid() as c, n,
                   now() - interval '1 day' - (n % 86000) * interval '1 second' as at
            from generate_series({from} + 1, {to}) as n;
            insert into event (id, event_key, portal_id, subscription_type, object_type, object_id, property_name,
                               occurred_at, payload, state, attempt, worker, message_copy_id, first_claimed_at, state_since,
                               finished_at)
            select e, 'old:' || n, 9876543, 'contact.propertyChange', '0-1', 50000000 + n % 300000, 'notes_last_updated',
                   at, '{{\"eventId\": 1, \"portalId\": 9876543}}', 'written', 1, 'w', e, at, at, at from new;
            insert into event_history (event_id, at, from_state, state, attempt, worker)
            select e, at, s.from_state::event_state, s.state::event_state, 1, 'w'
            from new, (values (null, 'claimed'), ('claimed', 'decided'), ('decided', 'written')) as s (from_state, state);
            insert into inference (id, event_id, attempt, playbook, playbook_version, portal_id, object_type, object_id,
                                   model_requested, model, outcome, fields, unverified, prompt_tokens, cached_tokens,
                                   completion_tokens, cost_micro_dollars, latency_ms, context_hash, created_at)
            select i, e, 1, 'lead-qualification', 'v', 9876543, '0-1', 50000000 + n % 300000, 'gpt-4o', 'gpt-4o', 'valid',
                   '{{\"lead_score\": 50}}', '{{}}', 900, 0, 90, 3000, 200, md5(n::text), at from new;
            insert into inference_raw (inference_id, created_at, prompt, answer)
            select i, at, to_jsonb(repeat('a prompt ', 100)), repeat('an answer ', 20) from new;
            insert into write_command (id, event_id, inference_id, event_key, occurred_at, portal_id, object_type, object_id,
                                       properties, state, attempt, created_at, finished_at)
            select c, e, i, 'old:' || n, at, 9876543, '0-1', 50000000 + n % 300000, '[]', 'written', 1, at, at from new;
            insert into write (write_command_id, property, before, after, portal_id, object_type, object_id, occurred_at,
                               event_key)
            select c, p, null, '50', 9876543, '0-1', 50000000 + n % 300000, at, 'old:' || n
            from new, (values ('lead_score'), ('ai_lead_summary'), ('ai_budget_estimate')) as properties (p);
            drop table new;
            set session_replication_role = origin;"
        )))
        .execute(pool)
        .await
        .context("filling the ledger")?;
        from = to;
    }
    // As autovacuum does in a ledger that fills over months.
    for statement in ["vacuum analyze", "checkpoint"] {
        sqlx::raw_sql(statement).execute(pool).await?;
    }
    Ok(())
}

/// Events per second through every statement that an event needs.
async fn rate(ledger: &Ledger, first: i64, events: i64) -> Result<f64> {
    let started = Instant::now();
    let mut lanes = tokio::task::JoinSet::new();
    for lane in 0..4 {
        let ledger = ledger.clone();
        lanes.spawn(async move {
            let batches = (0..events / BATCH).filter(|batch| batch % 4 == lane);
            for batch in batches {
                pass(&ledger, first + batch * BATCH).await?;
            }
            anyhow::Ok(())
        });
    }
    while let Some(done) = lanes.join_next().await {
        done??;
    }
    #[expect(clippy::cast_precision_loss, reason = "a count")]
    Ok((events / BATCH * BATCH) as f64 / started.elapsed().as_secs_f64())
}

/// Takes a batch of events from the claim to the end.
async fn pass(ledger: &Ledger, first: i64) -> Result<()> {
    let elements: Vec<_> = (first..first + BATCH).map(|n| note_event(n, n)).collect();
    let body = serde_json::to_vec(&elements)?;
    let parsed = hubspot::webhook::parse(&body)?;
    let events: Vec<Event> = parsed.into_iter().filter_map(|element| element.event.ok()).collect();
    let requests: Vec<_> =
        events.iter().map(|event| ClaimRequest { event, message_copy_id: uuid::Uuid::nil(), trace_id: None }).collect();
    let worker = Worker::named("bench");
    let mut decisions = Vec::new();
    let mut commands = Vec::new();
    let mut prior = Vec::new();
    for (claim, event) in ledger.claim(&requests, &worker, LEASE).await?.into_iter().zip(&events) {
        let Claim::Granted(claimed) = claim else { anyhow::bail!("an event was not claimed: {claim:?}") };
        let record = event.record();
        prior.push(PriorAnswersRequest {
            event_id: claimed.event_id,
            occurred_at: event.occurred_at,
            event_key: event.key.clone(),
            record: record.clone(),
        });
        let inference = inference(&record);
        let command = WriteCommand {
            id: WriteCommandId::new(),
            event_id: claimed.event_id,
            event_key: event.key.clone(),
            inference_id: inference.id,
            occurred_at: event.occurred_at,
            record,
            properties: vec![change("lead_score"), change("ai_lead_summary"), change("ai_budget_estimate")],
            actions: vec![],
            terms: domain::review::WriteTerms::default(),
        };
        commands.push(command.clone());
        decisions.push(Decision {
            event_id: claimed.event_id,
            attempt: claimed.attempt,
            state: EventState::Decided,
            reason: None,
            detail: None,
            playbook: None,
            wait: None,
            inferences: vec![inference],
            commands: vec![command],
            charges: vec![],
            unusable: vec![],
        });
    }
    ledger.prior_answers(&prior, Duration::from_secs(86_400)).await?;
    let committed = ledger.commit_decisions(&decisions).await?;
    ensure!(committed.into_iter().all(|counted| counted), "a decision was not committed");
    let ids: Vec<_> = commands.iter().map(|command| command.id).collect();
    let records: Vec<_> = commands.iter().map(|command| command.record.clone()).collect();
    let taken = ledger.claim_commands(&ids, records[0].portal_id, &worker, LEASE).await?;
    ledger.lock_records(&records, &worker, LEASE).await?;
    ledger.latest_writes(&records, None).await?;
    let finished = commands.iter().zip(taken).map(|(command, taken)| {
        let CommandClaim::Granted { attempt, .. } = taken else { anyhow::bail!("a command was not taken: {taken:?}") };
        Ok(CommandResult {
            written: command.properties.iter().map(written).collect(),
            ..CommandResult::new(command.id, attempt, CommandState::Written)
        })
    });
    ledger.finish_commands(&finished.collect::<Result<Vec<_>>>()?, &worker).await?;
    ledger.unlock_records(&records, &worker).await?;
    Ok(())
}

fn change(property: &str) -> PropertyChange {
    PropertyChange {
        property: property.to_owned(),
        value: "50".to_owned(),
        policy: WritePolicy::Always,
        expected: None,
    }
}

fn written(change: &PropertyChange) -> WrittenProperty {
    WrittenProperty { property: change.property.clone(), before: None, after: change.value.clone() }
}

fn inference(record: &RecordRef) -> Inference {
    Inference {
        id: InferenceId::new(),
        playbook: "lead-qualification".to_owned(),
        playbook_version: "v".to_owned(),
        record: record.clone(),
        part: None,
        context_hash: Some("hash".to_owned()),
        read: vec![],
        model_requested: "gpt-4o".to_owned(),
        model: "gpt-4o".to_owned(),
        service_tier: Some(ServiceTier::Default),
        prompt: json!([{"role": "user", "content": "a prompt ".repeat(100)}]),
        answer: "an answer ".repeat(20),
        outcome: InferenceOutcome::Valid,
        fields: json!({"lead_score": 50}),
        unverified: vec![],
        usage: TokenUsage { prompt_tokens: 900, cached_tokens: 0, completion_tokens: 90, cache_write_tokens: 0 },
        cost_micro_dollars: Some(3_000),
        latency: Duration::from_millis(200),
        request_id: None,
    }
}
