//! Deleting old data: whole days where a table is partitioned, small batches where it is not.

use std::time::Duration;

use ledger::{Ledger, LedgerError};
use settings::RetentionSection;

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

/// Makes partitions for the days ahead, and deletes what is older than the ledger was told to keep.
pub async fn prune(ledger: &Ledger, settings: &RetentionSection) -> Result<PruneCounts, LedgerError> {
    ledger.add_partitions(DAYS_AHEAD).await?;
    let (raw_days, history_days) = (ledger.drop_raw_texts().await?, ledger.drop_history().await?);
    let mut deleted = PruneCounts { raw_days, history_days, events: 0 };
    loop {
        let events = ledger.delete_finished(i64::from(settings.batch)).await?;
        deleted.events += events;
        if events < u64::from(settings.batch) {
            break;
        }
        // Short transactions with pauses between them, so that the fleet's own statements are not delayed.
        tokio::time::sleep(Duration::from_millis(settings.pause_ms)).await;
    }
    if deleted != PruneCounts::default() {
        tracing::info!(?deleted, "deleted old data");
    }
    Ok(deleted)
}
