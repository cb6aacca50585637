//! `leadline reconcile`: finds events and write commands whose message is lost, and publishes them again.

use std::{path::Path, process::ExitCode};

use maintenance::{ReconcileFindings, Reconciler};

use crate::{
    operator::Operator,
    print::{self, Cell, Format, Progress, Table, column},
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
    #[command(flatten)]
    format: Format,
}

pub async fn run(file: Option<&Path>, options: &ReconcileOptions) -> anyhow::Result<ExitCode> {
    let operator = Operator::connect(file).await?;
    let mut settings = operator.settings.reconcile.clone();
    settings.stuck_after_seconds = options.after.unwrap_or(settings.stuck_after_seconds);
    let reconciler = Reconciler::new(operator.ledger.clone(), operator.publisher.clone(), settings);
    let progress = Progress::start("looks for what lost its message", 0);
    let findings = reconciler.find().await?;
    drop(progress);
    let found = findings_table(&findings);
    print::list(&found, options.format, "no message is lost")?;
    // The JSON is what was found; what is done about it is for people.
    let tell = |line: String| if options.format.json { print::error(line) } else { print::line(line) };
    if findings.maybe_queued > 0 {
        tell(format!(
            "{} more are overdue, but the queues hold at least as many messages: theirs may be among them",
            findings.maybe_queued
        ));
    }
    if options.yes {
        let progress = Progress::start("published again", findings.events.len() + findings.commands.len());
        let repaired = reconciler.repair_telling(&findings, |done| progress.tell(done)).await?;
        drop(progress);
        tell(format!(
            "published again: {} events, {} write commands; parked: {}; payload not readable: {}",
            repaired.events, repaired.commands, repaired.parked, repaired.unreadable
        ));
    } else if !found.is_empty() {
        tell("nothing was changed; run it with --yes to publish them again".to_owned());
    }
    Ok(ExitCode::SUCCESS)
}

fn findings_table(findings: &ReconcileFindings) -> Table {
    let mut table = Table::new([
        column("lost message of", "what"),
        column("id", "id").whole(),
        column("state", "state"),
        column("overdue for", "overdue_seconds"),
        column("published again before", "requeues"),
    ]);
    for event in &findings.events {
        table.add([
            "event".into(),
            event.key.clone().into(),
            event.state.into(),
            event.overdue.into(),
            event.requeues.into(),
        ]);
    }
    for stuck in &findings.commands {
        table.add([
            format!("write command for {}", stuck.record).into(),
            stuck.id.to_string().into(),
            Cell::Empty,
            stuck.overdue.into(),
            stuck.requeues.into(),
        ]);
    }
    table
}
