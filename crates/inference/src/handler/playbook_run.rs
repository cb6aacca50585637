//! One playbook run: one playbook and one record, from the context to the write commands.
//!
//! prior answers → context → guards → unchanged context → answer → write commands.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::Arc,
};

use crashpoint::crash_point;
use domain::{Event, Inference, ObjectId, ObjectType, RecordRef};
use ledger::{Claimed, PriorAnswers};
use openai::models::Model;
use playbook::{Context, PlannedWrite, Playbook, event_variable};
use retry::Reason;
use time::OffsetDateTime;

use super::{EventHandler, Progress, RunResult};
use crate::{ConfiguredPlaybook, LoopGuard, ModelAnswer, NothingToDo, StepError, UsableAnswer, answer, context};

/// One playbook and one record.
pub(super) struct PlaybookRun<'a> {
    pub(super) playbook: &'a Playbook,
    pub(super) model: &'a Model,
    pub(super) record: RecordRef,
}

impl EventHandler {
    /// The runs that an event about `subject` leads to. If `subject` is not of an object type that the playbook enriches (a
    /// note, for example), the playbook runs for the records that it is associated with.
    pub(super) async fn runs<'a>(
        &self,
        subject: &RecordRef,
        started: Vec<&'a ConfiguredPlaybook>,
    ) -> Result<Vec<PlaybookRun<'a>>, StepError> {
        let mut runs = Vec::new();
        // Two playbooks often ask for the same associations.
        let mut known: HashMap<(&ObjectType, usize), Vec<ObjectId>> = HashMap::new();
        for ConfiguredPlaybook { playbook, model } in started {
            if playbook.selection.records.contains(&subject.object_type) {
                runs.push(PlaybookRun { playbook, model, record: subject.clone() });
                continue;
            }
            for object_type in &playbook.selection.records {
                let max_records = playbook.selection.max_records_per_event;
                let ids = match known.entry((object_type, max_records)) {
                    Entry::Occupied(known) => known.into_mut(),
                    Entry::Vacant(unknown) => {
                        let (from_type, from) = (&subject.object_type, [subject.object_id]);
                        let ids = context::associated(&self.crm_reader, from_type, &from, object_type, max_records);
                        unknown.insert(ids.await?)
                    }
                };
                let records = ids.iter().map(|id| RecordRef {
                    portal_id: subject.portal_id,
                    object_type: object_type.clone(),
                    object_id: *id,
                });
                runs.extend(records.map(|record| PlaybookRun { playbook, model, record }));
            }
        }
        Ok(runs)
    }

    /// What the playbook reads, without what the fleet itself wrote.
    async fn read_context(&self, record: &RecordRef, playbook: &Playbook) -> Result<Arc<Context>, StepError> {
        let text_pool = &self.model_client.text_pool;
        let mut context = context::read(&self.crm_reader, text_pool, record, &playbook.context).await?;
        context.remove_own_entries(&self.ledger.known_actions(context.marked_actions()).await?);
        Ok(Arc::new(context))
    }

    /// The hash of what a playbook of this `version` reads in `context`.
    async fn hash(&self, context: &Arc<Context>, version: &str) -> String {
        let written = self.playbooks.loop_guard().written_properties().clone();
        let (context, version) = (context.clone(), version.to_owned());
        self.model_client.text_pool.run(context.size(), move || context.hash(&version, &written)).await
    }

    /// Runs one playbook for one record and adds the inference and the write commands to `progress`.
    pub(super) async fn run(
        &self,
        event: &Event,
        claimed: &Claimed,
        run: &PlaybookRun<'_>,
        progress: &mut Progress<'_>,
    ) -> Result<RunResult, StepError> {
        let PlaybookRun { playbook, model, record } = run;
        let loop_guard = self.playbooks.loop_guard();
        let mut prior_answers = self.ledger.prior_answers(event, claimed, record).await?;
        if let Some(result) = earlier_result(playbook, &prior_answers, loop_guard) {
            return Ok(result);
        }
        let context = self.read_context(record, playbook).await?;
        // The record may have been merged into another one. What counts is what was answered about that one.
        let record = context.record();
        if *record != run.record {
            self.ledger.record_merges(record, [run.record.object_id]).await?;
            prior_answers = self.ledger.prior_answers(event, claimed, record).await?;
            if let Some(result) = earlier_result(playbook, &prior_answers, loop_guard) {
                return Ok(result);
            }
        }
        if let Some(nothing) = check_guards(event, playbook, &context)? {
            return Ok(RunResult::Nothing(nothing));
        }
        let hash = self.hash(&context, &playbook.version).await;
        if prior_answers.last_context.get(&playbook.name) == Some(&hash) {
            return Ok(RunResult::Nothing(NothingToDo::skipped(Reason::UnchangedContext)));
        }
        let ModelAnswer { inferences, result } =
            answer(&self.model_client, playbook, model, record, &context, &progress.log).await;
        crash_point!("inference.after_answer");
        let with_hash = |inference| Inference { context_hash: Some(hash.clone()), ..inference };
        progress.inferences.extend(inferences.into_iter().map(with_hash));
        let UsableAnswer { inference_id, model, fields } = result?;
        tracing::debug!(playbook = playbook.name, "the model has answered");
        let now = OffsetDateTime::now_utc();
        let intended = playbook.plan_writes(&event_variable(event), &context, &fields, &model, now)?;
        if intended.is_empty() {
            return Ok(RunResult::Nothing(NothingToDo::skipped(Reason::NothingIntended)));
        }
        let command = |planned: PlannedWrite| planned.into_command(event, claimed.event_id, inference_id);
        progress.commands.extend(intended.into_iter().map(command));
        Ok(RunResult::Answered)
    }
}

