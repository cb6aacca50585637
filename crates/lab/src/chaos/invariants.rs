//! The invariants: what was accepted, and what became of it. Asked of the ledger, of HubSpot and of the parking lots.

use std::collections::{BTreeMap, HashMap, HashSet};

use anyhow::Result;
use broker::{Connection, ParkingLot, Stage};
use domain::write_command::marker_in;
use lab::Fleet;
use sqlx::PgPool;

use super::load::Sent;

/// Reasons for which something may be parked here: those that the load asks for.
const EXPECTED: [&str; 1] = ["refused"];

/// What was found.
#[derive(Debug, Default)]
pub struct InvariantReport {
    /// How many events ended how.
    pub ends: BTreeMap<String, usize>,
    /// Accepted, and not ended, or unknown.
    pub lost: HashSet<String>,
    /// Effects that happened twice.
    pub doubled: HashSet<String>,
    /// Answers that were paid for and are not in the ledger.
    pub paid_twice: i64,
    /// Claims beyond an event's first: each may have cost one such answer.
    pub taken_over: i64,
    /// Tasks in HubSpot.
    pub tasks: usize,
    /// Notifications, and those that came again under the same key.
    pub notifications: (usize, usize),
    /// Calls to HubSpot that were answered 429, those of faults included, and calls in all.
    pub limited: (usize, usize),
    /// Everything else that should not be.
    pub wrong: Vec<String>,
}

/// Settles the invariants when nothing is unfinished any more.
pub async fn settle(fleet: &Fleet, ledger: &PgPool, sent: &Sent) -> Result<InvariantReport> {
    let mut invariants = InvariantReport::default();
    events(ledger, sent, &mut invariants).await?;
    poison(fleet, sent, &mut invariants).await?;
    writes(fleet, ledger, &mut invariants).await?;
    actions(fleet, ledger, &mut invariants).await?;
    money(fleet, ledger, &mut invariants).await?;
    if sent.wrongly_accepted > 0 {
        invariants.wrong.push(format!("{} webhooks with an old timestamp were accepted", sent.wrongly_accepted));
    }
    Ok(invariants)
}

/// Every webhook answered 200 ended in exactly one state, with a reason where that needs one.
async fn events(ledger: &PgPool, sent: &Sent, invariants: &mut InvariantReport) -> Result<()> {
    let rows: Vec<(String, String, Option<String>)> =
        sqlx::query_as("select event_key, state::text, reason from event").fetch_all(ledger).await?;
    let known: HashMap<_, _> = rows.into_iter().map(|(key, state, reason)| (key, (state, reason))).collect();
    for key in &sent.accepted {
        let Some((state, reason)) = known.get(key) else {
            invariants.lost.insert(key.clone());
            continue;
        };
        let is_final = ["written", "skipped", "superseded", "dropped", "parked"].contains(&state.as_str());
        if !is_final {
            invariants.lost.insert(key.clone());
        }
        let reason = reason.as_deref().unwrap_or_default();
        if is_final && state != "written" && reason.is_empty() {
            invariants.wrong.push(format!("{key} is {state} without a reason"));
        }
        if state == "parked" && !EXPECTED.contains(&reason) {
            invariants.wrong.push(format!("{key} is parked as {reason}, which only an outage can have done"));
        }
        let end = if reason.is_empty() { state.clone() } else { format!("{state} ({reason})") };
        *invariants.ends.entry(end).or_default() += 1;
    }
    let unfinished: i64 =
        sqlx::query_scalar("select count(*) from write_command where finished_at is null").fetch_one(ledger).await?;
    if unfinished > 0 {
        invariants.wrong.push(format!("{unfinished} write commands are unfinished"));
    }
    Ok(())
}

/// What makes no event is in the parking lot, each at least once.
async fn poison(fleet: &Fleet, sent: &Sent, invariants: &mut InvariantReport) -> Result<()> {
    let link = Connection::open(fleet.broker_settings()?).await?;
    let lot = ParkingLot::open(&link, Stage::Events).await?;
    let mut bodies = String::new();
    while let Some(parked) = lot.next().await? {
        bodies.push_str(&String::from_utf8_lossy(&parked.message.body));
        bodies.push('\n');
    }
    lot.close().await;
    for mark in &sent.poison {
        if !bodies.contains(&format!("\"{mark}\"")) {
            invariants.lost.insert(mark.clone());
        }
    }
    invariants.ends.insert("parked (event_invalid)".to_owned(), sent.poison.len());
    Ok(())
}

