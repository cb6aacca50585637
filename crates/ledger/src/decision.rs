//! What became of the event? Its state, history, inferences, write commands and actions, in one transaction.

use std::{collections::HashSet, time::Duration};

use domain::{
    EventId, EventState, Inference, Reason, RecordRef, WriteCommand,
    review::ReviewTerms,
    write_command::{Action, ActionSpec, PropertyChange},
};
use serde_json::{Value, json};
use sqlx::types::Json;
use uuid::Uuid;

use crate::{
    Ledger, LedgerError,
    charges::{SettledCharge, settle_charges},
    command_results::end_events,
    connections::Transaction,
    inferences::{ClaimedInference, insert_inferences},
    milliseconds, stored_detail,
};

/// What a worker decided about an event that it had claimed: the columns that one update sets, and the rows that are
/// inserted with it.
#[derive(Debug, Clone)]
pub struct Decision {
    /// The event.
    pub event_id: EventId,
    /// The number of the claim. Nothing is committed when another worker has claimed the event since.
    pub attempt: i32,
    /// The state that the event gets.
    pub state: EventState,
    /// The reason for the state.
    pub reason: Option<Reason>,
    /// The reason in words.
    pub detail: Option<String>,
    /// The playbook whose failure decided about it, if one did.
    pub playbook: Option<String>,
    /// If it waits: how long its message stays in a retry queue.
    pub wait: Option<Duration>,
    /// Every answer under this claim, usable or not, because each was paid for.
    pub inferences: Vec<Inference>,
    /// The write commands that follow from the answers.
    pub commands: Vec<WriteCommand>,
    /// What became of the requests to the model. Committed also when the decision does not count.
    pub charges: Vec<SettledCharge>,
    /// If it waits: the answers that cannot be used, so that they are not asked for again.
    pub unusable: Vec<UnusableAnswer>,
}

/// An answer that cannot be used: what a playbook's run about a record ended with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnusableAnswer {
    /// The playbook.
    pub playbook: String,
    /// Its version.
    pub playbook_version: String,
    /// The record, as text.
    pub record: String,
    /// Why it cannot be used.
    pub reason: Reason,
    /// The reason in words, which quote nothing of the answer.
    pub detail: String,
}

impl UnusableAnswer {
    /// Whether it is what this version of the playbook was answered about `record`.
    pub fn is_of(&self, playbook: &str, version: &str, record: &RecordRef) -> bool {
        self.playbook == playbook && self.playbook_version == version && self.record == record.to_string()
    }

    fn stored(&self) -> Value {
        json!({"playbook": self.playbook, "version": self.playbook_version, "record": self.record,
            "reason": self.reason.as_str(), "detail": stored_detail(&self.detail)})
    }

    /// `None` for one that this version cannot read; it is asked for again.
    fn read(stored: &Value) -> Option<Self> {
        let text = |key: &str| stored[key].as_str().map(ToOwned::to_owned);
        Some(Self {
            playbook: text("playbook")?,
            playbook_version: text("version")?,
            record: text("record")?,
            reason: Reason::parse(stored["reason"].as_str()?)?,
            detail: text("detail")?,
        })
    }
}

/// The answers in the column `event.unusable_answers`.
pub(crate) fn unusable_answers(column: Option<Value>) -> Vec<UnusableAnswer> {
    let Some(Value::Array(stored)) = column else { return Vec::new() };
    stored.iter().filter_map(UnusableAnswer::read).collect()
}

impl Ledger {
    /// Commits decisions, each with its inferences, write commands and actions or not at all. Returns for each, in order,
    /// whether it was committed: `false` when another worker has claimed the event since.
    pub async fn commit_decisions(&self, decisions: &[Decision]) -> Result<Vec<bool>, LedgerError> {
        let mut transaction = self.connections.begin().await?;
        let ids: Vec<_> = decisions.iter().map(|decision| decision.event_id.0).collect();
        let attempts: Vec<_> = decisions.iter().map(|decision| decision.attempt).collect();
        let states: Vec<_> = decisions.iter().map(|decision| decision.state.to_string()).collect();
        let reasons: Vec<_> =
            decisions.iter().map(|decision| decision.reason.map(|reason| reason.as_str().to_owned())).collect();
        let details: Vec<_> = decisions.iter().map(|decision| decision.detail.as_deref().map(stored_detail)).collect();
        let playbooks: Vec<_> = decisions.iter().map(|decision| decision.playbook.clone()).collect();
        let waits: Vec<_> = decisions.iter().map(|decision| decision.wait.map(milliseconds)).collect();
        let unusable: Vec<_> = decisions.iter().map(|decision| stored(&decision.unusable)).collect();
        // Rows are locked in the order of ids, as in every statement that changes several events, so that two do not
        // deadlock.
        let updated = sqlx::query_scalar!(
            "with input as (
                 select * from unnest($1::uuid[], $2::int[], $3::text[], $4::text[], $5::text[], $6::text[],
                                      $7::float8[], $8::jsonb[])
                     as input (id, attempt, state, reason, detail, playbook, wait, unusable)
             ), locked as (
                 select e.id from event e join input using (id)
                 where e.attempt = input.attempt and e.state = 'claimed' order by e.id for update of e
             )
             update event e
             set state = input.state::event_state, reason = input.reason, detail = input.detail,
                 lease_expires_at = null, playbook = input.playbook,
                 due_at = now() + input.wait * interval '1 millisecond', unusable_answers = input.unusable
             from locked join input using (id) where e.id = locked.id
             returning e.id",
            &ids,
            &attempts,
            &states,
            &reasons as &[Option<String>],
            &details as &[Option<String>],
            &playbooks as &[Option<String>],
            &waits as &[Option<f64>],
            &unusable as &[Option<Value>],
        )
        .fetch_all(&mut transaction)
        .await?;
        let updated: HashSet<Uuid> = updated.into_iter().collect();
        let committed: Vec<_> = decisions.iter().filter(|item| updated.contains(&item.event_id.0)).collect();
        let charges: Vec<_> = decisions.iter().flat_map(|item| item.charges.iter().copied()).collect();
        let inferences: Vec<_> = committed
            .iter()
            .flat_map(|item| {
                item.inferences.iter().map(|inference| ClaimedInference {
                    event_id: item.event_id,
                    attempt: item.attempt,
                    inference,
                })
            })
            .collect();
        settle_charges(&mut transaction, &charges).await?;
        insert_inferences(&mut transaction, &inferences).await?;
        insert_commands(&mut transaction, &committed).await?;
        insert_actions(&mut transaction, &committed).await?;
        // Commands of earlier claims may be finished by now, so the event may have no unfinished command left.
        let again: Vec<_> = committed.iter().filter(|item| item.attempt > 1).map(|item| item.event_id.0).collect();
        if !again.is_empty() {
            end_events(&mut transaction, &again).await?;
        }
        transaction.commit().await?;
        Ok(decisions.iter().map(|decision| updated.contains(&decision.event_id.0)).collect())
    }
}

