//! Why has a property of a record its value? Asked about one property, and answered by indexes alone.

use domain::{CorrectionSource, Reason, RecordRef, WriteCommandId, review::ReviewDecision};
use serde_json::Value;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::{Ledger, LedgerError, column::Column};

const SKIPPED_WRITE_REASON: Column = Column::new("skipped_write", "reason");
const DECISION: Column = Column::new("review", "decision");
const SEEN_BY: Column = Column::new("correction", "seen_by");

/// The most entries of each kind of which an explanation tells.
const MAX_ENTRIES: i64 = 20;

/// What the ledger knows about the value of a property.
#[derive(Debug, Clone, Default)]
pub struct Explanation {
    /// What the fleet wrote to it, the newest first.
    pub writes: Vec<ExplainedWrite>,
    /// The answer that led to the newest write that is no undo and is not undone; without one, to the newest.
    pub answer: Option<ExplainedAnswer>,
    /// Values that were not written, the newest first.
    pub kept: Vec<KeptValue>,
    /// What was decided about proposals to set it, the newest first.
    pub decisions: Vec<ExplainedDecision>,
    /// What people set in place of a written value, the newest first.
    pub overrides: Vec<ExplainedOverride>,
}

impl Explanation {
    /// The newest decision about the proposal that became a write.
    pub fn decision_about(&self, write: &ExplainedWrite) -> Option<&ExplainedDecision> {
        self.decisions.iter().find(|decision| decision.command == write.command)
    }

    /// What a person has set in place of a write, and not taken back.
    pub fn override_of(&self, write: &ExplainedWrite) -> Option<&ExplainedOverride> {
        self.overrides.iter().find(|over| over.command == write.command && over.taken_back_at.is_none())
    }

    /// The write that counts: the newest one that was not undone, or else the newest of all.
    pub fn counting(&self) -> Option<&ExplainedWrite> {
        let is_own = |write: &&ExplainedWrite| !write.is_undo;
        self.writes
            .iter()
            .filter(is_own)
            .find(|write| write.undone.is_none())
            .or_else(|| self.writes.iter().find(is_own))
    }
}

/// One write of the property.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExplainedWrite {
    /// The write command.
    pub command: WriteCommandId,
    /// When the ledger recorded it.
    pub written_at: OffsetDateTime,
    /// The value before; `None` when it was empty.
    pub before: Option<String>,
    /// The value since.
    pub after: String,
    /// The key of the event that led to it.
    pub event_key: String,
    /// The id of that event.
    pub event_id: Uuid,
    /// The inference that led to it.
    pub inference_id: Uuid,
    /// Whether it put a value back.
    pub is_undo: bool,
    /// Who had it undone, if somebody had.
    pub undone: Option<UndoneBy>,
}

/// Who had a write undone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UndoneBy {
    /// Who.
    pub asked_by: String,
    /// Why.
    pub why: Option<String>,
    /// When.
    pub at: OffsetDateTime,
}

/// The answer behind a write.
#[derive(Debug, Clone, PartialEq)]
pub struct ExplainedAnswer {
    /// Its id.
    pub id: Uuid,
    /// When it was stored.
    pub created_at: OffsetDateTime,
    /// The playbook.
    pub playbook: String,
    /// Its version.
    pub playbook_version: String,
    /// The dated snapshot of the model.
    pub model: String,
    /// What it cost in 10⁻⁶ $; `None` for a model without a known price.
    pub cost_micro_dollars: Option<i64>,
    /// The answer's fields, quotations included; `None` after they were erased.
    pub fields: Option<Value>,
    /// Fields whose quotation was not found.
    pub unverified: Vec<String>,
}

/// A value that was not written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptValue {
    /// When.
    pub at: OffsetDateTime,
    /// Why.
    pub reason: Reason,
    /// The value that stayed.
    pub current_value: Option<String>,
    /// The value that was proposed.
    pub proposed_value: String,
    /// The key of the event.
    pub event_key: String,
}

