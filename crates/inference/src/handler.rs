//! Processes one event, in this order: claim → deletions → loop guard → playbooks → debounce → records → playbook runs → conclude → commit
//! → publish → acknowledge.
//!
//! One event can start several playbooks and concern several records. Each pair of a playbook and a record is a playbook run
//! of its own ([`playbook_run`]); a run that fails does not stop the others.
//!
//! Each step is a function below, in this order. Every step may happen twice, because RabbitMQ can deliver a message again:
//! the ledger knows what was done.

mod correction;
mod deletion;
mod model_choice;
mod playbook_run;
mod timing;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use broker::{Delivery, Disposition, Handler, Publisher, RetryDecision, RetrySchedule, Route, Stage, Tries};
use crashpoint::crash_point;
use domain::{Event, EventState, Inference, RecordRef, WriteCommand, WriteCommandId};
use ledger::{Claim, ClaimDenied, Claimed, Decision, SettledCharge, UnusableAnswer};
use maintenance::{CircuitBreakers, ModelCircuits, command_message};
use retry::{Failure, Reason, RetryAction};

pub use timing::EventTiming;

use crate::{
    BatchedLedger, ConfiguredPlaybook, CrmReader, HeldBack, ModelClient, NothingToDo, PlaybookSet, PortalClock,
    QuestionLog, StepError, WritableProperties, failure::RunFailure,
};

/// Processes events. Cheap to clone.
#[derive(Clone)]
pub struct EventHandler {
    /// The playbooks that events can start.
    pub playbooks: Arc<PlaybookSet>,
    /// Claims events and commits decisions.
    pub ledger: Arc<BatchedLedger>,
    /// Reads contexts from HubSpot.
    pub crm_reader: CrmReader,
    /// Knows which day it is in the portal.
    pub portal_clock: PortalClock,
    /// Knows which properties HubSpot takes values for.
    pub writable: Arc<WritableProperties>,
    /// Asks the model.
    pub model_client: ModelClient,
    /// Publishes write commands.
    pub publisher: Publisher,
    /// Says whether a dependency is away.
    pub circuit_breakers: CircuitBreakers,
    /// Whether its events need HubSpot or OpenAI, and wait while one of them is away.
    pub waits_for_outages: bool,
    /// Says whether a playbook's model is away.
    pub model_circuits: ModelCircuits,
    /// Says whether a playbook is held back.
    pub held_back: HeldBack,
    /// The delays of events that failed.
    pub retry_schedule: RetrySchedule,
    /// How long an event waits, and how long it may take.
    pub timing: EventTiming,
}

/// How an event, or one playbook run of it, ends when it does not fail.
enum RunResult {
    /// There is an answer, under this claim or an earlier one.
    Answered,
    /// There is nothing to ask or to write.
    Nothing(NothingToDo),
}

/// What was done under a claim. It is committed even when a later step fails, because it was paid for.
struct Progress<'a> {
    inferences: Vec<Inference>,
    commands: Vec<WriteCommand>,
    log: QuestionLog<'a>,
    /// Answers that cannot be used, under this claim or an earlier one, each once.
    unusable: Vec<UnusableAnswer>,
}

impl<'a> Progress<'a> {
    fn new(log: QuestionLog<'a>, unusable: Vec<UnusableAnswer>) -> Self {
        Self { inferences: Vec::new(), commands: Vec::new(), log, unusable }
    }
}

/// A claimed event, and what its message has behind it.
struct Begun {
    claimed: Claimed,
    tries: Tries,
}

impl Handler for EventHandler {
    async fn handle(&self, delivery: Delivery) -> Disposition {
        // RabbitMQ may have delivered the message just before the circuit breaker opened.
        if self.waits_for_outages
            && let Some(reason) = self.circuit_breakers.wait_reason(&delivery.tries())
        {
            return Disposition::defer(reason);
        }
        let event: Arc<Event> = match serde_json::from_slice(&delivery.message.body) {
            Ok(event) => Arc::new(event),
            Err(error) => {
                return Disposition::Park { reason: Reason::EventInvalid, detail: format!("not an event: {error}") };
            }
        };
        let claimed = match self.claim(event.clone(), &delivery).await {
            Ok(claimed) => claimed,
            Err(disposition) => return disposition,
        };
        crash_point!("inference.after_claim");
        self.handle_claimed(&event, claimed, &delivery).await
    }
}

