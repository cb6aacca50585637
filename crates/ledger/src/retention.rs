//! Which data may be deleted? Old data; the data of a person who asks for it is in `erasure`.
//!
//! The statements are functions of the ledger's owner (`migrations/`): no service may delete by itself, nor say what is old. The
//! owner says it when it migrates.
//!
//! Each statement is about one partition, or a bounded number of rows. One that another process's lock keeps waiting is left for
//! the next time, so that no other waits behind it.

use sqlx::PgConnection;

use crate::{Ledger, LedgerError};

/// Tables with one partition per day.
const BY_DAY: [&str; 3] = ["inference_raw", "inference_record", "event_history"];

/// How many rows of a default partition one statement deletes.
const ROWS_AT_ONCE: i64 = 1_000;

/// For how many days what is kept; 0: for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// Prompts and answers.
    pub raw_days: u32,
    /// Ended events with everything that belongs to them; not one day, because HubSpot delivers an event again for as long.
    pub events_days: u32,
}

impl Ledger {
    /// Makes the partitions of today and the next `ahead` days that do not exist. Returns how many it made.
    pub async fn add_partitions(&self, ahead: i32) -> Result<i64, LedgerError> {
        let mut added = 0;
        for table in BY_DAY {
            for day in 0..=ahead {
                let is_added = sqlx::query_scalar!(r#"select add_day_partition($1, $2) as "added!""#, table, day);
                added += i64::from(unless_locked(is_added.fetch_one(&self.maintenance).await)?.unwrap_or(false));
            }
        }
        Ok(added)
    }

    /// Drops the partitions of prompts and answers that are older than kept. Returns how many it dropped.
    pub async fn drop_raw_texts(&self) -> Result<i64, LedgerError> {
        self.drop_days("inference_raw").await
    }

    /// Drops the partitions of the history, and of what inferences read, that are older than kept. Returns how many it dropped.
    pub async fn drop_history(&self) -> Result<i64, LedgerError> {
        Ok(self.drop_days("event_history").await? + self.drop_days("inference_record").await?)
    }

    async fn drop_days(&self, table: &str) -> Result<i64, LedgerError> {
        loop {
            let deleted =
                sqlx::query_scalar!(r#"select delete_default_rows($1, $2) as "deleted!""#, table, ROWS_AT_ONCE);
            if unless_locked(deleted.fetch_one(&self.maintenance).await)?.unwrap_or(0) < ROWS_AT_ONCE {
                break;
            }
        }
        let mut dropped = 0;
        loop {
            let is_dropped = sqlx::query_scalar!(r#"select drop_oldest_day($1) as "dropped!""#, table);
            if !unless_locked(is_dropped.fetch_one(&self.maintenance).await)?.unwrap_or(false) {
                return Ok(dropped);
            }
            dropped += 1;
        }
    }

    /// Deletes at most `limit` ended events that are older than kept, with their inferences, charges, write commands and
    /// actions. Parked events are kept, however old, because they wait for an operator. Returns how many events it deleted.
    pub async fn delete_finished(&self, limit: i64) -> Result<u64, LedgerError> {
        let deleted = sqlx::query_scalar!(r#"select delete_finished_events($1) as "deleted!""#, limit);
        let deleted = unless_locked(deleted.fetch_one(&self.maintenance).await)?;
        Ok(deleted.and_then(|deleted| u64::try_from(deleted).ok()).unwrap_or(0))
    }
}

/// Says what is kept for how long. Only the ledger's owner may.
pub(crate) async fn say(owner: &mut PgConnection, retention: Retention) -> Result<(), LedgerError> {
    let days = |days: u32| i32::try_from(days).unwrap_or(i32::MAX);
    sqlx::query!(
        "update retention set days = case of_table when 'inference_raw' then $1::int else $2::int end",
        days(retention.raw_days),
        days(retention.events_days)
    )
    .execute(owner)
    .await?;
    Ok(())
}

/// What a statement returned; `None` when it waited for another process's lock in vain.
fn unless_locked<T>(result: Result<T, sqlx::Error>) -> Result<Option<T>, LedgerError> {
    match result.map_err(LedgerError::from) {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.is_locked() => Ok(None),
        Err(error) => Err(error),
    }
}
