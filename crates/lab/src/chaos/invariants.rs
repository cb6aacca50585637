//! The invariants: what was accepted has had its effect once. Checked in the ledger, in HubSpot and in the parking lots.

use std::collections::{BTreeMap, HashMap, HashSet};

use anyhow::Result;
use broker::{Connection, ParkingLot, Stage};
use domain::write_command::marker_in;
use lab::Fleet;
use sqlx::PgPool;

use super::{
    account::{self, Account},
    load::Sent,
    reviewer::{self, Reviewed},
};

/// The reasons for which the load makes an event park. No fault may park one.
const EXPECTED: [&str; 1] = ["refused"];

/// What the check found: one field for each line of the report.
#[derive(Debug, Default)]
pub struct InvariantReport {
    /// How many events ended in each state, with its reason.
    pub ends: BTreeMap<String, usize>,
    /// Keys of events that were accepted and are unfinished or unknown.
    pub lost: HashSet<String>,
    /// Keys of events that had an effect twice.
    pub doubled: HashSet<String>,
    /// What was billed, and what the ledger says.
    pub account: Account,
    /// Claims after an event's first. Each may have cost one answer more.
    pub taken_over: i64,
    /// Tasks in HubSpot.
    pub tasks: usize,
    /// Notifications, and repetitions under the same key.
    pub notifications: (usize, usize),
    /// What was decided about proposals.
    pub reviewed: Reviewed,
    /// Calls to HubSpot that were answered 429, including those of faults, and all calls.
    pub limited: (usize, usize),
    /// Every other violation.
    pub wrong: Vec<String>,
}

/// Checks every invariant. Call it when nothing is in flight.
pub async fn check(fleet: &Fleet, ledger: &PgPool, sent: &Sent) -> Result<InvariantReport> {
    let mut report = InvariantReport::default();
    events(ledger, sent, &mut report).await?;
    poison(fleet, sent, &mut report).await?;
    writes(fleet, ledger, &mut report).await?;
    actions(fleet, ledger, &mut report).await?;
    calls(fleet, ledger, &mut report).await?;
    report.reviewed = reviewer::check(ledger, &mut report.wrong).await?;
    if sent.wrongly_accepted > 0 {
        report.wrong.push(format!("{} webhooks with an old timestamp were accepted", sent.wrongly_accepted));
    }
    Ok(report)
}

/// Every webhook answered 200 ended in exactly one state, with a reason where that needs one.
async fn events(ledger: &PgPool, sent: &Sent, report: &mut InvariantReport) -> Result<()> {
    let rows: Vec<(String, String, Option<String>)> =
        sqlx::query_as("select event_key, state::text, reason from event").fetch_all(ledger).await?;
    let known: HashMap<_, _> = rows.into_iter().map(|(key, state, reason)| (key, (state, reason))).collect();
    for key in &sent.accepted {
        let Some((state, reason)) = known.get(key) else {
            report.lost.insert(key.clone());
            continue;
        };
        let is_final = ["written", "skipped", "superseded", "dropped", "parked"].contains(&state.as_str());
        if !is_final {
            report.lost.insert(key.clone());
        }
        let reason = reason.as_deref().unwrap_or_default();
        if is_final && state != "written" && reason.is_empty() {
            report.wrong.push(format!("{key} is {state} without a reason"));
        }
        if state == "parked" && !EXPECTED.contains(&reason) {
            report.wrong.push(format!("{key} is parked as {reason}, which only a fault can have caused"));
        }
        let end = if reason.is_empty() { state.clone() } else { format!("{state} ({reason})") };
        *report.ends.entry(end).or_default() += 1;
    }
    let unfinished: i64 =
        sqlx::query_scalar("select count(*) from write_command where finished_at is null").fetch_one(ledger).await?;
    if unfinished > 0 {
        report.wrong.push(format!("{unfinished} write commands are unfinished"));
    }
    Ok(())
}

/// Every element that is no event is in a parking lot of events, at least once.
async fn poison(fleet: &Fleet, sent: &Sent, report: &mut InvariantReport) -> Result<()> {
    let connection = Connection::open(fleet.broker_settings()?).await?;
    let mut bodies = String::new();
    for stage in [Stage::Events, Stage::Backfill, Stage::Erasures] {
        let parking_lot = ParkingLot::open(&connection, stage).await?;
        while let Some(parked) = parking_lot.next().await? {
            bodies.push_str(&String::from_utf8_lossy(&parked.message.body));
            bodies.push('\n');
        }
        parking_lot.close().await;
    }
    for mark in &sent.poison {
        if !bodies.contains(&format!("\"{mark}\"")) {
            report.lost.insert(mark.clone());
        }
    }
    report.ends.insert("parked (event_invalid)".to_owned(), sent.poison.len());
    Ok(())
}

