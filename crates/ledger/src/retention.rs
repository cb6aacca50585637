//! Which data may be deleted? Old data, and the data of a person who asks for it.
//!
//! The statements are functions of the ledger's owner (`migrations/`): no service may delete by itself, and the functions
//! refuse what is young.

use std::time::Duration;

use domain::RecordRef;

use crate::{Ledger, LedgerError, milliseconds};

/// Tables with one partition per day.
const BY_DAY: [&str; 2] = ["inference_raw", "event_history"];

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

impl Erased {
    fn add(&mut self, other: Self) {
        self.events += other.events;
        self.inferences += other.inferences;
        self.write_commands += other.write_commands;
        self.values += other.values;
        self.actions += other.actions;
    }
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

    /// Drops the partitions of prompts and answers whose day was over longer than `keep` ago, at least a day. Returns how
    /// many it dropped.
    pub async fn drop_raw_texts(&self, keep: Duration) -> Result<i64, LedgerError> {
        self.drop_days("inference_raw", keep).await
    }

    /// Drops the partitions of the history whose day was over longer than `keep` ago, at least two days. Returns how many
    /// it dropped.
    pub async fn drop_history(&self, keep: Duration) -> Result<i64, LedgerError> {
        self.drop_days("event_history", keep).await
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

    /// Erases everything that was read, asked, answered and written about a record, and the record's id; and the same of the
    /// records that were merged into it. Of other records' inferences whose context had the record in it, it erases the prompt,
    /// the answer and the values that followed. The rows stay, so that counts, costs and times stay right.
    pub async fn erase(&self, record: &RecordRef) -> Result<Erased, LedgerError> {
        let mut erased = Erased::default();
        for record in self.known_as(record).await? {
            erased.add(self.erase_one(&record).await?);
        }
        let (portal, kind, id) = (record.portal_id.0, record.object_type.type_id(), record.object_id.0);
        sqlx::query!("select erase_merges($1, $2, $3)", portal, kind, id).execute(&self.pool).await?;
        Ok(erased)
    }

    async fn erase_one(&self, record: &RecordRef) -> Result<Erased, LedgerError> {
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
