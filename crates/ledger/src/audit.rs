//! What became of an event? Everything that the ledger has about it, for the operator.

use domain::{
    ActionState, EventId, EventState, Reason, inference::InferenceOutcome, model::ServiceTier,
    write_command::ActionKind,
};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::{
    Ledger, LedgerError,
    column::{ACTION_STATE, Column, EVENT_REASON, EVENT_STATE},
};

const HISTORY_FROM_STATE: Column = Column::new("event_history", "from_state");
const HISTORY_STATE: Column = Column::new("event_history", "state");
const HISTORY_REASON: Column = Column::new("event_history", "reason");
const OUTCOME: Column = Column::new("inference", "outcome");
const SERVICE_TIER: Column = Column::new("inference", "service_tier");
const SKIPPED_WRITE_REASON: Column = Column::new("skipped_write", "reason");
const ACTION_KIND: Column = Column::new("action", "kind");
const ACTION_REASON: Column = Column::new("action", "reason");

/// Everything that the ledger has about one event: the columns that an operator sees, and one list for each table.
#[derive(Debug, Clone)]
pub struct EventStory {
    /// Its id.
    pub id: EventId,
    /// Its key.
    pub key: String,
    /// HubSpot's name of what happened, for example `contact.propertyChange`.
    pub subscription_type: String,
    /// When it happened, by HubSpot's clock.
    pub occurred_at: OffsetDateTime,
    /// Its state.
    pub state: EventState,
    /// The reason for the state.
    pub reason: Option<Reason>,
    /// The reason in words.
    pub detail: Option<String>,
    /// The id of its trace in the tracing backend.
    pub trace_id: Option<String>,
    /// Every state that it had, oldest first.
    pub history: Vec<HistoryEntry>,
    /// Every record that was merged into another one between a decision about it and the write.
    pub merges: Vec<MergeEntry>,
    /// Every answer about it.
    pub inferences: Vec<InferenceEntry>,
    /// What the requests to the model have cost.
    pub cost: EventCost,
    /// Every property that was written because of it.
    pub writes: Vec<WriteEntry>,
    /// Every property that a write policy left as it was.
    pub skipped_writes: Vec<SkippedWriteEntry>,
    /// Every action that follows from it.
    pub actions: Vec<ActionEntry>,
}

/// What the requests to the model about one event have cost.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct EventCost {
    /// The requests that were or may have been paid for.
    pub requests: i64,
    /// Their cost in 10⁻⁶ $; `None` for a model without a known price.
    pub micro_dollars: Option<i64>,
    /// The part of it whose answer was lost, unreadable or silent about its cost, and that counts as the most it can be.
    pub estimated_micro_dollars: i64,
}

/// One change of an event's state.
#[derive(Debug, Clone)]
pub struct HistoryEntry {
    /// When it changed.
    pub at: OffsetDateTime,
    /// The state before; `None` for the first entry.
    pub from_state: Option<EventState>,
    /// The state since.
    pub state: EventState,
    /// The number of the claim.
    pub attempt: i32,
    /// The worker that had the claim.
    pub worker: String,
    /// The reason for the state.
    pub reason: Option<Reason>,
}

/// A record that was merged into another one before a write command about it was carried out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MergeEntry {
    /// The record's kind, as HubSpot's type id.
    pub object_type: String,
    /// The id for which the write command was decided.
    pub merged_from: i64,
    /// The id of the record with which the write command went on.
    pub object_id: i64,
}

/// One answer about an event, with one field for each column that an operator sees.
#[derive(Debug, Clone)]
pub struct InferenceEntry {
    /// When the answer was stored.
    pub created_at: OffsetDateTime,
    /// The playbook.
    pub playbook: String,
    /// The playbook's version, a hash of its content.
    pub playbook_version: String,
    /// The record's kind, as HubSpot's type id.
    pub object_type: String,
    /// The record's id.
    pub object_id: i64,
    /// For a part of a context that was too long for one question: the SHA-256 of that part's prompt, in hex.
    pub part: Option<String>,
    /// Fields whose quotation was not found in what the model had read.
    pub unverified: Vec<String>,
    /// The dated snapshot that answered.
    pub model: String,
    /// The service tier in which it was processed, if the answer says it.
    pub service_tier: Option<ServiceTier>,
    /// Whether the answer could be used.
    pub outcome: InferenceOutcome,
    /// Tokens of the prompt.
    pub prompt_tokens: i64,
    /// Tokens of the answer.
    pub completion_tokens: i64,
    /// The cost in 10⁻⁶ $; `None` for a model without a known price.
    pub cost_micro_dollars: Option<i64>,
    /// Milliseconds until the answer was read.
    pub latency_ms: i64,
    /// The messages as sent; `None` after `retention.raw_days` or an erasure.
    pub prompt: Option<serde_json::Value>,
    /// The answer as received; `None` together with the prompt.
    pub answer: Option<String>,
}

