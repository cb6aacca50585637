//! Which data may be deleted? Old data, and the data of a person who asks for it.

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

    /// Drops the partitions of prompts and answers whose day was over longer than `keep` ago. Returns how many it dropped.
    pub async fn drop_raw_texts(&self, keep: Duration) -> Result<i64, LedgerError> {
        let dropped = self.drop_days("inference_raw", keep).await?;
        sqlx::query!(
            "delete from inference_raw_default where created_at < now() - $1 * interval '1 millisecond'",
            milliseconds(keep)
        )
        .execute(&self.pool)
        .await?;
        Ok(dropped)
    }

    /// Drops the partitions of the history whose day was over longer than `keep` ago, and deletes outages that were over by
    /// then. Returns how many partitions it dropped.
    pub async fn drop_history(&self, keep: Duration) -> Result<i64, LedgerError> {
        let dropped = self.drop_days("event_history", keep).await?;
        sqlx::query!(
            "delete from event_history_default where at < now() - $1 * interval '1 millisecond'",
            milliseconds(keep)
        )
        .execute(&self.pool)
        .await?;
        sqlx::query!("delete from outage where closed_at < now() - $1 * interval '1 millisecond'", milliseconds(keep))
            .execute(&self.pool)
            .await?;
        Ok(dropped)
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

    /// Deletes at most `limit` events that ended longer than `keep` ago, with their inferences, charges, write commands and
    /// actions. Parked events are kept, however old, because they wait for an operator. Returns how many events it deleted.
    pub async fn delete_finished(&self, keep: Duration, limit: i64) -> Result<u64, LedgerError> {
        let mut transaction = self.begin().await?;
        let events = sqlx::query_scalar!(
            "select id from event
             where finished_at < now() - $1 * interval '1 millisecond' and state <> 'parked'
             order by finished_at limit $2 for update skip locked",
            milliseconds(keep),
            limit
        )
        .fetch_all(&mut *transaction)
        .await?;
        if events.is_empty() {
            return Ok(0);
        }
        let commands = sqlx::query_scalar!("select id from write_command where event_id = any($1::uuid[])", &events)
            .fetch_all(&mut *transaction)
            .await?;
        sqlx::query!("delete from write where write_command_id = any($1::uuid[])", &commands)
            .execute(&mut *transaction)
            .await?;
        sqlx::query!("delete from skipped_write where write_command_id = any($1::uuid[])", &commands)
            .execute(&mut *transaction)
            .await?;
        sqlx::query!("delete from action where write_command_id = any($1::uuid[])", &commands)
            .execute(&mut *transaction)
            .await?;
        sqlx::query!("delete from write_command where id = any($1::uuid[])", &commands)
            .execute(&mut *transaction)
            .await?;
        sqlx::query!(
            "delete from inference_raw r using inference i
             where i.event_id = any($1::uuid[]) and r.inference_id = i.id and r.created_at = i.created_at",
            &events
        )
        .execute(&mut *transaction)
        .await?;
        sqlx::query!("delete from charge where event_id = any($1::uuid[])", &events).execute(&mut *transaction).await?;
        sqlx::query!("delete from inference where event_id = any($1::uuid[])", &events)
            .execute(&mut *transaction)
            .await?;
        let deleted =
            sqlx::query!("delete from event where id = any($1::uuid[])", &events).execute(&mut *transaction).await?;
        transaction.commit().await?;
        Ok(deleted.rows_affected())
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
        let mut transaction = self.begin().await?;
        // In a prompt, every fact begins with the record that it is about.
        let mentioned = format!("%: {record}\\\\n%");
        let inferences = sqlx::query_scalar!(
            "select i.id from inference i
             where (i.portal_id = $1 and i.object_type = $2 and i.object_id = $3)
                or i.event_id in (select i.event_id from inference i
                                  join inference_raw r on r.inference_id = i.id and r.created_at = i.created_at
                                  where i.portal_id = $1 and r.prompt::text like $4)",
            portal,
            kind,
            id,
            mentioned
        )
        .fetch_all(&mut *transaction)
        .await?;
        sqlx::query!("delete from inference_raw where inference_id = any($1::uuid[])", &inferences)
            .execute(&mut *transaction)
            .await?;
        let commands = sqlx::query_scalar!(
            "update write_command c set properties = '[]', detail = null,
                    object_id = case when c.object_type = $2 and c.object_id = $3 then 0 else c.object_id end,
                    event_key = 'erased:' || c.event_id
             where c.inference_id = any($4::uuid[]) or (c.portal_id = $1 and c.object_type = $2 and c.object_id = $3)
             returning c.id",
            portal,
            kind,
            id,
            &inferences
        )
        .fetch_all(&mut *transaction)
        .await?;
        let values = sqlx::query!(
            "update write set before = null, after = '(erased)', event_key = 'erased:' || write_command_id,
                    object_id = case when object_type = $1 and object_id = $2 then 0 else object_id end
             where write_command_id = any($3::uuid[])",
            kind,
            id,
            &commands
        )
        .execute(&mut *transaction)
        .await?
        .rows_affected();
        let skipped = sqlx::query!(
            "update skipped_write set current_value = null, proposed_value = '(erased)'
             where write_command_id = any($1::uuid[])",
            &commands
        )
        .execute(&mut *transaction)
        .await?
        .rows_affected();
        let actions = sqlx::query!(
            "update action set spec = jsonb_build_object('kind', kind, 'erased', true), detail = null, hubspot_id = null
             where write_command_id = any($1::uuid[])",
            &commands
        )
        .execute(&mut *transaction)
        .await?
        .rows_affected();
        let events = sqlx::query!(
            "update event e set payload = '{\"erased\": true}', detail = null, event_key = 'erased:' || e.id,
                    object_id = null
             where (e.portal_id = $1 and e.object_type = $2 and e.object_id = $3)
                or exists (select from inference i where i.event_id = e.id and i.portal_id = $1
                             and i.object_type = $2 and i.object_id = $3)",
            portal,
            kind,
            id
        )
        .execute(&mut *transaction)
        .await?
        .rows_affected();
        sqlx::query!(
            "update inference set fields = null, unverified = '{}', context_hash = null,
                    object_id = case when object_type = $1 and object_id = $2 then 0 else object_id end
             where id = any($3::uuid[])",
            kind,
            id,
            &inferences
        )
        .execute(&mut *transaction)
        .await?;
        sqlx::query!(
            "update charge set object_id = 0 where portal_id = $1 and object_type = $2 and object_id = $3",
            portal,
            kind,
            id
        )
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await?;
        let count = |rows: u64| i64::try_from(rows).unwrap_or(i64::MAX);
        Ok(Erased {
            events: count(events),
            inferences: count(inferences.len() as u64),
            write_commands: count(commands.len() as u64),
            values: count(values + skipped),
            actions: count(actions),
        })
    }
}