impl EventHandler {
    /// Claims the event in the ledger, which is the idempotency check. `Err` says what becomes of a delivery whose event is
    /// not to be processed.
    async fn claim(&self, event: Arc<Event>, delivery: &Delivery) -> Result<Claimed, Disposition> {
        match self.ledger.claim(event.clone(), delivery.message.copy_id).await {
            Ok(Claim::Granted(claimed)) => Ok(claimed),
            // A worker was killed, or the broker refused the message, after the ledger had parked the event: the message
            // still has to reach the parking lot, and the write commands the next queue.
            Ok(Claim::Denied(ClaimDenied::Parked { under_this_copy: true, commands })) => {
                Err(match self.publish(&commands).await {
                    Disposition::Done => {
                        Disposition::Park { reason: Reason::Parked, detail: "the ledger has the reason".to_owned() }
                    }
                    unpublished => unpublished,
                })
            }
            Ok(Claim::Denied(ClaimDenied::Finished(_) | ClaimDenied::Parked { .. })) => {
                count_duplicate("done");
                Err(Disposition::Done)
            }
            Ok(Claim::Denied(ClaimDenied::Erased)) => Err(self.end_erased(&event, &delivery.tries()).await),
            // A worker was killed between the commit and the publication, or the event was delivered twice. Publishing
            // again is harmless: the writer recognises a command by its id.
            Ok(Claim::Denied(ClaimDenied::Decided(commands))) => {
                count_duplicate("decided");
                Err(self.publish(&commands).await)
            }
            Ok(Claim::Denied(ClaimDenied::LeasedElsewhere)) => {
                count_duplicate("leased_elsewhere");
                Err(Disposition::defer(Reason::LeasedElsewhere))
            }
            Err(error) => {
                let error = StepError::from(error);
                let (reason, detail) = (error.reason(), error.to_string());
                tracing::warn!(%reason, %error, "cannot claim the event");
                // What the ledger refuses has no row there: its message alone goes to the parking lot.
                let retry = self.retry_schedule.decide(error.retry_action(), &delivery.tries());
                Err(retry.disposition(reason, &detail))
            }
        }
    }

    /// An event of an erased record: with its message, the last that is known of it goes. A merge may be told after the survivor was
    /// erased, and what is known under the old ids goes, too.
    async fn end_erased(&self, event: &Event, tries: &Tries) -> Disposition {
        let merged = hubspot::webhook::merged_ids(event);
        if merged.is_empty() || event.portal_id != self.playbooks.portal_id() {
            return Disposition::Done;
        }
        match self.ledger.record_merges(&event.record(), merged).await {
            Ok(()) => Disposition::Done,
            Err(error) => {
                let error = StepError::from(error);
                let (reason, detail) = (error.reason(), error.to_string());
                tracing::warn!(%reason, %error, "the ledger does not take a merge into an erased record");
                self.retry_schedule.decide(error.retry_action(), tries).disposition(reason, &detail)
            }
        }
    }

    /// Processes a claimed event and commits the decision about it.
    async fn handle_claimed(&self, event: &Event, claimed: Claimed, delivery: &Delivery) -> Disposition {
        let began = Instant::now();
        let log = QuestionLog::of(&self.ledger, event, &claimed);
        let mut progress = Progress::new(log, claimed.unusable.clone());
        let debounce = self.timing.debounce_of(event, claimed.attempt, delivery.message.age());
        let processed = self.process(event, &claimed, debounce, &mut progress);
        let result = tokio::time::timeout(self.timing.time_limit, processed).await;
        let result = result.unwrap_or_else(|_| Err(StepError::DeadlineExceeded.into()));
        let tries = Tries { age: claimed.age + began.elapsed(), ..delivery.tries() };
        // Boxed, as `run_playbooks` is.
        Box::pin(self.decide(Begun { claimed, tries }, progress, result)).await
    }

    /// Everything between claim and decision: deletions, loop guard, playbooks, debounce and the playbook runs.
    async fn process(
        &self,
        event: &Event,
        claimed: &Claimed,
        debounce: Duration,
        progress: &mut Progress<'_>,
    ) -> Result<RunResult, RunFailure> {
        if let Some(nothing) = deletion::take(&self.ledger, self.playbooks.portal_id(), event).await? {
            return Ok(RunResult::Nothing(nothing));
        }
        if let Some(nothing) = self.playbooks.loop_guard().stops(event) {
            if nothing.reason == Reason::PlaybookProperty {
                correction::record(&self.ledger, self.playbooks.portal_id(), event).await?;
            }
            return Ok(RunResult::Nothing(nothing));
        }
        let subject = event.record();
        let ours = self.playbooks.portal_id();
        if event.portal_id != ours {
            return Err(StepError::WrongPortal { event: event.portal_id, ours }.into());
        }
        let merged = hubspot::webhook::merged_ids(event);
        if !merged.is_empty() {
            self.ledger.record_merges(&subject, merged).await.map_err(StepError::from)?;
        }
        let started = self.playbooks.started_by(event)?;
        if started.is_empty() {
            return Ok(RunResult::Nothing(NothingToDo::skipped(Reason::NoPlaybook)));
        }
        tokio::time::sleep(debounce).await;
        // Boxed: thousands of events wait up to here, and do not need the memory that the rest takes.
        Box::pin(self.run_playbooks(event, claimed, &subject, started, progress)).await
    }

