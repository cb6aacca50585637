//! `leadline backlog`: is all well?

use std::{collections::BTreeMap, path::Path, process::ExitCode, time::Duration};

use comfy_table::Table;
use domain::{CircuitBreakerState, Reason};
use ledger::ParkedStage;
use time::OffsetDateTime;

use crate::{
    operator::{Operator, clock, table},
    when,
};

/// Prints queues, unfinished work by state and age, what is parked and why, and the circuits.
pub async fn run(file: Option<&Path>) -> anyhow::Result<ExitCode> {
    let operator = Operator::connect(file).await?;
    let ledger = &operator.ledger;

    let mut queues = table(&["queue", "messages"]);
    let depths = operator.link.queue_depths().await?;
    let filled: Vec<_> = depths.iter().filter(|(_, depth)| *depth > 0).collect();
    for (route, depth) in &filled {
        queues.add_row([route.to_string(), depth.to_string()]);
    }
    println!("queues (what is being worked on is not counted)");
    section(&queues, filled.is_empty());
    println!("{} of {} queues are empty", depths.len() - filled.len(), depths.len());

    let unfinished = ledger.unfinished_events().await?;
    let mut events = table(&["state", "reason", "events", "oldest", "its key"]);
    for row in &unfinished {
        events.add_row([
            row.state.to_string(),
            row.reason.map(|reason| reason.to_string()).unwrap_or_default(),
            row.events.to_string(),
            age(row.oldest),
            row.oldest_key.clone(),
        ]);
    }
    println!("\nunfinished events");
    section(&events, unfinished.is_empty());

    let unfinished = ledger.unfinished_commands().await?;
    let mut commands = table(&["state", "write commands", "oldest"]);
    for row in &unfinished {
        commands.add_row([row.state.to_string(), row.commands.to_string(), age(row.oldest)]);
    }
    println!("\nunfinished write commands");
    section(&commands, unfinished.is_empty());

    let mut reasons: BTreeMap<(ParkedStage, &str), (usize, Option<OffsetDateTime>)> = BTreeMap::new();
    for entry in ledger.parked().await? {
        let count = reasons.entry((entry.stage, entry.reason.map_or("", Reason::as_str))).or_default();
        count.0 += 1;
        count.1 = count.1.max(entry.parked_at);
    }
    let nothing_parked = reasons.is_empty();
    let mut parked = table(&["stage", "reason", "parked", "newest"]);
    for ((stage, reason), (count, newest)) in reasons {
        parked.add_row([
            stage.as_str().to_owned(),
            reason.to_owned(),
            count.to_string(),
            newest.map(clock).unwrap_or_default(),
        ]);
    }
    println!("\nparked, as the ledger knows it (`leadline parked list` shows each, and what never got so far)");
    section(&parked, nothing_parked);

    let known = ledger.rate_limits().await?;
    let mut rate_limits = table(&["budget", "used", "allowed", "quota", "refused", "held until"]);
    for entry in &known {
        let held = entry.held_until.map(clock).unwrap_or_default();
        let [used, allowed, quota, rejections] =
            [entry.used, entry.allowed, entry.quota, entry.rejections].map(|number| number.to_string());
        rate_limits.add_row([entry.name.clone(), used, allowed, quota, rejections, held]);
    }
    println!("\nbudgets (what the fleet has taken within the window, what it takes at most, what there is in all)");
    section(&rate_limits, known.is_empty());

    let known = ledger.spend_limits().await?;
    let mut spend_limits = table(&["spend limit", "spent µ$", "µ$ a day"]);
    for entry in &known {
        let amounts = [entry.micro_dollars_spent, entry.micro_dollars_per_day].map(|amount| amount.to_string());
        spend_limits.add_row([entry.name.clone()].into_iter().chain(amounts));
    }
    println!("\nspend limits (what is spent or set aside today, in UTC)");
    section(&spend_limits, known.is_empty());
    for entry in known.iter().filter(|entry| entry.micro_dollars_spent >= entry.micro_dollars_per_day) {
        println!("{} is spent: what it pays for waits until midnight UTC", entry.name);
    }

    for breaker in
        ledger.circuit_breakers().await?.iter().filter(|breaker| breaker.state != CircuitBreakerState::Closed)
    {
        println!(
            "\ncircuit of {} {} for {}: {} ({}), {} probes failed",
            breaker.dependency,
            breaker.state.as_str(),
            breaker.opened_at.map(age).unwrap_or_default(),
            breaker.reason.map_or("", Reason::as_str),
            breaker.detail.as_deref().unwrap_or_default(),
            breaker.probes
        );
    }
    match ledger.oldest_unfinished().await? {
        Duration::ZERO => println!("\nnothing is unfinished"),
        oldest => println!("\nthe oldest unfinished event is {} old", when::long(oldest)),
    }
    Ok(ExitCode::SUCCESS)
}

fn section(table: &Table, is_empty: bool) {
    if is_empty {
        println!("none");
    } else {
        println!("{table}");
    }
}

fn age(since: OffsetDateTime) -> String {
    when::long(Duration::try_from(OffsetDateTime::now_utc() - since).unwrap_or_default())
}
