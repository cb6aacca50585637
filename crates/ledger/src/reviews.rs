//! What waits for approval, and what was decided about it? The proposals that people see, and their verdicts.

use std::collections::BTreeMap;

use domain::{
    Reason, RecordRef, WriteCommandId,
    review::{ReviewDecision, ReviewTerms},
    write_command::ActionSpec,
};
use serde::Deserialize;
use time::OffsetDateTime;

use crate::{
    Ledger, LedgerError,
    column::Column,
    command_results::{end_events, lock_event_of},
    proposals::{record_reviews, skip_actions},
    records::record,
    stored_detail,
};

const PROPERTIES: Column = Column::new("proposals", "properties");
const TERMS: Column = Column::new("write_command", "review");
const ACTIONS: Column = Column::new("proposals", "actions");
const REVIEWED: Column = Column::new("review", "properties");
const DECISION: Column = Column::new("review", "decision");

/// Selects the proposals that meet every given condition.
#[derive(Debug, Clone, Default)]
pub struct ProposalFilter {
    /// The write commands; empty for all.
    pub ids: Vec<WriteCommandId>,
    /// The playbook's name.
    pub playbook: Option<String>,
    /// The record.
    pub record: Option<RecordRef>,
    /// At most so many of those that no channel was told of.
    pub unannounced: Option<i64>,
}

/// A proposal that waits for a person. It has a field for each column of the view `proposals` that is shown.
#[derive(Debug, Clone)]
pub struct ProposalEntry {
    /// The write command.
    pub id: WriteCommandId,
    /// Counts how often the command was taken, and how often a newer proposal took a part of it over: a verdict is about this proposal
    /// and no later one.
    pub attempt: i32,
    /// The record.
    pub record: RecordRef,
    /// The key of the event that led to it.
    pub event_key: String,
    /// The playbook.
    pub playbook: String,
    /// The version of the playbook.
    pub playbook_version: String,
    /// The model that answered.
    pub model: String,
    /// What the answer cost.
    pub cost_micro_dollars: Option<i64>,
    /// Whether it was approved before, and a value has changed since the reviewer saw it.
    pub is_changed: bool,
    /// When it was proposed.
    pub proposed_at: OffsetDateTime,
    /// When it is given up.
    pub expires_at: Option<OffsetDateTime>,
    /// The values.
    pub properties: Vec<ProposedProperty>,
    /// The actions.
    pub actions: Vec<ProposedAction>,
    /// What rules see of its playbook and its answer.
    pub terms: ReviewTerms,
}

/// A property of a proposal.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct ProposedProperty {
    /// Its internal name.
    pub property: String,
    /// The value when it was proposed.
    pub before: Option<String>,
    /// The value that the answer led to.
    pub proposed: String,
    /// The value that a reviewer set in its place.
    pub edited: Option<String>,
    /// The words of the context on which the value rests.
    pub quotation: Option<String>,
}

impl ProposedProperty {
    /// The value that is written when the proposal is approved.
    pub fn after(&self) -> &str {
        self.edited.as_deref().unwrap_or(&self.proposed)
    }
}

/// An action of a proposal.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct ProposedAction {
    /// Its name in the playbook.
    pub name: String,
    /// What it does.
    pub spec: ActionSpec,
}

/// A value that is another one than the reviewer saw who approved a proposal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChangedValue {
    /// The property.
    pub property: String,
    /// What the reviewer saw; `None` when it was empty.
    pub seen: Option<String>,
    /// What it is since.
    pub now: Option<String>,
}

impl ProposalEntry {
    /// The values that changed since the last of these reviews that approved the proposal.
    pub fn changed_values(&self, reviews: &[ReviewEntry]) -> Vec<ChangedValue> {
        let Some(seen) = reviews.iter().rev().find(|review| review.decision.approves()) else { return Vec::new() };
        let changed = |now: &ProposedProperty| {
            let seen = seen.properties.iter().find(|seen| seen.property == now.property)?;
            let (property, seen, now) = (now.property.clone(), seen.before.clone(), now.before.clone());
            (seen != now).then_some(ChangedValue { property, seen, now })
        };
        self.properties.iter().filter_map(changed).collect()
    }
}