/// HubSpot holds what the newest event wrote, and no older value was recorded after a newer one.
async fn writes(fleet: &Fleet, ledger: &PgPool, report: &mut InvariantReport) -> Result<()> {
    let out_of_order: Vec<(i64, String, String, String)> = sqlx::query_as(
        "select older.object_id, older.property,
                newer.after || ' of ' || newer.event_key || ' at ' || newer.written_at,
                older.after || ' of ' || older.event_key || ' at ' || older.written_at
         from write newer join write older using (portal_id, object_type, object_id, property)
         where (newer.occurred_at, newer.event_key) > (older.occurred_at, older.event_key)
           and newer.written_at < older.written_at and newer.after <> older.after",
    )
    .fetch_all(ledger)
    .await?;
    for (id, property, newer, older) in out_of_order {
        report.wrong.push(format!("contact {id}.{property}: {older} was written after {newer}"));
    }
    let newest: Vec<(i64, String, String, String)> = sqlx::query_as(
        "select distinct on (object_id, property) object_id, property, after, event_key from write
         where object_type = '0-1' order by object_id, property, occurred_at desc, event_key desc",
    )
    .fetch_all(ledger)
    .await?;
    let contacts = fleet.simulator.objects("contact").await?;
    let current: HashMap<i64, _> = contacts.into_iter().map(|contact| (contact.id, contact.properties)).collect();
    for (id, property, expected, key) in newest {
        let value = current.get(&id).and_then(|properties| properties.get(&property));
        if value != Some(&expected) {
            report.doubled.insert(key);
            report.wrong.push(format!("contact {id}.{property} is {value:?}, the newest event wrote {expected:?}"));
        }
    }
    let unverified: i64 =
        sqlx::query_scalar("select count(*) from record_lease where verify").fetch_one(ledger).await?;
    if unverified > 0 {
        report.wrong.push(format!("{unverified} records are still to be verified"));
    }
    Ok(())
}

/// Every task exists once, and no notification has two keys.
async fn actions(fleet: &Fleet, ledger: &PgPool, report: &mut InvariantReport) -> Result<()> {
    let rows: Vec<(String, String, String, String)> = sqlx::query_as(
        "select a.id::text, a.kind, case when a.reason = 'maybe_done' then a.reason else a.state::text end, c.event_key from action a join write_command c on c.id = a.write_command_id",
    )
    .fetch_all(ledger)
    .await?;
    let tasks = fleet.simulator.objects("task").await?;
    report.tasks = tasks.len();
    let mut created: HashMap<String, usize> = HashMap::new();
    for task in &tasks {
        let body = task.properties.get("hs_task_body").map(String::as_str).unwrap_or_default();
        match marker_in(body) {
            Some(id) => *created.entry(id.to_string()).or_default() += 1,
            None => report.wrong.push(format!("task {} has no marker", task.id)),
        }
    }
    let messages = fleet.simulator.messages().await?;
    let mut notified: HashMap<String, usize> = HashMap::new();
    for message in &messages {
        *notified.entry(message.key.clone().unwrap_or_default()).or_default() += 1;
    }
    report.notifications = (notified.len(), messages.len() - notified.len());
    for (id, kind, state, key) in rows {
        let times = if kind == "create_task" { created.remove(&id) } else { notified.remove(&id) }.unwrap_or(0);
        match (kind.as_str(), state.as_str(), times) {
            ("create_task", "done", 1) | ("notify", "done", 1..) | ("notify", "maybe_done", _) | (_, "skipped", 0) => {}
            ("create_task", _, 2..) => {
                report.doubled.insert(key);
            }
            (_, "done", 0) => {
                report.lost.insert(key);
            }
            _ => report.wrong.push(format!("action {id} ({kind}) of {key} is {state}, done {times} times")),
        }
    }
    for id in created.into_keys().chain(notified.into_keys()) {
        report.wrong.push(format!("action {id} is not in the ledger"));
    }
    Ok(())
}

/// What was billed is what the ledger says, and how many calls HubSpot refused with 429.
async fn calls(fleet: &Fleet, ledger: &PgPool, report: &mut InvariantReport) -> Result<()> {
    report.account = account::check(&fleet.simulator, ledger, &mut report.wrong).await?;
    report.taken_over =
        sqlx::query_scalar("select count(*) from event_history where attempt > 1 and state = 'claimed'")
            .fetch_one(ledger)
            .await?;
    let calls = fleet.simulator.calls(0).await?;
    let hubspot = calls.iter().filter(|call| call.path.starts_with("/crm"));
    let limited = hubspot.clone().filter(|call| call.status == 429).count();
    report.limited = (limited, hubspot.count());
    Ok(())
}
