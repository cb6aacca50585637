//! "What was left behind?" — work that the ledger has begun and whose message is lost, and who looks for it.

use std::time::Duration;

use domain::{EventId, Reason, RecordRef, WriteCommand};
use serde_json::Value;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::{Ledger, LedgerError, Worker, milliseconds, records::record};

/// An event that is claimed or waits, although its lease or its wait ended long ago.
#[derive(Debug, Clone, PartialEq)]
pub struct StuckEvent {
    /// Its id.
    pub id: EventId,
    /// Its key.
    pub key: String,
    /// `claimed` or `waiting`.
    pub state: String,
    /// What HubSpot sent.
    pub payload: Value,
    /// For how long it has been overdue.
    pub overdue: Duration,
    /// How often it was published again before.
    pub requeues: i32,
}

/// A write command that is decided, taken or waits, although somebody should have it by now.
#[derive(Debug, Clone, PartialEq)]
pub struct StuckCommand {
    /// The command.
    pub command: WriteCommand,
    /// For how long it has been overdue.
    pub overdue: Duration,
    /// How often it was published again before.
    pub requeues: i32,
}

/// A property of a record that may hold an older value than the ledger's newest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LatestValue {
    /// The property.
    pub property: String,
    /// What it should hold.
    pub value: String,
    /// When the ledger recorded that.
    pub written_at: OffsetDateTime,
}

impl Ledger {
    /// Takes the lease on a task that one worker of the fleet does at a time, for `until` from now.
    pub async fn acquire_singleton_lease(
        &self,
        name: &str,
        worker: &Worker,
        until: Duration,
    ) -> Result<bool, LedgerError> {
        let taken = sqlx::query!(
            "insert into singleton_lease as d (name, holder, expires_at)
             values ($1, $2, clock_timestamp() + $3 * interval '1 millisecond')
             on conflict (name) do update set holder = excluded.holder, expires_at = excluded.expires_at
             where d.expires_at < clock_timestamp()",
            name,
            worker.0,
            milliseconds(until),
        )
        .execute(&self.pool)
        .await?;
        Ok(taken.rows_affected() == 1)
    }

    /// Events that are unfinished and overdue by more than `after`, the longest first. One that was published again is
    /// left alone for twice as long each time: its message may only be behind many others.
    pub async fn stuck_events(&self, after: Duration, limit: i64) -> Result<Vec<StuckEvent>, LedgerError> {
        let rows = sqlx::query!(
            r#"select id, event_key, state::text as "state!", payload, requeues,
                      extract(epoch from now() - due)::float8 as "overdue!"
               from (select e.*, case state when 'claimed' then lease_expires_at
                                            else coalesce(due_at, state_since) end as due
                     from event e where finished_at is null and state in ('claimed', 'waiting')) as unfinished
               where due < now() - $1 * interval '1 millisecond'
                 and (requeued_at is null
                      or requeued_at < now() - $1 * power(2, least(requeues, 8)) * interval '1 millisecond')
               order by due limit $2"#,
            milliseconds(after),
            limit,
        )
        .fetch_all(&self.pool)
        .await?;
        let events = rows.into_iter().map(|row| StuckEvent {
            id: EventId(row.id),
            key: row.event_key,
            state: row.state,
            payload: row.payload,
            overdue: Duration::try_from_secs_f64(row.overdue).unwrap_or_default(),
            requeues: row.requeues,
        });
        Ok(events.collect())
    }

    /// The same for write commands of decided events.
    pub async fn stuck_commands(&self, after: Duration, limit: i64) -> Result<Vec<StuckCommand>, LedgerError> {
        let rows = sqlx::query!(
            r#"select id, requeues, extract(epoch from now() - due)::float8 as "overdue!"
               from (select c.*, case state when 'recorded' then created_at when 'sending' then lease_expires_at
                                            else coalesce(due_at, created_at) end as due
                     from write_command c where finished_at is null) as unfinished
               where due < now() - $1 * interval '1 millisecond'
                 and (requeued_at is null
                      or requeued_at < now() - $1 * power(2, least(requeues, 8)) * interval '1 millisecond')
               order by due limit $2"#,
            milliseconds(after),
            limit,
        )
        .fetch_all(&self.pool)
        .await?;
        let ids: Vec<_> = rows.iter().map(|row| row.id).collect();
        let mut commands = self.commands(&ids).await?;
        let stranded = rows.into_iter().filter_map(|row| {
            let index = commands.iter().position(|command| command.id.0 == row.id)?;
            Some(StuckCommand {
                command: commands.swap_remove(index),
                overdue: Duration::try_from_secs_f64(row.overdue).unwrap_or_default(),
                requeues: row.requeues,
            })
        });
        Ok(stranded.collect())
    }

    /// Remembers that events or write commands were published again.
    pub async fn requeued(&self, events: &[Uuid], commands: &[Uuid]) -> Result<(), LedgerError> {
        sqlx::query!(
            "update event set requeued_at = now(), requeues = requeues + 1 where id = any($1::uuid[])",
            events
        )
        .execute(&self.pool)
        .await?;
        sqlx::query!(
            "update write_command set requeued_at = now(), requeues = requeues + 1 where id = any($1::uuid[])",
            commands
        )
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// Parks an event whose workers keep dying, if its lease is still the expired one.
    pub async fn give_up(&self, id: EventId, reason: Reason, detail: &str) -> Result<bool, LedgerError> {
        let parked = sqlx::query!(
            "update event set state = 'parked', reason = $2, detail = $3, lease_expires_at = null
             where id = $1 and state = 'claimed' and lease_expires_at < now()",
            id.0,
            reason.as_str(),
            detail
        )
        .execute(&self.pool)
        .await?;
        Ok(parked.rows_affected() == 1)
    }

    /// Records that a writer lost while a call was out: HubSpot may hold an older value than the ledger.
    pub async fn records_to_verify(&self, limit: i64) -> Result<Vec<RecordRef>, LedgerError> {
        let rows = sqlx::query!(
            "select portal_id, object_type, object_id from record_lease
             where verify and expires_at < now() order by expires_at limit $1",
            limit
        )
        .fetch_all(&self.pool)
        .await?;
        Ok(rows.into_iter().map(|row| record(row.portal_id, &row.object_type, row.object_id)).collect())
    }

    /// The newest value of each property that was ever written to a record, by the order of events.
    pub async fn newest_values(&self, of: &RecordRef) -> Result<Vec<LatestValue>, LedgerError> {
        let rows = sqlx::query_as!(
            LatestValue,
            "select distinct on (property) property, after as value, written_at from write
             where portal_id = $1 and object_type = $2 and object_id = $3
             order by property, occurred_at desc, event_key collate \"C\" desc",
            of.portal_id.0,
            of.object_type.type_id(),
            of.object_id.0,
        )
        .fetch_all(&self.pool)
        .await?;
        Ok(rows)
    }

    /// A record was verified under `worker`'s lease; it is free and as it should be.
    pub async fn verified(&self, of: &RecordRef, worker: &Worker) -> Result<(), LedgerError> {
        sqlx::query!(
            "delete from record_lease
             where portal_id = $1 and object_type = $2 and object_id = $3 and worker = $4",
            of.portal_id.0,
            of.object_type.type_id(),
            of.object_id.0,
            worker.0,
        )
        .execute(&self.pool)
        .await?;
        Ok(())
    }
}