/// The column of `answers`; null where there are none, as for nearly every event.
fn stored(answers: &[UnusableAnswer]) -> Option<Value> {
    (!answers.is_empty()).then(|| answers.iter().map(UnusableAnswer::stored).collect())
}

async fn insert_commands(transaction: &mut Transaction, decisions: &[&Decision]) -> Result<(), LedgerError> {
    let all: Vec<_> = decisions.iter().flat_map(|item| &item.commands).collect();
    if all.is_empty() {
        return Ok(());
    }
    macro_rules! column {
        ($command:ident => $value:expr) => {
            all.iter().map(|$command| $value).collect::<Vec<_>>()
        };
    }
    let properties = column!(command => Json(&command.properties));
    let reviews = column!(command => command.terms.is_held().then_some(Json(&command.terms.review)));
    // A command of an earlier claim is there already.
    sqlx::query!(
        "insert into write_command (id, event_id, inference_id, event_key, occurred_at, portal_id, object_type,
                                    object_id, properties, mode, review, format)
         select id, event_id, inference_id, event_key, occurred_at, portal_id, object_type, object_id, properties,
                mode::write_mode, review, $12::smallint
         from unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::text[], $5::timestamptz[], $6::bigint[],
                     $7::text[], $8::bigint[], $9::jsonb[], $10::text[], $11::jsonb[])
                  as input (id, event_id, inference_id, event_key, occurred_at, portal_id, object_type, object_id,
                            properties, mode, review)
         on conflict (id) do nothing",
        &column!(command => command.id.0),
        &column!(command => command.event_id.0),
        &column!(command => command.inference_id.0),
        &column!(command => command.event_key.to_string()),
        &column!(command => command.occurred_at),
        &column!(command => command.record.portal_id.0),
        &column!(command => command.record.object_type.type_id()) as &[&str],
        &column!(command => command.record.object_id.0),
        &properties as &[Json<&Vec<PropertyChange>>],
        &column!(command => command.terms.mode.as_str()) as &[&str],
        &reviews as &[Option<Json<&ReviewTerms>>],
        WriteCommand::FORMAT,
    )
    .execute(&mut *transaction)
    .await?;
    Ok(())
}

async fn insert_actions(transaction: &mut Transaction, decisions: &[&Decision]) -> Result<(), LedgerError> {
    let commands = decisions.iter().flat_map(|item| &item.commands);
    let all: Vec<_> =
        commands.flat_map(|command| command.actions.iter().map(move |action| (command.id.0, action))).collect();
    if all.is_empty() {
        return Ok(());
    }
    insert_action_rows(transaction, &all).await
}

/// Records actions, each with its write command, which is there already.
pub(crate) async fn insert_action_rows(
    transaction: &mut Transaction,
    all: &[(Uuid, &Action)],
) -> Result<(), LedgerError> {
    let hours = all.iter().map(|(_, action)| i32::try_from(action.cooldown_hours).unwrap_or(i32::MAX));
    sqlx::query!(
        "select record_actions($1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::jsonb[], $6::int[])",
        &all.iter().map(|(id, _)| *id).collect::<Vec<_>>(),
        &all.iter().map(|(_, action)| action.id.0).collect::<Vec<_>>(),
        &all.iter().map(|(_, action)| action.name.clone()).collect::<Vec<_>>(),
        &all.iter().map(|(_, action)| action.spec.kind().as_str().to_owned()).collect::<Vec<_>>(),
        &all.iter().map(|(_, action)| Json(&action.spec)).collect::<Vec<_>>() as &[Json<&ActionSpec>],
        &hours.collect::<Vec<_>>(),
    )
    .execute(&mut *transaction)
    .await?;
    Ok(())
}
