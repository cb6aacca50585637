//! "What lies in the parking lot, and may it go on?" — the operator's questions about what is parked.

use domain::WriteCommand;
use serde_json::Value;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::{Ledger, LedgerError};

/// What the ledger knows about something that is parked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParkedEntry {
    /// The event.
    pub event_id: Uuid,
    /// Its key.
    pub event_key: String,
    /// `events`: it failed on its way to a decision; `writes`: a write command of it failed.
    pub stage: String,
    /// The write command, for `writes`.
    pub write_command_id: Option<Uuid>,
    /// The playbook, where one is to blame.
    pub playbook: Option<String>,
    /// Why, in `snake_case`.
    pub reason: Option<String>,
    /// Why, in words.
    pub detail: Option<String>,
    /// The record's kind, as HubSpot's type id.
    pub object_type: String,
    /// The record's id.
    pub object_id: Option<i64>,
    /// Since when.
    pub parked_at: Option<OffsetDateTime>,
}

/// Where an event stands that an operator wants to have published again.
#[derive(Debug, Clone, PartialEq)]
pub struct EventToRequeue {
    /// Its id.
    pub id: Uuid,
    /// Its key.
    pub key: String,
    /// Its state.
    pub state: String,
    /// Whether a live worker has it.
    pub is_leased: bool,
    /// What HubSpot sent.
    pub payload: Value,
    /// Its unfinished write commands.
    pub commands: Vec<WriteCommand>,
}

impl Ledger {
    /// Everything that is parked, oldest first.
    pub async fn parked(&self) -> Result<Vec<ParkedEntry>, LedgerError> {
        let entries = sqlx::query_as!(
            ParkedEntry,
            r#"select event_id as "event_id!", event_key as "event_key!", stage as "stage!", write_command_id, playbook,
                      reason, detail, object_type as "object_type!", object_id, parked_at
               from parked order by parked_at, event_key"#
        )
        .fetch_all(&self.pool)
        .await?;
        Ok(entries)
    }

    /// Lets a parked event wait for its turn again. Says whether it was parked: only then is it to be published.
    pub async fn replay_event(&self, event_key: &str) -> Result<bool, LedgerError> {
        let replayed = sqlx::query!(
            "update event set state = 'waiting', reason = 'replayed', detail = null, due_at = now(), requeues = 0
             where event_key = $1 and state = 'parked'",
            event_key
        )
        .execute(&self.pool)
        .await?;
        Ok(replayed.rows_affected() == 1)
    }

    /// Lets a parked write command be carried out again, with its actions that were parked. Says whether it was parked.
    pub async fn replay_command(&self, id: Uuid) -> Result<bool, LedgerError> {
        let mut transaction = self.pool.begin().await?;
        // The event first, as everywhere.
        sqlx::query!(
            "select id from event where id = (select event_id from write_command where id = $1) for update",
            id
        )
        .fetch_optional(&mut *transaction)
        .await?;
        let event = sqlx::query_scalar!(
            "update write_command
             set state = 'recorded', finished_at = null, reason = null, detail = null, due_at = null,
                 created_at = now(), requeues = 0
             where id = $1 and state = 'parked' returning event_id",
            id
        )
        .fetch_optional(&mut *transaction)
        .await?;
        if let Some(event) = event {
            // Parked without having been begun, or refused for good: either way it was not done.
            sqlx::query!(
                "update action set state = 'intended', sending_since = null, finished_at = null, reason = null, detail = null
                 where write_command_id = $1 and state = 'parked'",
                id
            )
            .execute(&mut *transaction)
            .await?;
            sqlx::query!(
                "update event e set state = 'decided', reason = null, detail = null
                 where e.id = $1 and e.state = 'parked'
                   and coalesce((select h.from_state from event_history h where h.event_id = e.id
                                 order by h.id desc limit 1) = 'decided', true)",
                event
            )
            .execute(&mut *transaction)
            .await?;
        }
        transaction.commit().await?;
        Ok(event.is_some())
    }

    /// Gives a parked event up: it is dropped as `discarded`, and so is what is parked of it. Says whether it was parked.
    pub async fn discard_event(&self, event_key: &str) -> Result<bool, LedgerError> {
        let mut transaction = self.pool.begin().await?;
        let event = sqlx::query_scalar!(
            "update event set state = 'dropped', reason = 'discarded'
             where event_key = $1 and state = 'parked' returning id",
            event_key
        )
        .fetch_optional(&mut *transaction)
        .await?;
        if let Some(event) = event {
            sqlx::query!(
                "update write_command set state = 'dropped', reason = 'discarded'
                 where event_id = $1 and state = 'parked'",
                event
            )
            .execute(&mut *transaction)
            .await?;
        }
        transaction.commit().await?;
        Ok(event.is_some())
    }

    /// Gives a parked write command up, and its event if that was parked because of it. Says whether it was parked.
    pub async fn discard_command(&self, id: Uuid) -> Result<bool, LedgerError> {
        let mut transaction = self.pool.begin().await?;
        let event = sqlx::query_scalar!(
            "update write_command set state = 'dropped', reason = 'discarded'
             where id = $1 and state = 'parked' returning event_id",
            id
        )
        .fetch_optional(&mut *transaction)
        .await?;
        if let Some(event) = event {
            sqlx::query!(
                "update event e set state = 'dropped', reason = 'discarded'
                 where e.id = $1 and e.state = 'parked'
                   and not exists (select from write_command c where c.event_id = e.id and c.state = 'parked')",
                event
            )
            .execute(&mut *transaction)
            .await?;
        }
        transaction.commit().await?;
        Ok(event.is_some())
    }

    /// An event by its key or id, with what is needed to publish it again; `None` when the ledger does not know it.
    pub async fn event_to_requeue(&self, key_or_id: &str) -> Result<Option<EventToRequeue>, LedgerError> {
        let id = Uuid::parse_str(key_or_id).ok();
        let Some(row) = sqlx::query!(
            r#"select id, event_key, state::text as "state!", payload,
                      coalesce(lease_expires_at > now(), false) as "is_leased!"
               from event where event_key = $1 or id = $2"#,
            key_or_id,
            id
        )
        .fetch_optional(&self.pool)
        .await?
        else {
            return Ok(None);
        };
        let commands = self.unfinished_commands_of(&[row.id]).await?.remove(&row.id).unwrap_or_default();
        Ok(Some(EventToRequeue {
            id: row.id,
            key: row.event_key,
            state: row.state,
            is_leased: row.is_leased,
            payload: row.payload,
            commands,
        }))
    }
}