/// One property that was written because of an event.
#[derive(Debug, Clone)]
pub struct WriteEntry {
    /// When it was written.
    pub written_at: OffsetDateTime,
    /// The record's kind, as HubSpot's type id.
    pub object_type: String,
    /// The record's id.
    pub object_id: i64,
    /// The property's internal name.
    pub property: String,
    /// The value before; `None` when it was empty.
    pub before: Option<String>,
    /// The value since.
    pub after: String,
}

/// One property that a write policy left as it was.
#[derive(Debug, Clone)]
pub struct SkippedWriteEntry {
    /// The record's kind, as HubSpot's type id.
    pub object_type: String,
    /// The record's id.
    pub object_id: i64,
    /// The property's internal name.
    pub property: String,
    /// The policy's reason.
    pub reason: Reason,
    /// The value in HubSpot; `None` when it was empty.
    pub current_value: Option<String>,
    /// The value that the answer asked for.
    pub proposed_value: String,
}

/// One action.
#[derive(Debug, Clone)]
pub struct ActionEntry {
    /// Its id, which is its marker in HubSpot.
    pub id: Uuid,
    /// Its name in the playbook.
    pub name: String,
    /// What kind of action it is.
    pub kind: ActionKind,
    /// Its state.
    pub state: ActionState,
    /// The reason for the state.
    pub reason: Option<Reason>,
    /// The id of what it made in HubSpot.
    pub hubspot_id: Option<i64>,
}

impl Ledger {
    /// The story of an event by its key or id; `None` when the ledger does not have it.
    pub async fn event_story(&self, key_or_id: &str) -> Result<Option<EventStory>, LedgerError> {
        let id = Uuid::parse_str(key_or_id).ok();
        let Some(event) = sqlx::query!(
            r#"select id, event_key, subscription_type, occurred_at, state::text as "state!", reason, detail, trace_id
               from event where event_key = $1 or id = $2"#,
            key_or_id,
            id
        )
        .fetch_optional(&self.connections)
        .await?
        else {
            return Ok(None);
        };
        Ok(Some(EventStory {
            id: EventId(event.id),
            key: event.event_key,
            subscription_type: event.subscription_type,
            occurred_at: event.occurred_at,
            state: EVENT_STATE.read(&event.state, EventState::parse)?,
            reason: EVENT_REASON.read_reason(event.reason.as_deref())?,
            detail: event.detail,
            trace_id: event.trace_id,
            history: self.history_of(event.id).await?,
            merges: self.merges_of(event.id).await?,
            inferences: self.inferences_of(event.id).await?,
            cost: self.cost_of(event.id).await?,
            writes: self.writes_of(event.id).await?,
            skipped_writes: self.skipped_writes_of(event.id).await?,
            actions: self.actions_of(event.id).await?,
        }))
    }

    async fn history_of(&self, event: Uuid) -> Result<Vec<HistoryEntry>, LedgerError> {
        let rows = sqlx::query!(
            r#"select at, from_state::text, state::text as "state!", attempt, worker, reason
               from event_history where event_id = $1 order by id"#,
            event
        )
        .fetch_all(&self.connections)
        .await?;
        let history = rows.into_iter().map(|row| {
            let from_state = row.from_state.map(|state| HISTORY_FROM_STATE.read(&state, EventState::parse));
            Ok(HistoryEntry {
                at: row.at,
                from_state: from_state.transpose()?,
                state: HISTORY_STATE.read(&row.state, EventState::parse)?,
                attempt: row.attempt,
                worker: row.worker,
                reason: HISTORY_REASON.read_reason(row.reason.as_deref())?,
            })
        });
        history.collect()
    }

    async fn merges_of(&self, event: Uuid) -> Result<Vec<MergeEntry>, LedgerError> {
        Ok(sqlx::query_as!(
            MergeEntry,
            r#"select distinct object_type, merged_from as "merged_from!", object_id from write_command
               where event_id = $1 and merged_from is not null order by 1, 2, 3"#,
            event
        )
        .fetch_all(&self.connections)
        .await?)
    }

