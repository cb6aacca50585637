//! Which data may be deleted? Old data, and the data of a person who asks for it.
//!
//! The statements are functions of the ledger's owner (`migrations/`): no service may delete by itself, nor say what is old. The
//! owner says it when it migrates.

use domain::RecordRef;

use crate::{Ledger, LedgerError};

/// Tables with one partition per day.
const BY_DAY: [&str; 2] = ["inference_raw", "event_history"];

/// For how many days what is kept; 0: for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// Prompts and answers.
    pub raw_days: u32,
    /// Ended events with everything that belongs to them; not one day, because HubSpot delivers an event again for as long.
    pub events_days: u32,
}

/// How many rows about one record were emptied.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Erased {
    /// Events whose payload, key and record were erased.
    pub events: i64,
    /// Inferences whose prompt, answer and fields were erased.
    pub inferences: i64,
    /// Write commands whose values were erased.
    pub write_commands: i64,
    /// Values, written or skipped, that were erased.
    pub values: i64,
    /// Actions whose texts were erased.
    pub actions: i64,
}

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

    /// Says what is kept for how long. Only the ledger's owner may.
    pub(crate) async fn set_retention(&self, retention: Retention) -> Result<(), LedgerError> {
        let days = |days: u32| i32::try_from(days).unwrap_or(i32::MAX);
        sqlx::query!(
            "update retention set days = case of_table when 'inference_raw' then $1::int else $2::int end",
            days(retention.raw_days),
            days(retention.events_days)
        )
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// Drops the partitions of prompts and answers that are older than kept. Returns how many it dropped.
    pub async fn drop_raw_texts(&self) -> Result<i64, LedgerError> {
        self.drop_days("inference_raw").await
    }

    /// Drops the partitions of the history that are older than kept. Returns how many it dropped.
    pub async fn drop_history(&self) -> Result<i64, LedgerError> {
        self.drop_days("event_history").await
    }

    async fn drop_days(&self, table: &str) -> Result<i64, LedgerError> {
        let dropped =
            sqlx::query_scalar!(r#"select drop_day_partitions($1) as "dropped!""#, table).fetch_one(&self.pool).await?;
        Ok(i64::from(dropped))
    }

    /// Deletes at most `limit` ended events that are older than kept, with their inferences, charges, write commands and
    /// actions. Parked events are kept, however old, because they wait for an operator. Returns how many events it deleted.
    pub async fn delete_finished(&self, limit: i64) -> Result<u64, LedgerError> {
        let deleted = sqlx::query_scalar!(r#"select delete_finished_events($1) as "deleted!""#, limit)
            .fetch_one(&self.pool)
            .await?;
        Ok(u64::try_from(deleted).unwrap_or(0))
    }

    /// The number of unfinished or parked events that are about a record or have an inference about it. The record cannot
    /// be erased before they end.
    pub async fn unfinished_about(&self, record: &RecordRef) -> Result<i64, LedgerError> {
        let count = sqlx::query_scalar!(
            r#"select count(*) as "count!" from event e
               where (e.finished_at is null or e.state = 'parked')
                 and ((e.portal_id = $1 and e.object_type = $2 and e.object_id = $3)
                      or exists (select from inference i where i.event_id = e.id and i.portal_id = $1
                                   and i.object_type = $2 and i.object_id = $3))"#,
            record.portal_id.0,
            record.object_type.type_id(),
            record.object_id.0,
        )
        .fetch_one(&self.pool)
        .await?;
        Ok(count)
    }

    /// Erases everything that was read, asked, answered and written about a record, and the record's id. Of other records'
    /// inferences whose context had the record in it, it erases the prompt, the answer and the values that followed. The
    /// rows stay, so that counts, costs and times stay right.
    pub async fn erase(&self, record: &RecordRef) -> Result<Erased, LedgerError> {
        let (portal, kind, id) = (record.portal_id.0, record.object_type.type_id(), record.object_id.0);
        // In a prompt, every fact begins with the record that it is about.
        let mentioned = format!("%: {record}\\\\n%");
        let erased = sqlx::query_as!(
            Erased,
            r#"select events as "events!", inferences as "inferences!", write_commands as "write_commands!",
                      written_values as "values!", actions as "actions!"
               from erase_record($1, $2, $3, $4)"#,
            portal,
            kind,
            id,
            mentioned
        )
        .fetch_one(&self.pool)
        .await?;
        Ok(erased)
    }
}