/// What a person decides about a proposal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It is carried out, with other values for these properties.
    Approve(BTreeMap<String, String>),
    /// It is not carried out, for this reason in words.
    Reject(String),
}

/// A property that was decided about.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct ReviewedProperty {
    /// Its internal name.
    pub property: String,
    /// The value that the reviewer saw before.
    pub before: Option<String>,
    /// The proposed value.
    pub proposed: String,
    /// The value that the reviewer set in its place.
    #[serde(default)]
    pub approved: Option<String>,
}

/// A decision about a proposal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReviewEntry {
    /// When.
    pub at: OffsetDateTime,
    /// How it was decided.
    pub decision: ReviewDecision,
    /// Who decided.
    pub by: String,
    /// Why.
    pub why: Option<String>,
    /// What the decision was about.
    pub properties: Vec<ReviewedProperty>,
}

impl Ledger {
    /// The proposals that wait for a person and match the filter, oldest first.
    pub async fn proposals(&self, filter: &ProposalFilter) -> Result<Vec<ProposalEntry>, LedgerError> {
        let ids: Vec<_> = filter.ids.iter().map(|id| id.0).collect();
        let of = filter.record.as_ref();
        let rows = sqlx::query!(
            r#"select write_command_id as "id!", attempt as "attempt!", portal_id as "portal_id!",
                      object_type as "object_type!", object_id as "object_id!", event_key as "event_key!",
                      playbook as "playbook!", playbook_version as "playbook_version!", model as "model!",
                      cost_micro_dollars, is_changed as "is_changed!", proposed_at as "proposed_at!", expires_at,
                      properties as "properties!", actions as "actions!",
                      (select coalesce(c.review, '{}') from write_command c where c.id = write_command_id) as "terms!"
               from proposals
               where (cardinality($1::uuid[]) = 0 or write_command_id = any($1::uuid[]))
                 and ($2::text is null or playbook = $2)
                 and ($3::text is null or (object_type, object_id) = ($3, $4))
                 and ($5::bigint is null or exists (select from write_command c where c.id = write_command_id
                                                                                  and c.announced_at is null))
               order by proposed_at, write_command_id limit $5"#,
            &ids,
            filter.playbook,
            of.map(|record| record.object_type.type_id()),
            of.map(|record| record.object_id.0),
            filter.unannounced,
        )
        .fetch_all(&self.connections)
        .await?;
        let entries = rows.into_iter().map(|row| {
            let id = row.id.to_string();
            let properties = serde_json::from_value(row.properties).map_err(|_| PROPERTIES.unreadable(&id))?;
            let terms = serde_json::from_value(row.terms).map_err(|_| TERMS.unreadable(&id))?;
            let actions = serde_json::from_value(row.actions).map_err(|_| ACTIONS.unreadable(&id))?;
            Ok(ProposalEntry {
                id: WriteCommandId(row.id),
                attempt: row.attempt,
                record: record(row.portal_id, &row.object_type, row.object_id),
                event_key: row.event_key,
                playbook: row.playbook,
                playbook_version: row.playbook_version,
                model: row.model,
                cost_micro_dollars: row.cost_micro_dollars,
                is_changed: row.is_changed,
                proposed_at: row.proposed_at,
                expires_at: row.expires_at,
                properties,
                actions,
                terms,
            })
        });
        entries.collect()
    }

    /// Records that a channel was told of these proposals.
    pub async fn record_announced(&self, proposals: &[(WriteCommandId, i32)]) -> Result<(), LedgerError> {
        let (ids, attempts): (Vec<_>, Vec<_>) = proposals.iter().map(|(id, attempt)| (id.0, *attempt)).unzip();
        sqlx::query!(
            "update write_command c set announced_at = clock_timestamp()
             from unnest($1::uuid[], $2::int[]) as input (id, attempt)
             where c.id = input.id and c.attempt = input.attempt and c.state = 'proposed'",
            &ids,
            &attempts
        )
        .execute(&self.connections)
        .await?;
        Ok(())
    }