/// A decision about a proposal to set the property.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExplainedDecision {
    /// The write command that was proposed.
    pub command: WriteCommandId,
    /// When.
    pub at: OffsetDateTime,
    /// How it was decided.
    pub decision: ReviewDecision,
    /// Who decided: a person, or `rule NAME`.
    pub by: String,
    /// Why, if it was rejected.
    pub why: Option<String>,
    /// The value that was proposed; `None` after it was erased.
    pub proposed: Option<String>,
    /// The value that a person set in its place.
    pub edited: Option<String>,
}

/// A value that a person set in place of a written one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExplainedOverride {
    /// The write command that had written.
    pub command: WriteCommandId,
    /// When, by HubSpot's clock.
    pub at: OffsetDateTime,
    /// What was written.
    pub written: String,
    /// What the person set; `None` when it was cleared.
    pub value: Option<String>,
    /// By what it was seen.
    pub seen_by: CorrectionSource,
    /// When the person put the written value back.
    pub taken_back_at: Option<OffsetDateTime>,
}

impl Ledger {
    /// Why a property of a record, known under these ids, has its value.
    pub async fn explain(&self, known_as: &[RecordRef], property: &str) -> Result<Explanation, LedgerError> {
        let Some(first) = known_as.first() else { return Ok(Explanation::default()) };
        let ids: Vec<_> = known_as.iter().map(|record| record.object_id.0).collect();
        let writes = self.explained_writes(first, &ids, property).await?;
        let mut explanation = Explanation { writes, ..Explanation::default() };
        if let Some(inference) = explanation.counting().map(|write| write.inference_id) {
            explanation.answer = self.explained_answer(inference).await?;
        }
        explanation.kept = self.kept_values(first, &ids, property).await?;
        explanation.decisions = self.explained_decisions(first, &ids, property).await?;
        explanation.overrides = self.explained_overrides(first, &ids, property).await?;
        Ok(explanation)
    }

    async fn explained_writes(
        &self,
        of: &RecordRef,
        ids: &[i64],
        property: &str,
    ) -> Result<Vec<ExplainedWrite>, LedgerError> {
        let rows = sqlx::query!(
            r#"select w.write_command_id, w.written_at, w.before, w.after, c.event_key, c.event_id, c.inference_id, c.undo_id is not null as "is_undo!",
                      u.asked_by as "asked_by?", u.why as "why?", u.created_at as "asked_at?"
               from write w
               join write_command c on c.id = w.write_command_id
               left join undone_write t on (t.write_command_id, t.property) = (w.write_command_id, w.property)
               left join write_command by on by.id = t.undo_command_id
               left join undo u on u.id = by.undo_id
               where w.portal_id = $1 and w.object_type = $2 and w.object_id = any($3::bigint[]) and w.property = $4
               order by w.occurred_at desc, w.event_key collate "C" desc, w.write_command_id desc
               limit $5"#,
            of.portal_id.0,
            of.object_type.type_id(),
            ids,
            property,
            MAX_ENTRIES,
        )
        .fetch_all(&self.connections)
        .await?;
        let writes = rows.into_iter().map(|row| ExplainedWrite {
            command: WriteCommandId(row.write_command_id),
            written_at: row.written_at,
            before: row.before,
            after: row.after,
            event_key: row.event_key,
            event_id: row.event_id,
            inference_id: row.inference_id,
            is_undo: row.is_undo,
            undone: row.asked_by.zip(row.asked_at).map(|(asked_by, at)| UndoneBy { asked_by, why: row.why, at }),
        });
        Ok(writes.collect())
    }

    async fn explained_answer(&self, inference: Uuid) -> Result<Option<ExplainedAnswer>, LedgerError> {
        Ok(sqlx::query_as!(
            ExplainedAnswer,
            "select id, created_at, playbook, playbook_version, model, cost_micro_dollars, fields, unverified
             from inference where id = $1",
            inference
        )
        .fetch_optional(&self.connections)
        .await?)
    }

