//! "What became of this event?" — the operator's question.

use domain::EventId;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::{Ledger, LedgerError};

/// Everything the ledger knows about one event.
#[derive(Debug, Clone)]
pub struct EventStory {
    /// Its id.
    pub id: EventId,
    /// Its key.
    pub key: String,
    /// What happened, for example `contact.propertyChange`.
    pub subscription_type: String,
    /// When, by HubSpot's clock.
    pub occurred_at: OffsetDateTime,
    /// Where it stands.
    pub state: String,
    /// Why.
    pub reason: Option<String>,
    /// Why, in words.
    pub detail: Option<String>,
    /// The trace to look for in the tracing backend.
    pub trace_id: Option<String>,
    /// Every step, oldest first.
    pub history: Vec<HistoryEntry>,
    /// Every question that was asked for it.
    pub inferences: Vec<InferenceEntry>,
    /// Every property that was written for it.
    pub writes: Vec<WriteEntry>,
    /// Every property that was left as it was.
    pub skipped_writes: Vec<SkippedWriteEntry>,
    /// Everything that was done beyond properties.
    pub actions: Vec<ActionEntry>,
}

/// One step of an event.
#[derive(Debug, Clone)]
pub struct HistoryEntry {
    /// When.
    pub at: OffsetDateTime,
    /// From where; `None` for the first.
    pub from_state: Option<String>,
    /// To where.
    pub state: String,
    /// Under which claim.
    pub attempt: i32,
    /// Whose.
    pub worker: String,
    /// Why.
    pub reason: Option<String>,
}

/// One question that was asked for an event.
#[derive(Debug, Clone)]
pub struct InferenceEntry {
    /// When the answer was stored.
    pub created_at: OffsetDateTime,
    /// The playbook.
    pub playbook: String,
    /// Its version.
    pub playbook_version: String,
    /// The record's kind, as HubSpot's type id.
    pub object_type: String,
    /// The record's id.
    pub object_id: i64,
    /// Set for a part of a context that was too long for one question.
    pub part: Option<String>,
    /// Fields whose quotation was not found.
    pub unverified: Vec<String>,
    /// The snapshot that answered.
    pub model: String,
    /// What the answer was worth.
    pub outcome: String,
    /// Tokens of the prompt.
    pub prompt_tokens: i64,
    /// Tokens of the answer.
    pub completion_tokens: i64,
    /// 10⁻⁶ $.
    pub cost_micro_dollars: Option<i64>,
    /// How long the answer took.
    pub latency_ms: i64,
    /// The messages as sent; gone after `retention.raw_days`, or when somebody was erased.
    pub prompt: Option<serde_json::Value>,
    /// The answer as received; gone with the prompt.
    pub answer: Option<String>,
}

/// One property that was written for an event.
#[derive(Debug, Clone)]
pub struct WriteEntry {
    /// When.
    pub written_at: OffsetDateTime,
    /// The record's kind, as HubSpot's type id.
    pub object_type: String,
    /// The record's id.
    pub object_id: i64,
    /// Its name.
    pub property: String,
    /// What it held before.
    pub before: Option<String>,
    /// What it holds since.
    pub after: String,
}

/// One property that was left as it was.
#[derive(Debug, Clone)]
pub struct SkippedWriteEntry {
    /// The record's kind, as HubSpot's type id.
    pub object_type: String,
    /// The record's id.
    pub object_id: i64,
    /// The property.
    pub property: String,
    /// Why.
    pub reason: String,
    /// What it holds.
    pub current_value: Option<String>,
    /// What the answer would have set.
    pub proposed_value: String,
}

/// One action.
#[derive(Debug, Clone)]
pub struct ActionEntry {
    /// Its id, which is its marker in HubSpot.
    pub id: Uuid,
    /// Its name in the playbook.
    pub name: String,
    /// `create_task`, …
    pub kind: String,
    /// Where it stands.
    pub state: String,
    /// Why.
    pub reason: Option<String>,
    /// What it made in HubSpot.
    pub hubspot_id: Option<i64>,
}

/// How many events are in a state for a reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventCount {
    /// The state.
    pub state: String,
    /// The reason, if there is one.
    pub reason: Option<String>,
    /// How many.
    pub events: i64,
}

impl Ledger {
    /// How many events are in which state, and why.
    pub async fn event_counts(&self) -> Result<Vec<EventCount>, LedgerError> {
        let counts = sqlx::query_as!(
            EventCount,
            r#"select state::text as "state!", reason, count(*) as "events!" from event
               group by state, reason order by state, reason"#
        )
        .fetch_all(&self.pool)
        .await?;
        Ok(counts)
    }

    /// The story of an event by its key or id; `None` when the ledger does not know it.
    pub async fn event_story(&self, key_or_id: &str) -> Result<Option<EventStory>, LedgerError> {
        let id = Uuid::parse_str(key_or_id).ok();
        let Some(event) = sqlx::query!(
            r#"select id, event_key, subscription_type, occurred_at, state::text as "state!", reason, detail, trace_id
               from event where event_key = $1 or id = $2"#,
            key_or_id,
            id
        )
        .fetch_optional(&self.pool)
        .await?
        else {
            return Ok(None);
        };
        let history = sqlx::query_as!(
            HistoryEntry,
            r#"select at, from_state::text, state::text as "state!", attempt, worker, reason
               from event_history where event_id = $1 order by id"#,
            event.id
        )
        .fetch_all(&self.pool)
        .await?;
        let inferences = sqlx::query_as!(
            InferenceEntry,
            r#"select i.created_at, i.playbook, i.playbook_version, i.object_type, i.object_id, i.part, i.unverified,
                      i.model, i.outcome, i.prompt_tokens, i.completion_tokens, i.cost_micro_dollars, i.latency_ms,
                      r.prompt as "prompt?", r.answer as "answer?"
               from inference i
               left join inference_raw r on r.inference_id = i.id and r.created_at = i.created_at
               where i.event_id = $1 order by i.created_at, i.id"#,
            event.id
        )
        .fetch_all(&self.pool)
        .await?;
        let writes = sqlx::query_as!(
            WriteEntry,
            "select w.written_at, w.object_type, w.object_id, w.property, w.before, w.after
             from write w join write_command c on c.id = w.write_command_id
             where c.event_id = $1 order by w.written_at, w.object_type, w.object_id, w.property",
            event.id
        )
        .fetch_all(&self.pool)
        .await?;
        let skipped_writes = sqlx::query_as!(
            SkippedWriteEntry,
            "select c.object_type, c.object_id, k.property, k.reason, k.current_value, k.proposed_value
             from skipped_write k join write_command c on c.id = k.write_command_id
             where c.event_id = $1 order by c.object_type, c.object_id, k.property",
            event.id
        )
        .fetch_all(&self.pool)
        .await?;
        let actions = sqlx::query_as!(
            ActionEntry,
            r#"select a.id, a.name, a.kind, a.state::text as "state!", a.reason, a.hubspot_id
               from action a join write_command c on c.id = a.write_command_id
               where c.event_id = $1 order by a.id"#,
            event.id
        )
        .fetch_all(&self.pool)
        .await?;
        Ok(Some(EventStory {
            id: EventId(event.id),
            key: event.event_key,
            subscription_type: event.subscription_type,
            occurred_at: event.occurred_at,
            state: event.state,
            reason: event.reason,
            detail: event.detail,
            trace_id: event.trace_id,
            history,
            inferences,
            writes,
            skipped_writes,
            actions,
        }))
    }
}