    /// The decisions about a proposal, oldest first.
    pub async fn reviews(&self, id: WriteCommandId) -> Result<Vec<ReviewEntry>, LedgerError> {
        let rows = sqlx::query!(
            "select decided_at, decision, decided_by, why, properties from review where write_command_id = $1 order by id",
            id.0
        )
        .fetch_all(&self.connections)
        .await?;
        let reviews = rows.into_iter().map(|row| {
            Ok(ReviewEntry {
                at: row.decided_at,
                decision: DECISION.read(&row.decision, ReviewDecision::parse)?,
                by: row.decided_by,
                why: row.why,
                properties: serde_json::from_value(row.properties).map_err(|_| REVIEWED.unreadable(&id.to_string()))?,
            })
        });
        reviews.collect()
    }

    /// Commits a person's verdict on the proposal that they saw, the one of this `attempt`. An approved command is ready to
    /// be carried out when its message is published. Returns `false`, and changes nothing, when that proposal does not wait any
    /// more: it was decided about, replaced in whole or in part, or proposed anew.
    pub async fn decide_proposal(
        &self,
        id: WriteCommandId,
        attempt: i32,
        verdict: &Verdict,
        by: &str,
    ) -> Result<bool, LedgerError> {
        let mut transaction = self.connections.begin().await?;
        lock_event_of(&mut transaction, id).await?;
        let event = match verdict {
            Verdict::Approve(_) => {
                sqlx::query_scalar!(
                    "update write_command
                     set state = 'recorded', mode = 'live', finished_at = null, reason = null, detail = null, due_at = null,
                         expires_at = null, created_at = now(), requeues = 0
                     where id = $1 and state = 'proposed' and attempt = $2 returning event_id",
                    id.0,
                    attempt
                )
                .fetch_optional(&mut transaction)
                .await?
            }
            Verdict::Reject(why) => {
                sqlx::query_scalar!(
                    // An attempt after an earlier approval may have written a part.
                    "update write_command c
                     set state = case when exists (select from write w where w.write_command_id = c.id) then 'written'
                                      else 'skipped' end::write_command_state,
                         reason = $3, detail = $4, expires_at = null, finished_at = clock_timestamp()
                     where id = $1 and state = 'proposed' and attempt = $2 returning event_id",
                    id.0,
                    attempt,
                    Reason::Rejected.as_str(),
                    stored_detail(why)
                )
                .fetch_optional(&mut transaction)
                .await?
            }
        };
        let Some(event) = event else { return Ok(false) };
        match verdict {
            Verdict::Approve(edits) => {
                let (properties, values): (Vec<_>, Vec<_>) = edits.clone().into_iter().unzip();
                sqlx::query!(
                    "update proposed_write p set edited = nullif(input.value, p.proposed)
                     from unnest($2::text[], $3::text[]) as input (property, value)
                     where p.write_command_id = $1 and p.property = input.property",
                    id.0,
                    &properties,
                    &values
                )
                .execute(&mut transaction)
                .await?;
                let decision = if edits.is_empty() { ReviewDecision::Approved } else { ReviewDecision::Edited };
                record_reviews(&mut transaction, &[id.0], decision, by, None).await?;
                sqlx::query!(
                    "update event set age_since = now(), state = case when state = 'proposed' then 'decided' else state end,
                                      reason = case when state = 'proposed' then null else reason end
                     where id = $1",
                    event
                )
                .execute(&mut transaction)
                .await?;
            }
            Verdict::Reject(why) => {
                record_reviews(&mut transaction, &[id.0], ReviewDecision::Rejected, by, Some(&stored_detail(why)))
                    .await?;
                skip_actions(&mut transaction, &[id.0]).await?;
                end_events(&mut transaction, &[event]).await?;
            }
        }
        transaction.commit().await?;
        Ok(true)
    }
}
