//! One playbook run: one playbook and one record, from the context to the write commands.
//!
//! prior answers → context → guards → unchanged context → answer → write commands. An answer that is stored and has had no effect
//! yet is planned again, and not paid for again.

use std::{
    collections::{BTreeSet, HashMap, hash_map::Entry},
    sync::Arc,
};

use crashpoint::crash_point;
use domain::{Event, Inference, ObjectId, ObjectType, RecordRef, WriteCommand};
use ledger::{Claimed, PriorAnswer, PriorAnswers, UnusableAnswer};
use maintenance::Turns;
use playbook::{AnswerRules, Context, LocalTime, PlannedWrite, Playbook, UnverifiedPolicy, event_variable};
use retry::{Failure, Reason};
use serde_json::Value;
use time::OffsetDateTime;

use super::{EventHandler, Progress, RunResult};
use crate::{
    ConfiguredPlaybook, LoopGuard, ModelAnswer, NothingToDo, StepError, UsableAnswer, context, context::ReadContext,
};

/// One playbook and one record.
pub(super) struct PlaybookRun<'a> {
    pub(super) configured: &'a ConfiguredPlaybook,
    pub(super) record: RecordRef,
}

impl PlaybookRun<'_> {
    pub(super) fn playbook(&self) -> &Playbook {
        &self.configured.playbook
    }

    /// What is to be remembered of a run that failed: an answer that was paid for, or may be, and cannot be used.
    pub(super) fn unusable(&self, error: &StepError) -> Option<UnusableAnswer> {
        if !error.is_unusable_answer() {
            return None;
        }
        let Playbook { name, version, .. } = self.playbook();
        Some(UnusableAnswer {
            playbook: name.clone(),
            playbook_version: version.clone(),
            record: self.record.to_string(),
            reason: error.reason(),
            detail: error.to_string(),
        })
    }

    /// The failure of this run under an earlier claim, after which the event had to wait for something else.
    fn earlier_failure(&self, claimed: &Claimed) -> Option<StepError> {
        let Playbook { name, version, .. } = self.playbook();
        let earlier = claimed.unusable.iter().find(|unusable| unusable.is_of(name, version, &self.record))?;
        Some(StepError::Answer { reason: earlier.reason, detail: earlier.detail.clone() })
    }
}

/// What a playbook run comes to before the model is asked.
enum Prepared {
    /// It has ended without a question.
    Ended(RunResult),
    /// An earlier claim's answer about the context can be used.
    PriorAnswer(Arc<Context>, UsableAnswer),
    /// The model is to be asked.
    Question(PreparedQuestion),
}

/// What the model is to be asked about.
struct PreparedQuestion {
    context: Arc<Context>,
    context_hash: String,
    turns: Turns,
}

