//! Deleting old data: whole days where a table is partitioned, small batches where it is not.

use std::time::Duration;

use ledger::{Ledger, LedgerError};

/// How many days ahead partitions are made. A fleet may be stopped for that long without harm.
const DAYS_AHEAD: i32 = 7;

/// What was deleted.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct PruneCounts {
    /// Days of raw prompts and answers.
    pub raw_days: i64,
    /// Days of history.
    pub history_days: i64,
    /// Events, with all rows that belong to them.
    pub events: u64,
}

/// Makes partitions for the days ahead, and deletes what is older than the settings keep.
pub async fn prune(ledger: &Ledger, settings: &settings::RetentionSection) -> Result<PruneCounts, LedgerError> {
    let days = |days: u32| (days > 0).then(|| Duration::from_secs(86_400 * u64::from(days)));
    let mut deleted = PruneCounts::default();
    ledger.add_partitions(DAYS_AHEAD).await?;
    if let Some(keep) = days(settings.raw_days) {
        deleted.raw_days = ledger.drop_raw_texts(keep).await?;
    }
    if let Some(keep) = days(settings.events_days) {
        deleted.history_days = ledger.drop_history(keep).await?;
        loop {
            let events = ledger.delete_finished(keep, i64::from(settings.batch)).await?;
            deleted.events += events;
            if events < u64::from(settings.batch) {
                break;
            }
            // Short transactions with pauses between them, so that the fleet's own statements are not delayed.
            tokio::time::sleep(Duration::from_millis(settings.pause_ms)).await;
        }
    }
    if deleted != PruneCounts::default() {
        tracing::info!(?deleted, "deleted old data");
    }
    Ok(deleted)
}