    async fn inferences_of(&self, event: Uuid) -> Result<Vec<InferenceEntry>, LedgerError> {
        let rows = sqlx::query!(
            r#"select i.created_at, i.playbook, i.playbook_version, i.object_type, i.object_id, i.part, i.unverified,
                      i.model, i.service_tier, i.outcome, i.prompt_tokens, i.completion_tokens, i.cost_micro_dollars,
                      i.latency_ms,
                      r.prompt as "prompt?", r.answer as "answer?"
               from inference i
               left join inference_raw r on r.inference_id = i.id and r.created_at = i.created_at
               where i.event_id = $1 order by i.created_at, i.id"#,
            event
        )
        .fetch_all(&self.connections)
        .await?;
        let inferences = rows.into_iter().map(|row| {
            Ok(InferenceEntry {
                created_at: row.created_at,
                playbook: row.playbook,
                playbook_version: row.playbook_version,
                object_type: row.object_type,
                object_id: row.object_id,
                part: row.part,
                unverified: row.unverified,
                model: row.model,
                service_tier: (row.service_tier.as_deref())
                    .map(|tier| SERVICE_TIER.read(tier, ServiceTier::parse))
                    .transpose()?,
                outcome: OUTCOME.read(&row.outcome, InferenceOutcome::parse)?,
                prompt_tokens: row.prompt_tokens,
                completion_tokens: row.completion_tokens,
                cost_micro_dollars: row.cost_micro_dollars,
                latency_ms: row.latency_ms,
                prompt: row.prompt,
                answer: row.answer,
            })
        });
        inferences.collect()
    }

    async fn cost_of(&self, event: Uuid) -> Result<EventCost, LedgerError> {
        Ok(sqlx::query_as!(
            EventCost,
            r#"select count(*) as "requests!",
                      sum(case when c.reserved_micro_dollars > 0 or i.cost_micro_dollars is not null
                               then c.micro_dollars end)::bigint as "micro_dollars?",
                      coalesce(sum(c.micro_dollars) filter (where c.state <> 'answered'), 0)::bigint
                          as "estimated_micro_dollars!"
               from charge c left join inference i on i.id = c.inference_id
               where c.event_id = $1 and c.state <> 'free'"#,
            event
        )
        .fetch_one(&self.connections)
        .await?)
    }

    async fn writes_of(&self, event: Uuid) -> Result<Vec<WriteEntry>, LedgerError> {
        Ok(sqlx::query_as!(
            WriteEntry,
            "select w.written_at, w.object_type, w.object_id, w.property, w.before, w.after
             from write w join write_command c on c.id = w.write_command_id
             where c.event_id = $1 and c.undo_id is null order by w.written_at, w.object_type, w.object_id, w.property",
            event
        )
        .fetch_all(&self.connections)
        .await?)
    }

    async fn skipped_writes_of(&self, event: Uuid) -> Result<Vec<SkippedWriteEntry>, LedgerError> {
        let rows = sqlx::query!(
            "select c.object_type, c.object_id, s.property, s.reason, s.current_value, s.proposed_value
             from skipped_write s join write_command c on c.id = s.write_command_id
             where c.event_id = $1 and c.undo_id is null order by c.object_type, c.object_id, s.property",
            event
        )
        .fetch_all(&self.connections)
        .await?;
        let skipped = rows.into_iter().map(|row| {
            Ok(SkippedWriteEntry {
                object_type: row.object_type,
                object_id: row.object_id,
                property: row.property,
                reason: SKIPPED_WRITE_REASON.read(&row.reason, Reason::parse)?,
                current_value: row.current_value,
                proposed_value: row.proposed_value,
            })
        });
        skipped.collect()
    }

    async fn actions_of(&self, event: Uuid) -> Result<Vec<ActionEntry>, LedgerError> {
        let rows = sqlx::query!(
            r#"select a.id, a.name, a.kind, a.state::text as "state!", a.reason, a.hubspot_id
               from action a join write_command c on c.id = a.write_command_id
               where c.event_id = $1 order by a.id"#,
            event
        )
        .fetch_all(&self.connections)
        .await?;
        let actions = rows.into_iter().map(|row| {
            Ok(ActionEntry {
                id: row.id,
                name: row.name,
                kind: ACTION_KIND.read(&row.kind, ActionKind::parse)?,
                state: ACTION_STATE.read(&row.state, ActionState::parse)?,
                reason: ACTION_REASON.read_reason(row.reason.as_deref())?,
                hubspot_id: row.hubspot_id,
            })
        });
        actions.collect()
    }
}