    /// Runs each playbook for each record that the event concerns.
    async fn run_playbooks(
        &self,
        event: &Event,
        claimed: &Claimed,
        subject: &RecordRef,
        started: Vec<&ConfiguredPlaybook>,
        progress: &mut Progress<'_>,
    ) -> Result<RunResult, RunFailure> {
        if self.playbooks.loop_guard().is_our_engagement(&self.crm_reader, &self.ledger, subject).await? {
            return Ok(RunResult::Nothing(NothingToDo::dropped(Reason::Echo)));
        }
        let mut nothing = NothingToDo::skipped(Reason::NoRecord);
        let mut failure: Option<RunFailure> = None;
        let runs = self.runs(subject, started).await?;
        if runs.is_empty() && self.timing.may_be_incomplete(claimed, Some(event.occurred_at)) {
            return Err(StepError::NotAssociatedYet.into());
        }
        for run in &runs {
            match self.run(event, claimed, run, progress).await {
                Ok(RunResult::Answered) => {}
                Ok(RunResult::Nothing(because)) => nothing = because,
                Err(error) => {
                    let unusable = run.unusable(&error).filter(|answer| !progress.unusable.contains(answer));
                    progress.unusable.extend(unusable);
                    let failed = RunFailure { error, playbook: Some(run.playbook().name.clone()) };
                    failure = Some(match failure {
                        Some(earlier) => earlier.more_severe(failed),
                        None => failed,
                    });
                }
            }
        }
        let has_effect = claimed.was_decided || !progress.commands.is_empty();
        match failure {
            // One of several records no longer exists: the answers for the others count.
            Some(failure) if failure.error.retry_action() == RetryAction::Discard && has_effect => {
                Ok(RunResult::Answered)
            }
            Some(failure) => Err(failure),
            None if has_effect => Ok(RunResult::Answered),
            None => Ok(RunResult::Nothing(nothing)),
        }
    }

    /// Commits what the result means; if the ledger does not take that, that it did not.
    async fn decide(&self, begun: Begun, progress: Progress<'_>, result: Result<RunResult, RunFailure>) -> Disposition {
        let unusable = progress.unusable.clone();
        let (decision, disposition) = self.conclude(&begun, progress, result);
        let charges = decision.charges.clone();
        match self.commit(&begun.claimed, decision, disposition).await {
            Ok(disposition) => disposition,
            Err(error) => Box::pin(self.commit_refusal(&begun, (charges, unusable), error)).await,
        }
    }

    /// What the result means for the event in the ledger and for its message.
    fn conclude(
        &self,
        begun: &Begun,
        progress: Progress<'_>,
        result: Result<RunResult, RunFailure>,
    ) -> (Decision, Disposition) {
        let mut decision = Decision {
            event_id: begun.claimed.event_id,
            attempt: begun.claimed.attempt,
            state: EventState::Decided,
            reason: None,
            detail: None,
            playbook: None,
            wait: None,
            inferences: progress.inferences,
            commands: progress.commands,
            charges: progress.log.into_settled(),
            unusable: Vec::new(),
        };
        let disposition = match result {
            Ok(RunResult::Answered) => Disposition::Done,
            Ok(RunResult::Nothing(nothing)) => {
                decision.state = nothing.state;
                decision.reason = Some(nothing.reason);
                decision.detail = nothing.detail;
                Disposition::Done
            }
            Err(RunFailure { error, playbook }) => {
                let (reason, detail) = (error.reason(), error.to_string());
                let retry = if error.is_its_own(begun.tries.last_reason) {
                    self.retry_schedule.decide(RetryAction::RetryLater { after: None }, &begun.tries)
                } else {
                    self.circuit_breakers.decide(&self.retry_schedule, &error, &begun.tries)
                };
                let disposition = retry.disposition(reason, &detail);
                decision.state = state_of(retry);
                decision.reason = Some(reason);
                decision.detail = Some(detail);
                decision.playbook = playbook;
                if decision.state == EventState::Waiting {
                    decision.unusable = progress.unusable;
                }
                if matches!(error, StepError::NotAssociatedYet | StepError::GateClosed(_)) {
                    tracing::debug!(%reason, "the event waits");
                } else {
                    tracing::warn!(%reason, %error, state = decision.state.as_str(), "the event failed");
                }
                disposition
            }
        };
        decision.wait = disposition.delay();
        tracing::debug!(state = decision.state.as_str(), reason = decision.reason.map(Reason::as_str), "concluded");
        (decision, disposition)
    }

