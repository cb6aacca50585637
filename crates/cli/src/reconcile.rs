//! `leadline reconcile`: finds events and write commands whose message is lost, and publishes them again.

use std::{path::Path, process::ExitCode};

use maintenance::Reconciler;

use crate::{
    operator::Operator,
    print::{say, table},
    times,
};

#[derive(clap::Args)]
pub struct ReconcileOptions {
    /// Publish again what was found. Without it, the command only lists it.
    #[arg(long)]
    yes: bool,
    /// Treat a message as lost when it is overdue for so many seconds; by default the setting
    /// reconcile.stuck_after_seconds.
    #[arg(long, value_name = "SECONDS")]
    after: Option<u64>,
}

pub async fn run(file: Option<&Path>, options: &ReconcileOptions) -> anyhow::Result<ExitCode> {
    let operator = Operator::connect(file).await?;
    let mut settings = operator.settings.reconcile.clone();
    settings.stuck_after_seconds = options.after.unwrap_or(settings.stuck_after_seconds);
    let reconciler = Reconciler::new(operator.ledger.clone(), operator.publisher.clone(), settings);
    let findings = reconciler.find().await?;

    let mut found = table(&["lost message of", "overdue for", "published again before"]);
    for event in &findings.events {
        let what = format!("event {} ({})", event.key, event.state);
        found.add_row([what, times::duration(event.overdue), event.requeues.to_string()]);
    }
    for stuck in &findings.commands {
        let what = format!("write command {} for {}", stuck.id, stuck.record);
        found.add_row([what, times::duration(stuck.overdue), stuck.requeues.to_string()]);
    }
    if found.is_empty() {
        say!("no message is lost");
    } else {
        found.print();
    }
    if findings.maybe_queued > 0 {
        say!(
            "{} more are overdue, but the queues hold at least as many messages: theirs may be among them",
            findings.maybe_queued
        );
    }
    if options.yes {
        let repaired = reconciler.repair(&findings).await?;
        say!(
            "published again: {} events, {} write commands; parked: {}; payload not readable: {}",
            repaired.events,
            repaired.commands,
            repaired.parked,
            repaired.unreadable
        );
    } else if !found.is_empty() {
        say!("nothing was changed; run it with --yes to publish them again");
    }
    Ok(ExitCode::SUCCESS)
}
