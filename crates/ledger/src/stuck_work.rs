//! Which work has lost its message? Unfinished events and write commands that no message brings on.
//!
//! What is pending, and from when on it counts as stuck, is in the view `pending_work` and the function `stuck_work`
//! (migrations).

use std::time::Duration;

use domain::{EventId, EventState, Reason, RecordRef, WriteCommandId};
use serde_json::Value;
use uuid::Uuid;

use crate::{
    Ledger, LedgerError,
    column::EVENT_STATE,
    command_results::{end_events, lock_event_of},
    milliseconds,
    records::record,
    stored_detail,
};

/// An event that is claimed or waits, although its lease or its wait ended long ago.
#[derive(Debug, Clone, PartialEq)]
pub struct StuckEvent {
    /// Its id.
    pub id: EventId,
    /// Its key.
    pub key: String,
    /// Claimed or waiting.
    pub state: EventState,
    /// The event as HubSpot sent it.
    pub payload: Value,
    /// For how long it has been overdue.
    pub overdue: Duration,
    /// How often it was published again before.
    pub requeues: i32,
}

/// A write command that no writer holds, although its message should have come long ago.
#[derive(Debug, Clone, PartialEq)]
pub struct StuckCommand {
    /// Its id.
    pub id: WriteCommandId,
    /// The record that it is about.
    pub record: RecordRef,
    /// Whether a writer had it when its lease ended: the writer died, or the command killed it.
    pub was_taken: bool,
    /// For how long it has been overdue.
    pub overdue: Duration,
    /// How often it was published again before.
    pub requeues: i32,
}

impl Ledger {
    /// At most `max` claimed or waiting events that are overdue by more than `after`, the longest overdue first. An event
    /// that was published again is left out for twice as long each time: its message may only be behind many others.
    pub async fn stuck_events(&self, after: Duration, max: i64) -> Result<Vec<StuckEvent>, LedgerError> {
        let rows = sqlx::query!(
            r#"select e.id, e.event_key, e.state::text as "state!", e.payload, s.requeues as "requeues!",
                      s.overdue_seconds as "overdue_seconds!"
               from stuck_work('event', $1 * interval '1 millisecond', $2) s join event e on e.id = s.id
               order by s.overdue_seconds desc"#,
            milliseconds(after),
            max,
        )
        .fetch_all(&self.connections)
        .await?;
        let events = rows.into_iter().map(|row| {
            Ok(StuckEvent {
                id: EventId(row.id),
                key: row.event_key,
                state: EVENT_STATE.read(&row.state, EventState::parse)?,
                payload: row.payload,
                overdue: Duration::try_from_secs_f64(row.overdue_seconds).unwrap_or_default(),
                requeues: row.requeues,
            })
        });
        events.collect()
    }

    /// At most `max` unfinished write commands that are overdue by more than `after`, as in [`Ledger::stuck_events`].
    pub async fn stuck_commands(&self, after: Duration, max: i64) -> Result<Vec<StuckCommand>, LedgerError> {
        let rows = sqlx::query!(
            r#"select c.id, c.portal_id, c.object_type, c.object_id, c.state = 'sending' as "was_taken!",
                      s.requeues as "requeues!",
                      s.overdue_seconds as "overdue_seconds!"
               from stuck_work('write_command', $1 * interval '1 millisecond', $2) s join write_command c on c.id = s.id
               order by s.overdue_seconds desc"#,
            milliseconds(after),
            max,
        )
        .fetch_all(&self.connections)
        .await?;
        let stuck = rows.into_iter().map(|row| StuckCommand {
            id: WriteCommandId(row.id),
            record: record(row.portal_id, &row.object_type, row.object_id),
            was_taken: row.was_taken,
            overdue: Duration::try_from_secs_f64(row.overdue_seconds).unwrap_or_default(),
            requeues: row.requeues,
        });
        Ok(stuck.collect())
    }

    /// Records that events and write commands were published again. Rows are locked in the order of ids, as in every statement that
    /// changes several, so that two do not deadlock.
    pub async fn record_requeue(&self, events: &[Uuid], commands: &[Uuid]) -> Result<(), LedgerError> {
        sqlx::query!(
            "with locked as (select id from event where id = any($1::uuid[]) order by id for update)
             update event e set requeued_at = now(), requeues = e.requeues + 1 from locked where e.id = locked.id",
            events
        )
        .execute(&self.connections)
        .await?;
        sqlx::query!(
            "with locked as (select id from write_command where id = any($1::uuid[]) order by id for update)
             update write_command c set requeued_at = now(), requeues = c.requeues + 1 from locked where c.id = locked.id",
            commands
        )
        .execute(&self.connections)
        .await?;
        Ok(())
    }

    /// Parks an event that is claimed or waits, and whose lease or wait has ended. Returns `false`, and changes nothing, when a
    /// worker has claimed it since, or it has ended.
    pub async fn park_event(&self, id: EventId, reason: Reason, detail: &str) -> Result<bool, LedgerError> {
        let parked = sqlx::query!(
            "update event set state = 'parked', reason = $2, detail = $3, lease_expires_at = null
             where id = $1 and (state = 'claimed' and lease_expires_at < now()
                                or state = 'waiting' and coalesce(due_at, state_since) < now())",
            id.0,
            reason.as_str(),
            stored_detail(detail)
        )
        .execute(&self.connections)
        .await?;
        Ok(parked.rows_affected() == 1)
    }

    /// Parks a write command whose writer's lease has expired, and ends its event if that was its last one. Returns `false`,
    /// and changes nothing, when a writer has taken it since, or it has ended.
    pub async fn park_command(&self, id: WriteCommandId, reason: Reason, detail: &str) -> Result<bool, LedgerError> {
        let mut transaction = self.connections.begin().await?;
        lock_event_of(&mut transaction, id).await?;
        let event =
            sqlx::query_scalar!("select park_stuck_command($1, $2, $3)", id.0, reason.as_str(), stored_detail(detail))
                .fetch_one(&mut transaction)
                .await?;
        if let Some(event) = event {
            end_events(&mut transaction, &[event]).await?;
        }
        transaction.commit().await?;
        Ok(event.is_some())
    }
}