    /// Commits the decision, and only then publishes the write commands: a decision that is not in the ledger must have no
    /// effect. The commands are published even when another run of the event waits or parks it.
    ///
    /// `Err`: the ledger did not take the decision.
    async fn commit(
        &self,
        claimed: &Claimed,
        decision: Decision,
        disposition: Disposition,
    ) -> Result<Disposition, StepError> {
        let mut commands = claimed.commands.clone();
        commands.extend(decision.commands.iter().map(|command| command.id));
        if !self.ledger.commit_decision(decision).await? {
            tracing::warn!("the lease has expired; another worker has taken the event over");
            return Ok(Disposition::defer(Reason::LeaseLost));
        }
        crash_point!("inference.after_commit");
        Ok(match self.publish(&commands).await {
            Disposition::Done => {
                crash_point!("inference.after_publish");
                disposition
            }
            // The message comes back, and the ledger then returns the commands.
            unpublished => unpublished,
        })
    }

    /// Commits, instead of a decision that the ledger did not take, that it did not: the event failed for this reason, and
    /// what its answers cost counts. While the ledger is away, there is nothing to commit: the lease expires by itself, and
    /// the message comes back.
    async fn commit_refusal(
        &self,
        begun: &Begun,
        (charges, unusable): (Vec<SettledCharge>, Vec<UnusableAnswer>),
        error: StepError,
    ) -> Disposition {
        if error.reason() == Reason::LedgerUnavailable {
            tracing::warn!(%error, "cannot commit the decision");
            return Disposition::defer(Reason::LedgerUnavailable);
        }
        let progress = Progress::new(QuestionLog::none(), unusable);
        let (mut refused, disposition) = self.conclude(begun, progress, Err(error.into()));
        refused.charges = charges;
        match self.commit(&begun.claimed, refused, disposition.clone()).await {
            Ok(disposition) => disposition,
            Err(error) if error.reason() == Reason::LedgerUnavailable => Disposition::defer(Reason::LedgerUnavailable),
            Err(error) => {
                tracing::error!(%error, "the ledger refuses even to record that it refused the decision");
                disposition
            }
        }
    }

    /// Publishes the write commands. [`Disposition::Done`]: RabbitMQ has confirmed all of them, so that the event's message
    /// can be acknowledged.
    async fn publish(&self, commands: &[WriteCommandId]) -> Disposition {
        for command in commands {
            let message = command_message(*command);
            if let Err(error) = Box::pin(self.publisher.publish(Route::Queue(Stage::Writes), &message)).await {
                tracing::warn!(%error, "cannot publish a write command; the event's message comes back for it");
                return Disposition::defer(error.reason());
            }
        }
        Disposition::Done
    }
}

fn count_duplicate(kind: &'static str) {
    metrics::counter!("leadline_duplicates_total", "kind" => kind).increment(1);
}

/// The state of an event that failed.
fn state_of(retry: RetryDecision) -> EventState {
    match retry {
        RetryDecision::Retry(_) | RetryDecision::Defer(_) => EventState::Waiting,
        RetryDecision::Exhausted | RetryDecision::Park => EventState::Parked,
        RetryDecision::Discard => EventState::Dropped,
    }
}

#[cfg(test)]
mod tests {
    use super::{Delivery, EventHandler, Handler};

    /// How many bytes a future of this function takes. None is made.
    fn future_bytes<A, F>(_: impl Fn(A) -> F) -> usize {
        size_of::<F>()
    }

    /// Thousands of events wait for the model at once. A future is as large as the largest of its stages, so a seldom one that is not boxed
    /// costs every event its memory.
    #[test]
    fn an_event_that_waits_for_the_model_takes_few_bytes() {
        let of_message =
            future_bytes(|(handler, delivery): (&'static EventHandler, Delivery)| handler.handle(delivery));
        // The consumer's task, which adds some 900 bytes, fits jemalloc's size of 2,048.
        assert!(of_message <= 1_152, "{of_message}");
        let of_runs = future_bytes(|(handler, event, claimed, subject, started, progress)| {
            EventHandler::run_playbooks(handler, event, claimed, subject, started, progress)
        });
        // jemalloc has no size between this one and 3,072 bytes.
        assert!(of_runs <= 3_584, "{of_runs}");
    }
}
