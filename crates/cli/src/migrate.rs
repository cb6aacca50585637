//! `leadline migrate`: brings the ledger's schema up to date and declares the queues. With `--check` it only says whether a service of
//! this version finds what it needs, or waits until it does.

use std::{convert::Infallible, path::Path, process::ExitCode, time::Duration};

use anyhow::Context;
use ledger::{Ledger, LedgerError, MIGRATION_PATIENCE, MigrationWait};
use settings::{ConfigScope, Settings};
use tokio::time::Instant;

use crate::{
    print::{Progress, say},
    times::duration,
};

/// How often the ledger is asked whether it has been migrated.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// Whether the ledger has every migration that this version needs, at the latest after `wait`. Any program's user may ask, and nothing is
/// changed.
pub async fn check(file: Option<&Path>, wait: Duration) -> anyhow::Result<ExitCode> {
    let settings = Settings::load(file, ConfigScope::LedgerOnly)?;
    let ledger = bootstrap::connect_ledger(&settings, "leadline migrate --check")?;
    let (started, mut has_told) = (Instant::now(), false);
    while let Err(error) = ledger.check_migrations().await {
        let may_come = matches!(error, LedgerError::Schema { .. }) || error.is_away();
        let left = wait.saturating_sub(started.elapsed());
        if !may_come || left.is_zero() {
            return Err(error.into());
        }
        if !has_told {
            say!("{error}: waits for up to {}", duration(wait));
            has_told = true;
        }
        tokio::time::sleep(CHECK_INTERVAL.min(left)).await;
    }
    say!("the ledger has every migration that this version needs");
    Ok(ExitCode::SUCCESS)
}

pub async fn run(file: Option<&Path>) -> anyhow::Result<ExitCode> {
    let settings = Settings::load(file, ConfigScope::LedgerAndBroker)?;
    let retention = bootstrap::retention(&settings);
    let ledger = bootstrap::connect_ledger_to_migrate(&settings, "leadline migrate")?;
    let tell = |wait| {
        let what = match wait {
            MigrationWait::OtherMigration => "another process migrates the ledger: waits for it",
            MigrationWait::Table => "a table is in use: tries again",
        };
        say!("{what}, for up to {}", duration(MIGRATION_PATIENCE));
    };
    let migrated = tokio::select! {
        migrated = ledger.migrate_telling(retention, MIGRATION_PATIENCE, tell) => migrated,
        never = watch(&ledger) => match never {},
    };
    let has_roles = migrated.context("the ledger was not migrated")?;
    say!("the ledger's schema is up to date");
    say!(
        "prompts and answers are kept for {} days, ended events for {} (0: for ever)",
        retention.raw_days,
        retention.events_days
    );
    if has_roles {
        say!("the ledger's roles have their rights (deploy/postgres/grants.sql)");
    } else {
        say!("the ledger has no roles: run deploy/postgres/roles.sql so that no service may rewrite history");
    }
    let broker = bootstrap::broker_settings(&settings, "leadline migrate")?;
    broker::declare_topology(&broker).await.context("the queues were not declared")?;
    say!("RabbitMQ's queues are declared");
    Ok(ExitCode::SUCCESS)
}

/// How often it is looked how far the migration is.
const INTERVAL: Duration = Duration::from_millis(500);

/// Shows how many migrations are applied, until this is dropped.
async fn watch(ledger: &Ledger) -> Infallible {
    // A ledger that cannot be asked is migrated no worse.
    let before = ledger.pending_migrations().await.unwrap_or_default();
    let progress = Progress::start("migrations applied", before);
    loop {
        tokio::time::sleep(INTERVAL).await;
        if let Ok(pending) = ledger.pending_migrations().await {
            progress.tell(before.saturating_sub(pending));
        }
    }
}