/// The result of a run that needs no question: this event has an answer, or a newer one of the record has or will have one.
fn earlier_result(playbook: &Playbook, prior_answers: &PriorAnswers, loop_guard: &LoopGuard) -> Option<RunResult> {
    if prior_answers.answered.contains(&playbook.name) {
        return Some(RunResult::Answered);
    }
    if prior_answers.answered_newer.contains(&playbook.name) {
        return Some(RunResult::Nothing(NothingToDo::superseded(Reason::NewerEventAnswered)));
    }
    let supersedes = |newer: &Event| loop_guard.stops(newer).is_none() && playbook.is_superseded_by(newer);
    newer_events_in_progress(prior_answers)
        .any(|newer| supersedes(&newer))
        .then(|| RunResult::Nothing(NothingToDo::superseded(Reason::NewerEventWaits)))
}

/// The newer events of the record that workers have claimed and not finished.
fn newer_events_in_progress(prior_answers: &PriorAnswers) -> impl Iterator<Item = Event> {
    prior_answers.newer_waiting.iter().filter_map(|payload| {
        let body = serde_json::to_vec(&[payload]).ok()?;
        hubspot::webhook::parse(&body).ok()?.pop()?.event.ok()
    })
}

/// Why the playbook asks nothing about this context, if so: the trigger's condition does not hold, a guard holds, or there is
/// no text to read.
fn check_guards(event: &Event, playbook: &Playbook, context: &Context) -> Result<Option<NothingToDo>, StepError> {
    let variables = playbook.variables(&event_variable(event), context);
    if !playbook.is_triggered_by(event, &variables)? {
        return Ok(Some(NothingToDo::skipped(Reason::ConditionNotMet)));
    }
    if let Some(guard) = playbook.first_matching_guard(&variables)? {
        let nothing = NothingToDo::skipped(Reason::Guard);
        return Ok(Some(NothingToDo { detail: Some(guard.name.clone()), ..nothing }));
    }
    Ok(context.entries.is_empty().then(|| NothingToDo::skipped(Reason::EmptyContext)))
}
