//! Letting old data go: whole days where a table is partitioned, small batches where it is not.

use std::time::Duration;

use ledger::{Ledger, LedgerError};

/// Days for which there are partitions ahead of time; a fleet may stand still for so long without harm.
const DAYS_AHEAD: i32 = 7;

/// What went.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct PruneCounts {
    /// Days of raw prompts and answers.
    pub raw_days: i64,
    /// Days of history.
    pub history_days: i64,
    /// Events, with what belongs to them.
    pub events: u64,
}

/// Makes partitions for the days ahead, and lets go what is older than the settings keep.
pub async fn prune(ledger: &Ledger, settings: &settings::RetentionSection) -> Result<PruneCounts, LedgerError> {
    let days = |days: u32| (days > 0).then(|| Duration::from_secs(86_400 * u64::from(days)));
    let mut gone = PruneCounts::default();
    ledger.add_partitions(DAYS_AHEAD).await?;
    if let Some(keep) = days(settings.raw_days) {
        gone.raw_days = ledger.drop_raw(keep).await?;
    }
    if let Some(keep) = days(settings.events_days) {
        gone.history_days = ledger.drop_history(keep).await?;
        loop {
            let deleted = ledger.delete_finished(keep, i64::from(settings.batch)).await?;
            gone.events += deleted;
            if deleted < u64::from(settings.batch) {
                break;
            }
            // Short transactions with room between them: the fleet goes on meanwhile.
            tokio::time::sleep(Duration::from_millis(settings.pause_ms)).await;
        }
    }
    if gone != PruneCounts::default() {
        tracing::info!(?gone, "old data went");
    }
    Ok(gone)
}
