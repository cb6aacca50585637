//! `leadline backlog`: is all well?

use std::{collections::BTreeMap, path::Path, process::ExitCode, time::Duration};

use ledger::CircuitState;
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
    for (name, depth) in operator.link.depths().await? {
        queues.add_row([name, depth.to_string()]);
    }
    println!("queues (what is being worked on is not counted)\n{queues}");

    let unfinished = ledger.unfinished().await?;
    let mut events = table(&["state", "reason", "events", "oldest", "its key"]);
    for row in &unfinished {
        events.add_row([
            row.state.clone(),
            row.reason.clone().unwrap_or_default(),
            row.events.to_string(),
            age(row.oldest),
            row.oldest_key.clone(),
        ]);
    }
    println!("\nunfinished events\n{events}");

    let mut commands = table(&["state", "write commands", "oldest"]);
    for row in ledger.unfinished_commands().await? {
        commands.add_row([row.state, row.commands.to_string(), age(row.oldest)]);
    }
    println!("\nunfinished write commands\n{commands}");

    let mut reasons: BTreeMap<(String, String), (usize, Option<OffsetDateTime>)> = BTreeMap::new();
    for entry in ledger.parked().await? {
        let count = reasons.entry((entry.stage, entry.reason.unwrap_or_default())).or_default();
        count.0 += 1;
        count.1 = count.1.max(entry.parked_at);
    }
    let mut parked = table(&["stage", "reason", "parked", "newest"]);
    for ((stage, reason), (count, newest)) in reasons {
        parked.add_row([stage, reason, count.to_string(), newest.map(clock).unwrap_or_default()]);
    }
    println!("\nparked, by the ledger (`leadline parked list` shows each)\n{parked}");

    for circuit in ledger.circuits().await?.iter().filter(|circuit| circuit.state != CircuitState::Closed) {
        println!(
            "\ncircuit of {} {} for {}: {} ({}), {} probes failed",
            circuit.dependency,
            circuit.state.as_str(),
            circuit.opened_at.map(age).unwrap_or_default(),
            circuit.reason.as_deref().unwrap_or_default(),
            circuit.detail.as_deref().unwrap_or_default(),
            circuit.probes
        );
    }
    match ledger.oldest_unfinished().await? {
        Duration::ZERO => println!("\nnothing is unfinished"),
        oldest => println!("\nthe oldest unfinished event is {} old", when::long(oldest)),
    }
    Ok(ExitCode::SUCCESS)
}

fn age(since: OffsetDateTime) -> String {
    when::long(Duration::try_from(OffsetDateTime::now_utc() - since).unwrap_or_default())
}
