//! Which data may be deleted? Old data; the data of a person who asks for it is in `erasure`.
//!
//! The statements are functions of the ledger's owner (`migrations/`): no service may delete by itself, and the functions
//! refuse what is young.

use std::time::Duration;

use crate::{Ledger, LedgerError, milliseconds};

/// Tables with one partition per day.
const BY_DAY: [&str; 3] = ["inference_raw", "inference_record", "event_history"];

impl Ledger {
    /// Makes the partitions of today and the next `ahead` days that do not exist. Returns how many it made.
    pub async fn add_partitions(&self, ahead: i32) -> Result<i64, LedgerError> {
        let mut added = 0;
        for table in BY_DAY {
            added += i64::from(
                sqlx::query_scalar!(r#"select add_day_partitions($1, $2) as "added!""#, table, ahead)
                    .fetch_one(&self.pool)
                    .await?,
            );
        }
        Ok(added)
    }

    /// Drops the partitions of prompts and answers whose day was over longer than `keep` ago, at least a day. Returns how
    /// many it dropped.
    pub async fn drop_raw_texts(&self, keep: Duration) -> Result<i64, LedgerError> {
        self.drop_days("inference_raw", keep).await
    }

    /// Drops the partitions of the history, and of what inferences read, whose day was over longer than `keep` ago, at least
    /// two days. Returns how many it dropped.
    pub async fn drop_history(&self, keep: Duration) -> Result<i64, LedgerError> {
        Ok(self.drop_days("event_history", keep).await? + self.drop_days("inference_record", keep).await?)
    }

    async fn drop_days(&self, table: &str, keep: Duration) -> Result<i64, LedgerError> {
        let dropped = sqlx::query_scalar!(
            r#"select drop_day_partitions($1, now() - $2 * interval '1 millisecond') as "dropped!""#,
            table,
            milliseconds(keep)
        )
        .fetch_one(&self.pool)
        .await?;
        Ok(i64::from(dropped))
    }

    /// Deletes at most `limit` events that ended longer than `keep` ago, at least two days, with their inferences, charges,
    /// write commands and actions. Parked events are kept, however old, because they wait for an operator. Returns how many
    /// events it deleted.
    pub async fn delete_finished(&self, keep: Duration, limit: i64) -> Result<u64, LedgerError> {
        let deleted = sqlx::query_scalar!(
            r#"select delete_finished_events(now() - $1 * interval '1 millisecond', $2) as "deleted!""#,
            milliseconds(keep),
            limit
        )
        .fetch_one(&self.pool)
        .await?;
        Ok(u64::try_from(deleted).unwrap_or(0))
    }
}
