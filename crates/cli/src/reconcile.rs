//! `leadline reconcile`: what was left behind, and taking it up again.

use std::{path::Path, process::ExitCode};

use domain::ObjectType;
use maintenance::Reconciler;

use crate::{
    operator::{Operator, table},
    when,
};

/// What it can be told.
#[derive(clap::Args)]
pub struct Options {
    /// Take up again what was found; without it, it is only shown.
    #[arg(long)]
    yes: bool,
    /// Overdue for so many seconds counts as lost; the setting reconcile.stuck_after_seconds by default.
    #[arg(long, value_name = "SECONDS")]
    after: Option<u64>,
}

/// Finds, shows, and with `--yes` repairs.
pub async fn run(file: Option<&Path>, options: &Options) -> anyhow::Result<ExitCode> {
    let operator = Operator::connect(file).await?;
    let mut settings = operator.settings.reconcile.clone();
    settings.stuck_after_seconds = options.after.unwrap_or(settings.stuck_after_seconds);
    let reconciler = Reconciler::new(operator.ledger.clone(), operator.publisher.clone(), settings);
    let findings = reconciler.find().await?;

    let mut found = table(&["what", "overdue", "published again before"]);
    for event in &findings.events {
        let what = format!("event {} ({})", event.key, event.state);
        found.add_row([what, when::long(event.overdue), event.requeues.to_string()]);
    }
    for stranded in &findings.commands {
        let command = &stranded.command;
        let kind = ObjectType::name(&command.record.object_type);
        let what = format!("write command {} of {kind}/{}", command.id, command.record.object_id);
        found.add_row([what, when::long(stranded.overdue), stranded.requeues.to_string()]);
    }
    if findings.events.is_empty() && findings.commands.is_empty() {
        println!("nothing was left behind");
    } else {
        println!("{found}");
    }
    if findings.maybe_queued > 0 {
        println!(
            "{} more are overdue, but the queues hold as many messages: they may be among them",
            findings.maybe_queued
        );
    }
    if options.yes {
        let repaired = reconciler.repair(&findings).await?;
        println!(
            "published again: {} events, {} write commands; parked: {}; without a readable payload: {}",
            repaired.events, repaired.commands, repaired.parked, repaired.unreadable
        );
    } else if !(findings.events.is_empty() && findings.commands.is_empty()) {
        println!("nothing was changed; --yes publishes them again");
    }
    Ok(ExitCode::SUCCESS)
}