impl EventHandler {
    /// The runs that an event about `subject` leads to. If `subject` is not of an object type that the playbook enriches (a
    /// note, for example), the playbook runs for the records that it is associated with.
    pub(super) async fn runs<'a>(
        &self,
        subject: &RecordRef,
        started: Vec<&'a ConfiguredPlaybook>,
    ) -> Result<Vec<PlaybookRun<'a>>, StepError> {
        let mut runs = Vec::with_capacity(started.len());
        // Two playbooks often ask for the same associations.
        let mut known: HashMap<(&ObjectType, usize), Vec<ObjectId>> = HashMap::new();
        for configured in started {
            let playbook = &configured.playbook;
            if playbook.selection.records.contains(&subject.object_type) {
                runs.push(PlaybookRun { configured, record: subject.clone() });
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
                runs.extend(records.map(|record| PlaybookRun { configured, record }));
            }
        }
        Ok(runs)
    }

    /// What the playbook reads, without what the fleet itself wrote.
    async fn read_context(&self, record: &RecordRef, playbook: &Playbook) -> Result<ReadContext, StepError> {
        let text_pool = &self.model_client.text_pool;
        let mut read = context::read(&self.crm_reader, text_pool, record, &playbook.context).await?;
        read.context.remove_own_entries(&self.ledger.known_actions(read.context.marked_actions()).await?);
        Ok(read)
    }

    /// The hash of what a playbook reads in `context`: not of the placeholders, and not of what it does not show to the model.
    async fn hash(&self, context: &Arc<Context>, playbook: &Playbook) -> String {
        let mut left_out = BTreeSet::clone(self.playbooks.loop_guard().written_properties());
        left_out.extend(playbook.denied_properties());
        let (context, version) = (context.clone(), playbook.version.clone());
        self.model_client.text_pool.run(context.size(), move || context.hash(&version, &left_out)).await
    }

    /// Runs one playbook for one record and adds the inference and the write commands to `progress`.
    pub(super) async fn run(
        &self,
        event: &Event,
        claimed: &Claimed,
        run: &PlaybookRun<'_>,
        progress: &mut Progress<'_>,
    ) -> Result<RunResult, StepError> {
        let prepared = self.prepare(event, claimed, run).await?;
        let commands = match prepared {
            Prepared::Ended(result) => return Ok(result),
            Prepared::PriorAnswer(context, prior) => {
                let now = self.portal_clock.now().await?;
                self.commands_of(event, claimed, (run.playbook(), &context, &now), prior).await?
            }
            Prepared::Question(question) => self.ask_and_plan(event, claimed, run, question, progress).await?,
        };
        if commands.is_empty() {
            return Ok(RunResult::Nothing(NothingToDo::skipped(Reason::NothingIntended)));
        }
        progress.commands.extend(commands);
        Ok(RunResult::Answered)
    }

    /// Everything before the question: prior answers, the context, and what makes a question needless or impossible.
    async fn prepare(&self, event: &Event, claimed: &Claimed, run: &PlaybookRun<'_>) -> Result<Prepared, StepError> {
        let (playbook, record) = (run.playbook(), &run.record);
        let loop_guard = self.playbooks.loop_guard();
        let mut prior_answers = self.ledger.prior_answers(event, claimed, record).await?;
        if let Some(result) = earlier_result(playbook, &prior_answers, loop_guard) {
            return Ok(Prepared::Ended(result));
        }
        if let Some(error) = run.earlier_failure(claimed) {
            return Err(error);
        }
        // Before HubSpot is read for nothing. An answer of an earlier claim needs no model.
        let has_answer = prior_answers.answered.contains_key(&playbook.name);
        let turns = if has_answer { Turns::default() } else { self.admit(run)? };
        let ReadContext { context, created_at, redacted } = self.read_context(record, playbook).await?;
        let context = Arc::new(context);
        // The record may have been merged into another one. What counts is what was answered about that one.
        let record = context.record();
        if *record != run.record {
            self.ledger.record_merges(record, [run.record.object_id]).await?;
            prior_answers = self.ledger.prior_answers(event, claimed, record).await?;
            if let Some(result) = earlier_result(playbook, &prior_answers, loop_guard) {
                return Ok(Prepared::Ended(result));
            }
        }
        let may_be_incomplete = self.timing.may_be_incomplete(claimed, created_at);
        if let Some(mut nothing) = check_guards(event, playbook, &context)? {
            if may_be_incomplete && depends_on_associations(nothing.reason, playbook, &context) {
                return Err(StepError::NotAssociatedYet);
            }
            if nothing.reason == Reason::EmptyContext && !redacted.is_empty() {
                let names: Vec<_> = redacted.into_iter().collect();
                nothing.detail =
                    Some(format!("HubSpot shows {} as REDACTED: the token lacks their scope", names.join(", ")));
            }
            return Ok(Prepared::Ended(RunResult::Nothing(nothing)));
        }
        let prior = prior_answers.answered.remove(&playbook.name).and_then(|prior| usable(playbook, prior));
        if let Some(prior) = prior {
            return Ok(Prepared::PriorAnswer(context, prior));
        }
        let context_hash = self.hash(&context, playbook).await;
        if prior_answers.known_contexts.get(&playbook.name).is_some_and(|known| known.contains(&context_hash)) {
            return Ok(Prepared::Ended(RunResult::Nothing(NothingToDo::skipped(Reason::UnchangedContext))));
        }
        if let Some(detail) = self.writable.nothing_to_write(playbook).await {
            return Err(StepError::NotWritable(detail));
        }
        if playbook.lacks_targets(&context) && may_be_incomplete {
            return Err(StepError::NotAssociatedYet);
        }
        Ok(Prepared::Question(PreparedQuestion { context, context_hash, turns }))
    }

    /// Asks the model about the context, and plans what follows from its answer. Adds the inferences to `progress`, also those of an answer
    /// that cannot be used.
    async fn ask_and_plan(
        &self,
        event: &Event,
        claimed: &Claimed,
        run: &PlaybookRun<'_>,
        PreparedQuestion { context, context_hash, turns }: PreparedQuestion,
        progress: &mut Progress<'_>,
    ) -> Result<Vec<WriteCommand>, StepError> {
        let (playbook, now) = (run.playbook(), self.portal_clock.now().await?);
        let ModelAnswer { inferences, result } =
            self.ask(claimed, (run, context.record()), (&context, &now), &turns, &progress.log).await;
        crash_point!("inference.after_answer");
        tracing::debug!(playbook = playbook.name, "the model has answered");
        let planned = match result {
            Ok(answer) => self.commands_of(event, claimed, (playbook, &context, &now), answer).await,
            Err(error) => Err(error),
        };
        // Without a plan the context counts as not answered: a later event of the record asks about it again.
        let context_hash = planned.is_ok().then_some(context_hash);
        let with_hash = |inference| Inference { context_hash: context_hash.clone(), ..inference };
        progress.inferences.extend(inferences.into_iter().map(with_hash));
        planned
    }

    /// The write commands that follow from an answer.
    async fn commands_of(
        &self,
        event: &Event,
        claimed: &Claimed,
        (playbook, context, asked_at): (&Playbook, &Context, &LocalTime),
        answer: UsableAnswer,
    ) -> Result<Vec<WriteCommand>, StepError> {
        // Looked at when there is an answer: a question may take long.
        let least_mode = self.held_back.least_mode(playbook).await?;
        let UsableAnswer { inference_id, model, fields } = answer;
        let now = LocalTime::new(OffsetDateTime::now_utc(), asked_at.zone.clone());
        let planned = playbook.plan_writes(&event_variable(event), context, &fields, &model, &now, least_mode)?;
        let command = |planned: PlannedWrite| planned.into_command(playbook, event, claimed.event_id, inference_id);
        Ok(planned.into_iter().map(command).collect())
    }
}