    async fn kept_values(&self, of: &RecordRef, ids: &[i64], property: &str) -> Result<Vec<KeptValue>, LedgerError> {
        let rows = sqlx::query!(
            r#"select s.at, s.reason, s.current_value, s.proposed_value, c.event_key
               from write_command c
               join skipped_write s on (s.write_command_id, s.property) = (c.id, $4)
               where c.portal_id = $1 and c.object_type = $2 and c.object_id = any($3::bigint[])
               order by s.at desc limit $5"#,
            of.portal_id.0,
            of.object_type.type_id(),
            ids,
            property,
            MAX_ENTRIES,
        )
        .fetch_all(&self.connections)
        .await?;
        let kept = rows.into_iter().map(|row| {
            Ok(KeptValue {
                at: row.at,
                reason: SKIPPED_WRITE_REASON.read(&row.reason, Reason::parse)?,
                current_value: row.current_value,
                proposed_value: row.proposed_value,
                event_key: row.event_key,
            })
        });
        kept.collect()
    }

    async fn explained_decisions(
        &self,
        of: &RecordRef,
        ids: &[i64],
        property: &str,
    ) -> Result<Vec<ExplainedDecision>, LedgerError> {
        let rows = sqlx::query!(
            // About a proposal of several properties may be decided when some are written, or taken over by a newer one.
            "select r.write_command_id, r.decided_at, r.decision, r.decided_by, r.why, decided.value ->> 'proposed' as proposed,
                    decided.value ->> 'approved' as edited
             from write_command c
             join proposed_write p on (p.write_command_id, p.property) = (c.id, $4)
             join review r on r.write_command_id = c.id
             join jsonb_array_elements(r.properties) as decided (value) on decided.value ->> 'property' = $4
             where c.portal_id = $1 and c.object_type = $2 and c.object_id = any($3::bigint[])
             order by r.id desc limit $5",
            of.portal_id.0,
            of.object_type.type_id(),
            ids,
            property,
            MAX_ENTRIES,
        )
        .fetch_all(&self.connections)
        .await?;
        let decisions = rows.into_iter().map(|row| {
            Ok(ExplainedDecision {
                command: WriteCommandId(row.write_command_id),
                at: row.decided_at,
                decision: DECISION.read(&row.decision, ReviewDecision::parse)?,
                by: row.decided_by,
                why: row.why,
                proposed: row.proposed,
                edited: row.edited,
            })
        });
        decisions.collect()
    }

    async fn explained_overrides(
        &self,
        of: &RecordRef,
        ids: &[i64],
        property: &str,
    ) -> Result<Vec<ExplainedOverride>, LedgerError> {
        let rows = sqlx::query!(
            "select o.write_command_id, o.changed_at, w.after, o.value, o.seen_by, o.taken_back_at
             from correction o
             join write w on (w.write_command_id, w.property) = (o.write_command_id, o.property)
             where o.portal_id = $1 and o.object_type = $2 and o.object_id = any($3::bigint[]) and o.property = $4
             order by o.changed_at desc limit $5",
            of.portal_id.0,
            of.object_type.type_id(),
            ids,
            property,
            MAX_ENTRIES,
        )
        .fetch_all(&self.connections)
        .await?;
        let overrides = rows.into_iter().map(|row| {
            Ok(ExplainedOverride {
                command: WriteCommandId(row.write_command_id),
                at: row.changed_at,
                written: row.after,
                value: row.value,
                seen_by: SEEN_BY.read(&row.seen_by, CorrectionSource::parse)?,
                taken_back_at: row.taken_back_at,
            })
        });
        overrides.collect()
    }

    /// What the model was asked and said for an answer; `None` after `retention.raw_days` or an erasure.
    pub async fn answer_texts(&self, answer: &ExplainedAnswer) -> Result<Option<(Value, String)>, LedgerError> {
        let row = sqlx::query!(
            "select prompt, answer from inference_raw where inference_id = $1 and created_at = $2",
            answer.id,
            answer.created_at
        )
        .fetch_optional(&self.connections)
        .await?;
        Ok(row.map(|row| (row.prompt, row.answer)))
    }
}
