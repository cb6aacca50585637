//! What is parked, and may it go on? The operator's replays and discards.

use domain::{EventState, Reason, WriteCommandId};
use serde_json::Value;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::{
    Ledger, LedgerError,
    column::{Column, EVENT_STATE},
    command_results::lock_event_of,
};

const PARKED_STAGE: Column = Column::new("parked", "stage");
const PARKED_REASON: Column = Column::new("parked", "reason");

/// Where something failed that is parked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ParkedStage {
    /// The event, before a decision.
    Events,
    /// A write command.
    Writes,
}

impl ParkedStage {
    /// The name in the view `parked`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Events => "events",
            Self::Writes => "writes",
        }
    }

    /// The stage with this name.
    pub fn parse(name: &str) -> Option<Self> {
        [Self::Events, Self::Writes].into_iter().find(|stage| stage.as_str() == name)
    }
}

/// Something that is parked, with one field for each column of the view `parked`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParkedEntry {
    /// The event.
    pub event_id: Uuid,
    /// Its key.
    pub event_key: String,
    /// Where it failed.
    pub stage: ParkedStage,
    /// The write command, for [`ParkedStage::Writes`].
    pub write_command_id: Option<Uuid>,
    /// The playbook that failed, if one did.
    pub playbook: Option<String>,
    /// Why it is parked.
    pub reason: Option<Reason>,
    /// The reason in words.
    pub detail: Option<String>,
    /// The record's kind, as HubSpot's type id.
    pub object_type: String,
    /// The record's id.
    pub object_id: Option<i64>,
    /// When it was parked.
    pub parked_at: Option<OffsetDateTime>,
}

/// An event, with what is needed to publish it or its write commands again.
#[derive(Debug, Clone, PartialEq)]
pub struct EventToRequeue {
    /// Its id.
    pub id: Uuid,
    /// Its key.
    pub key: String,
    /// Its state.
    pub state: EventState,
    /// Whether a worker holds it under a lease that has not expired.
    pub is_leased: bool,
    /// The event as HubSpot sent it.
    pub payload: Value,
    /// Its unfinished write commands.
    pub commands: Vec<WriteCommandId>,
}

impl Ledger {
    /// Everything that is parked, oldest first.
    pub async fn parked(&self) -> Result<Vec<ParkedEntry>, LedgerError> {
        let rows = sqlx::query!(
            r#"select event_id as "event_id!", event_key as "event_key!", stage as "stage!", write_command_id, playbook,
                      reason, detail, object_type as "object_type!", object_id, parked_at
               from parked order by parked_at, event_key"#
        )
        .fetch_all(&self.connections)
        .await?;
        let entries = rows.into_iter().map(|row| {
            Ok(ParkedEntry {
                event_id: row.event_id,
                event_key: row.event_key,
                stage: PARKED_STAGE.read(&row.stage, ParkedStage::parse)?,
                write_command_id: row.write_command_id,
                playbook: row.playbook,
                reason: PARKED_REASON.read_reason(row.reason.as_deref())?,
                detail: row.detail,
                object_type: row.object_type,
                object_id: row.object_id,
                parked_at: row.parked_at,
            })
        });
        entries.collect()
    }

    /// Makes a parked event wait again, for the message that the operator publishes next. Returns whether it was parked:
    /// only then is it to be published.
    pub async fn replay_event(&self, event_key: &str) -> Result<bool, LedgerError> {
        let replayed = sqlx::query!(
            "update event set state = 'waiting', reason = $2, detail = null, due_at = now(), requeues = 0, age_since = now()
             where event_key = $1 and state = 'parked'",
            event_key,
            Reason::Replayed.as_str()
        )
        .execute(&self.connections)
        .await?;
        Ok(replayed.rows_affected() == 1)
    }