/// An answer of an earlier claim, if it fits the playbook as it is today: an operator may have mended it since.
fn usable(playbook: &Playbook, prior: PriorAnswer) -> Option<UsableAnswer> {
    let PriorAnswer { inference_id, model, fields, unverified, .. } = prior;
    let AnswerRules { fields: rules, unverified: policy } = &playbook.answer;
    let fields = rules.check(&Value::Object(fields?).to_string()).ok()?;
    let fields = match policy {
        _ if unverified.is_empty() => fields,
        UnverifiedPolicy::Park => return None,
        policy => rules.apply_unverified_policy(fields, &unverified, *policy),
    };
    Some(UsableAnswer { inference_id, model, fields })
}

/// The result of a run that needs no question: this event's answer has had its effect, or a newer one of the record has or will
/// have an answer.
fn earlier_result(playbook: &Playbook, prior_answers: &PriorAnswers, loop_guard: &LoopGuard) -> Option<RunResult> {
    // An event of its engagement is not forgotten with it: it may be about others, too.
    if prior_answers.is_erased {
        return Some(RunResult::Nothing(NothingToDo::dropped(Reason::RecordErased)));
    }
    if prior_answers.answered.get(&playbook.name).is_some_and(|answer| answer.has_commands) {
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

/// Whether there is nothing to ask for want of records or engagements that the playbook reads and that may be on their way. Conditions
/// and guards see records, and no engagements.
fn depends_on_associations(nothing: Reason, playbook: &Playbook, context: &Context) -> bool {
    let reads = playbook.context.reads_for(&context.record().object_type);
    reads.iter().any(|read| {
        let lacks_records = read.path.parent().is_some() && context.records_at(&read.path).next().is_none();
        lacks_records || (nothing == Reason::EmptyContext && !read.engagements.is_empty())
    })
}

#[cfg(test)]
mod tests {
    use domain::InferenceId;
    use ledger::PriorAnswer;
    use playbook::Playbook;
    use serde_json::{Value, json};

    use super::usable;

    const LEADS: &str = include_str!("../../../../deploy/playbooks/lead-qualification.toml");

    fn fields_used(playbook: &str, fields: &Value, unverified: &[&str]) -> Option<Value> {
        let playbook = Playbook::parse("lead-qualification.toml", playbook, &[]).expect("a valid playbook");
        let prior = PriorAnswer {
            inference_id: InferenceId::new(),
            model: "gpt-4o-2024-08-06".to_owned(),
            fields: fields.as_object().cloned(),
            unverified: unverified.iter().map(|name| (*name).to_owned()).collect(),
            has_commands: false,
        };
        usable(&playbook, prior).map(|answer| Value::Object(answer.fields))
    }

    #[test]
    fn a_stored_answer_is_used_as_far_as_it_fits_the_playbook_of_today() {
        let fields = json!({"lead_score": 85, "summary": "A buyer.", "budget_estimate": 50_000,
            "budget_estimate_quote": "They have $50k", "qualification_summary": "Ready."});
        assert_eq!(fields_used(LEADS, &fields, &[]).as_ref(), Some(&fields));
        let unverified = fields_used(LEADS, &fields, &["budget_estimate"]).expect("usable");
        assert_eq!(unverified["budget_estimate"], Value::Null, "as when it was answered");
        let parking = LEADS.replacen("records =", "unverified = \"park\"\nrecords =", 1);
        assert_eq!(fields_used(&parking, &fields, &["budget_estimate"]), None, "today a person looks at it");
        let bounded = LEADS.replace("maximum = 100\n", "maximum = 10\n");
        assert_eq!(fields_used(&bounded, &fields, &[]), None, "the mended playbook asks again");
        assert_eq!(fields_used(LEADS, &Value::Null, &[]), None, "erased");
    }
}
