//! The unit of work: one playbook and one record, from the context to what is intended.

use std::collections::HashMap;

use crashpoint::crash_point;
use domain::{Event, EventState, Inference, ObjectId, ObjectType, RecordRef, WriteCommand, WriteCommandId};
use inference::{StepError, context};
use ledger::{Claimed, PriorAnswers};
use openai::models::Model;
use playbook::{Context, Playbook, event_variable};
use retry::{Failure, Reason, RetryAction};
use time::OffsetDateTime;

use super::{EventHandler, Progress};
use crate::loop_guard::LoopGuard;

/// One playbook and one record.
pub(super) struct PlaybookRun<'a> {
    pub(super) playbook: &'a Playbook,
    pub(super) model: &'a Model,
    pub(super) record: RecordRef,
}

impl EventHandler {
    /// Records: what the event is about, or what the engagement that it is about is associated to.
    pub(super) async fn records<'a>(
        &self,
        subject: &RecordRef,
        playbooks: Vec<(&'a Playbook, &'a Model)>,
    ) -> Result<Vec<PlaybookRun<'a>>, StepError> {
        let mut units = Vec::new();
        let mut carried: HashMap<(ObjectType, usize), Vec<ObjectId>> = HashMap::new();
        for (playbook, model) in playbooks {
            if playbook.selection.records.contains(&subject.object_type) {
                units.push(PlaybookRun { playbook, model, record: subject.clone() });
                continue;
            }
            for kind in &playbook.selection.records {
                let key = (kind.clone(), playbook.selection.max_records_per_event);
                if !carried.contains_key(&key) {
                    let from = [subject.object_id];
                    let most = playbook.selection.max_records_per_event;
                    let found = context::associated(&self.crm_reader, &subject.object_type, &from, kind, most).await?;
                    carried.insert(key.clone(), found);
                }
                let records = carried.get(&key).into_iter().flatten().map(|id| RecordRef {
                    portal_id: subject.portal_id,
                    object_type: kind.clone(),
                    object_id: *id,
                });
                units.extend(records.map(|record| PlaybookRun { playbook, model, record }));
            }
        }
        Ok(units)
    }

    /// One playbook and one record, from the context to what is intended. Gives why nothing is to be done, if so.
    pub(super) async fn work(
        &self,
        event: &Event,
        claimed: &Claimed,
        unit: &PlaybookRun<'_>,
        progress: &mut Progress,
    ) -> Result<Settled, StepError> {
        let PlaybookRun { playbook, model, record } = unit;
        let mut prior_answers = self.batched_ledger.prior_answers(event, claimed, record).await?;
        if let Some(settled) = settled(playbook, &prior_answers, &self.loop_guard) {
            return Ok(settled);
        }
        let context = context::read(&self.crm_reader, record, &playbook.context).await?;
        // Completed for under an id that was merged away: what counts is what was said about the survivor.
        let record = context.record();
        if *record != unit.record {
            prior_answers = self.batched_ledger.prior_answers(event, claimed, record).await?;
            if let Some(settled) = settled(playbook, &prior_answers, &self.loop_guard) {
                return Ok(settled);
            }
        }
        if let Some(reason) = guards(event, playbook, &context)? {
            return Ok(Some((EventState::Skipped, reason.0, reason.1)));
        }
        let hash = context.hash(&playbook.version, self.loop_guard.written());
        if prior_answers.last_context.get(&playbook.name) == Some(&hash) {
            return Ok(Some((EventState::Skipped, Reason::UnchangedContext, None)));
        }
        let memory = self.batched_ledger.memory(claimed, &playbook.name);
        let answered = inference::answer(&self.model_client, playbook, model, record, &context, &memory).await?;
        crash_point!("inference.after_answer");
        let given = Inference { context_hash: Some(hash), ..answered.inference };
        progress.inferences.push(given.clone());
        tracing::debug!(playbook = playbook.name, tokens = given.usage.prompt_tokens, "answered");
        let now = OffsetDateTime::now_utc();
        let intended = playbook.plan_writes(&event_variable(event), &context, &answered.result?, &given.model, now)?;
        let nothing = intended.is_empty();
        progress.commands.extend(intended.into_iter().map(|intended| WriteCommand {
            id: WriteCommandId::new(),
            event_id: claimed.event_id,
            event_key: event.key.clone(),
            inference_id: given.id,
            occurred_at: event.occurred_at,
            record: intended.record,
            properties: intended.properties,
            actions: intended.actions,
        }));
        Ok(nothing.then(|| (EventState::Skipped, Reason::NothingIntended, None)))
    }
}

/// Guards: why nothing is to be asked about these records, if so.
fn guards(
    event: &Event,
    playbook: &Playbook,
    context: &Context,
) -> Result<Option<(Reason, Option<String>)>, StepError> {
    let variables = playbook.variables(&event_variable(event), context);
    if !playbook.is_triggered_by(event, &variables)? {
        return Ok(Some((Reason::ConditionNotMet, None)));
    }
    if let Some(guard) = playbook.first_matching_guard(&variables)? {
        return Ok(Some((Reason::Guard, Some(guard.name.clone()))));
    }
    // Nothing to say is not paid for.
    Ok(context.entries.is_empty().then(|| (Reason::EmptyContext, None)))
}

/// Why a unit needs nothing more; `None` when it has (or had) an answer.
pub(super) type Settled = Option<(EventState, Reason, Option<String>)>;

/// Whether a unit has been answered already, by this event or a newer one, or is about to be by a newer one.
fn settled(playbook: &Playbook, prior_answers: &PriorAnswers, loop_guard: &LoopGuard) -> Option<Settled> {
    if prior_answers.answered.contains(&playbook.name) {
        return Some(None);
    }
    let because = match () {
        () if prior_answers.answered_newer.contains(&playbook.name) => Reason::NewerEventAnswered,
        () if waiting(prior_answers)
            .any(|newer| loop_guard.stops(&newer).is_none() && playbook.is_superseded_by(&newer)) =>
        {
            Reason::NewerEventWaits
        }
        () => return None,
    };
    Some(Some((EventState::Superseded, because, None)))
}

/// The newer events of the record that somebody has begun with.
fn waiting(prior_answers: &PriorAnswers) -> impl Iterator<Item = Event> {
    prior_answers.newer_waiting.iter().filter_map(|payload| {
        let body = serde_json::to_vec(&[payload]).ok()?;
        hubspot::webhook::parse(&body).ok()?.pop()?.event.ok()
    })
}

/// A failure, and the playbook whose it is.
pub(super) struct RunFailure {
    pub(super) error: StepError,
    pub(super) playbook: Option<String>,
}

impl<E: Into<StepError>> From<E> for RunFailure {
    fn from(error: E) -> Self {
        Self { error: error.into(), playbook: None }
    }
}

/// Of two failures the one whose retry action decides about the event: what can still succeed comes back, and with it the
/// rest; then what a person has to see; a record that is gone concerns nobody else.
pub(super) fn more_severe(one: Option<RunFailure>, other: RunFailure) -> RunFailure {
    let rank = |failure: &RunFailure| match failure.error.retry_action() {
        RetryAction::RetryNow { .. } | RetryAction::RetryLater { .. } | RetryAction::RateLimited { .. } => 2,
        RetryAction::Park => 1,
        RetryAction::Discard => 0,
    };
    match one {
        Some(one) if rank(&one) >= rank(&other) => one,
        _ => other,
    }
}
