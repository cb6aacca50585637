//! `leadline playbook resume`: a version that is held back goes on as its file says.

use std::{path::Path, process::ExitCode};

use ledger::DriftEntry;

use crate::{
    operator,
    print::{self, Format, Table, column, say},
};

#[derive(clap::Args, Debug)]
pub struct ResumeOptions {
    /// The playbook: its name, or NAME@VERSION.
    #[arg(value_name = "NAME[@VERSION]")]
    playbook: String,
    /// Why it may go on, for the ledger.
    #[arg(long, value_name = "TEXT")]
    why: String,
    /// Do it. Without it, the command only shows why the playbook is held back.
    #[arg(long)]
    yes: bool,
    /// Who decides, for the ledger.
    #[arg(long, env = "USER", default_value = "operator")]
    by: String,
}

/// Shows why a version is held back and, with `--yes`, lets it go on. Fails when it is not, or when several are and none is named.
pub async fn run(config: Option<&Path>, options: &ResumeOptions) -> anyhow::Result<ExitCode> {
    let ledger = operator::ledger_only(config)?;
    let (playbook, version) = match options.playbook.split_once('@') {
        Some((playbook, version)) => (playbook, Some(version)),
        None => (options.playbook.as_str(), None),
    };
    let mut held = ledger.held_back().await?;
    held.retain(|DriftEntry { drift, .. }| {
        drift.playbook == playbook && version.is_none_or(|version| drift.version == version)
    });
    let Some(version) = held.first().map(|entry| entry.drift.version.clone()) else {
        anyhow::bail!("no version of `{}` is held back", options.playbook);
    };
    print::list(&table(&held), Format::default(), "")?;
    if held.iter().any(|entry| entry.drift.version != version) {
        anyhow::bail!("several versions are held back; name one: `{playbook}@{version}`");
    }
    if !options.yes {
        say!("nothing was resumed; run it with --yes to do it");
        return Ok(ExitCode::SUCCESS);
    }
    if !ledger.resume((playbook, &version), &options.by, &options.why).await? {
        anyhow::bail!("another operator has just resumed it");
    }
    say!("{playbook}@{version} goes on within {} seconds", inference::held_back::DRIFT_POLL.as_secs());
    Ok(ExitCode::SUCCESS)
}

/// Why versions are held back.
pub fn table(held: &[DriftEntry]) -> Table {
    let mut table = Table::new([
        column("playbook", "playbook"),
        column("version", "version"),
        column("rate", "rate"),
        column("answers", "answers"),
        column("at most", "bound"),
        column("model", "model"),
        column("since", "held_at"),
    ]);
    for DriftEntry { drift, held_at, .. } in held {
        table.add([
            drift.playbook.clone().into(),
            drift.version.clone().into(),
            drift.kind.as_str().into(),
            drift.rate.into(),
            format!("{} %", drift.bound_percent).into(),
            drift.model.clone().into(),
            (*held_at).into(),
        ]);
    }
    table
}