    /// Makes a parked write command, and its parked actions, ready to be carried out again. Returns whether it was parked.
    pub async fn replay_command(&self, id: WriteCommandId) -> Result<bool, LedgerError> {
        let mut transaction = self.connections.begin().await?;
        lock_event_of(&mut transaction, id).await?;
        let event = sqlx::query_scalar!(
            "update write_command
             set state = 'recorded', finished_at = null, reason = null, detail = null, due_at = null,
                 created_at = now(), requeues = 0
             where id = $1 and state = 'parked' returning event_id",
            id.0
        )
        .fetch_optional(&mut transaction)
        .await?;
        if let Some(event) = event {
            // A parked action was either never begun or rejected for good, so it was not done.
            sqlx::query!(
                "update action set state = 'intended', sending_since = null, finished_at = null, reason = null, detail = null
                 where write_command_id = $1 and state = 'parked'",
                id.0
            )
            .execute(&mut transaction)
            .await?;
            sqlx::query!("update event set age_since = now() where id = $1", event).execute(&mut transaction).await?;
            sqlx::query!(
                "update event e set state = 'decided', reason = null, detail = null
                 where e.id = $1 and e.state = 'parked'
                   and coalesce((select h.from_state from event_history h where h.event_id = e.id
                                 order by h.id desc limit 1) = 'decided', true)",
                event
            )
            .execute(&mut transaction)
            .await?;
        }
        transaction.commit().await?;
        Ok(event.is_some())
    }

    /// Drops a parked event, and its parked write commands, as discarded. Returns whether it was parked.
    pub async fn discard_event(&self, event_key: &str) -> Result<bool, LedgerError> {
        let mut transaction = self.connections.begin().await?;
        let event = sqlx::query_scalar!(
            "update event set state = 'dropped', reason = $2
             where event_key = $1 and state = 'parked' returning id",
            event_key,
            Reason::Discarded.as_str()
        )
        .fetch_optional(&mut transaction)
        .await?;
        if let Some(event) = event {
            sqlx::query!(
                "update write_command set state = 'dropped', reason = $2 where event_id = $1 and state = 'parked' and undo_id is null",
                event,
                Reason::Discarded.as_str()
            )
            .execute(&mut transaction)
            .await?;
        }
        transaction.commit().await?;
        Ok(event.is_some())
    }

    /// Drops a parked write command as discarded, and its event if no other command of it is parked. Returns whether it was
    /// parked.
    pub async fn discard_command(&self, id: WriteCommandId) -> Result<bool, LedgerError> {
        let mut transaction = self.connections.begin().await?;
        let event = sqlx::query_scalar!(
            "update write_command set state = 'dropped', reason = $2
             where id = $1 and state = 'parked'
             returning case when undo_id is null then event_id end as event_id",
            id.0,
            Reason::Discarded.as_str()
        )
        .fetch_optional(&mut transaction)
        .await?;
        // What becomes of an undo is no outcome of the event.
        if let Some(event) = event.flatten() {
            sqlx::query!(
                "update event e set state = 'dropped', reason = $2
                 where e.id = $1 and e.state = 'parked'
                   and not exists (select from write_command c
                                   where c.event_id = e.id and c.state = 'parked' and c.undo_id is null)",
                event,
                Reason::Discarded.as_str()
            )
            .execute(&mut transaction)
            .await?;
        }
        transaction.commit().await?;
        Ok(event.is_some())
    }

    /// An event by its key or id; `None` when the ledger does not have it.
    pub async fn event_to_requeue(&self, key_or_id: &str) -> Result<Option<EventToRequeue>, LedgerError> {
        let id = Uuid::parse_str(key_or_id).ok();
        let Some(row) = sqlx::query!(
            r#"select id, event_key, state::text as "state!", payload,
                      coalesce(lease_expires_at > now(), false) as "is_leased!"
               from event where event_key = $1 or id = $2"#,
            key_or_id,
            id
        )
        .fetch_optional(&self.connections)
        .await?
        else {
            return Ok(None);
        };
        let commands = self.unfinished_commands_of(&[row.id]).await?.remove(&row.id).unwrap_or_default();
        Ok(Some(EventToRequeue {
            id: row.id,
            key: row.event_key,
            state: EVENT_STATE.read(&row.state, EventState::parse)?,
            is_leased: row.is_leased,
            payload: row.payload,
            commands,
        }))
    }
}