/// HubSpot holds what the newest event wrote, and nothing older was recorded after something newer.
async fn writes(fleet: &Fleet, ledger: &PgPool, invariants: &mut InvariantReport) -> Result<()> {
    let disorder: Vec<(i64, String, String, String)> = sqlx::query_as(
        "select older.object_id, older.property,
                newer.after || ' of ' || newer.event_key || ' at ' || newer.written_at,
                older.after || ' of ' || older.event_key || ' at ' || older.written_at
         from write newer join write older using (portal_id, object_type, object_id, property)
         where (newer.occurred_at, newer.event_key) > (older.occurred_at, older.event_key)
           and newer.written_at < older.written_at and newer.after <> older.after",
    )
    .fetch_all(ledger)
    .await?;
    for (id, property, newer, older) in disorder {
        invariants.wrong.push(format!("contact {id}.{property} got {older}, after {newer}"));
    }
    let newest: Vec<(i64, String, String, String)> = sqlx::query_as(
        "select distinct on (object_id, property) object_id, property, after, event_key from write
         where object_type = '0-1' order by object_id, property, occurred_at desc, event_key desc",
    )
    .fetch_all(ledger)
    .await?;
    let contacts = fleet.simulator.objects("contact").await?;
    let held: HashMap<i64, _> = contacts.into_iter().map(|contact| (contact.id, contact.properties)).collect();
    for (id, property, value, key) in newest {
        let holds = held.get(&id).and_then(|properties| properties.get(&property));
        if holds != Some(&value) {
            invariants.doubled.insert(key);
            invariants.wrong.push(format!("contact {id}.{property} is {holds:?}, the newest event wrote {value:?}"));
        }
    }
    let unverified: i64 =
        sqlx::query_scalar("select count(*) from record_lease where verify").fetch_one(ledger).await?;
    if unverified > 0 {
        invariants.wrong.push(format!("{unverified} records are still to be verified"));
    }
    Ok(())
}

/// No task twice, none missing, and no notification under two keys.
async fn actions(fleet: &Fleet, ledger: &PgPool, invariants: &mut InvariantReport) -> Result<()> {
    let rows: Vec<(String, String, String, String)> = sqlx::query_as(
        "select a.id::text, a.kind, case when a.reason = 'maybe_done' then a.reason else a.state::text end, c.event_key from action a join write_command c on c.id = a.write_command_id",
    )
    .fetch_all(ledger)
    .await?;
    let tasks = fleet.simulator.objects("task").await?;
    invariants.tasks = tasks.len();
    let mut made: HashMap<String, usize> = HashMap::new();
    for task in &tasks {
        let body = task.properties.get("hs_task_body").map(String::as_str).unwrap_or_default();
        match marker_in(body) {
            Some(id) => *made.entry(id.to_string()).or_default() += 1,
            None => invariants.wrong.push(format!("task {} has no marker", task.id)),
        }
    }
    let messages = fleet.simulator.messages().await?;
    let mut told: HashMap<String, usize> = HashMap::new();
    for message in &messages {
        *told.entry(message.key.clone().unwrap_or_default()).or_default() += 1;
    }
    invariants.notifications = (told.len(), messages.len() - told.len());
    for (id, kind, state, key) in rows {
        let times = if kind == "create_task" { made.remove(&id) } else { told.remove(&id) }.unwrap_or(0);
        match (kind.as_str(), state.as_str(), times) {
            ("create_task", "done", 1) | ("notify", "done", 1..) | ("notify", "maybe_done", _) | (_, "skipped", 0) => {}
            ("create_task", _, 2..) => {
                invariants.doubled.insert(key);
            }
            (_, "done", 0) => {
                invariants.lost.insert(key);
            }
            _ => invariants.wrong.push(format!("action {id} ({kind}) of {key} is {state}, done {times} times")),
        }
    }
    for id in made.into_keys().chain(told.into_keys()) {
        invariants.wrong.push(format!("the ledger knows nothing of action {id}"));
    }
    Ok(())
}

/// What was paid for, and how often HubSpot said that it was too much.
async fn money(fleet: &Fleet, ledger: &PgPool, invariants: &mut InvariantReport) -> Result<()> {
    let calls = fleet.simulator.calls(0).await?;
    let is_question = |call: &&simulator::Call| call.path == "/v1/chat/completions";
    let paid = calls.iter().filter(is_question).filter(|call| call.status == 200 && !call.response.is_null()).count();
    let recorded: i64 = sqlx::query_scalar("select count(*) from inference").fetch_one(ledger).await?;
    invariants.paid_twice = i64::try_from(paid)? - recorded;
    invariants.taken_over =
        sqlx::query_scalar("select count(*) from event_history where attempt > 1 and state = 'claimed'")
            .fetch_one(ledger)
            .await?;
    if invariants.paid_twice > invariants.taken_over {
        invariants.wrong.push(format!(
            "{} answers were paid for and not recorded, but only {} claims were taken over",
            invariants.paid_twice, invariants.taken_over
        ));
    }
    let hubspot = calls.iter().filter(|call| call.path.starts_with("/crm"));
    let limited = hubspot.clone().filter(|call| call.status == 429).count();
    invariants.limited = (limited, hubspot.count());
    Ok(())
}
