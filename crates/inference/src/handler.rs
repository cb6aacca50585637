//! The way of an event:
//! claim → loop guard → playbooks → records → context → guards → ask → intend → record → write commands → ack.
//!
//! One event may start several playbooks, and concern several records: each playbook with each record is a unit of work
//! of its own, and what one unit meets holds back no other.
//!
//! Every step is a function below, in this order. Each may run twice: the ledger knows what was done already.

mod playbook_run;

use std::{sync::Arc, time::Duration};

use broker::{Delivery, Disposition, Handler, Publisher, RetryDecision, Route, Stage};
use crashpoint::crash_point;
use domain::{AppId, Dependency, Event, EventState, Inference, PortalId, RecordRef, WriteCommand};
use inference::{CrmReader, ModelClient, StepError};
use ledger::{Claim, Claimed, Decision, Duplicate, Ledger};
use limits::{Lane, RateLimiters};
use maintenance::{CircuitBreakers, Probe, command_message};
use openai::models::Model;
use playbook::Playbook;
use retry::{CallHooks, Failure, Reason, RetryAction};
use service::ServiceFailure;
use settings::{MissingSetting, Settings};

use crate::{batched_ledger::BatchedLedger, loop_guard::LoopGuard, outages};
use playbook_run::{RunFailure, more_severe};

/// What is kept of a lease for committing the decision.
const SETTLE_MARGIN: f64 = 0.15;

/// What an event meets on its handler. Cheap to clone.
#[derive(Clone)]
pub struct EventHandler {
    playbooks: Arc<[Playbook]>,
    models: Arc<[Model]>,
    loop_guard: Arc<LoopGuard>,
    portal_id: PortalId,
    batched_ledger: Arc<BatchedLedger>,
    crm_reader: CrmReader,
    hubspot: hubspot::HubSpotClient,
    model_client: ModelClient,
    rate_limiters: RateLimiters,
    publisher: Publisher,
    circuit_breakers: CircuitBreakers,
    retry_schedule: broker::RetrySchedule,
    time_per_event: Duration,
    coalesce: Duration,
}

impl EventHandler {
    /// How the outages of what it depends on are probed.
    pub fn probes(&self) -> Vec<(Dependency, Probe)> {
        outages::probes(&self.hubspot, &self.model_client.openai, &self.models[0].name)
    }

    pub fn new(
        settings: &Settings,
        playbooks: Vec<Playbook>,
        ledger: &Ledger,
        publisher: Publisher,
        circuit_breakers: CircuitBreakers,
    ) -> Result<Self, ServiceFailure> {
        let models =
            playbooks.iter().map(|playbook| inference::model_of(settings, playbook)).collect::<Vec<_>>().into();
        let lease = Duration::from_secs(settings.inference.lease_seconds);
        let app_id = AppId(settings.hubspot.app_id.ok_or(MissingSetting("hubspot.app_id"))?);
        let rate_limiters = RateLimiters::new(settings, ledger)?;
        let caps = playbooks
            .iter()
            .filter_map(|playbook| Some((playbook.name.clone(), playbook.model.max_micro_dollars_per_day?)));
        let spend_limiter = rate_limiters.spend_limiter(caps);
        let hooks = |of| CallHooks { observer: circuit_breakers.observer(of), rate_limiter: None };
        let hubspot = bootstrap::hubspot_client(settings, hooks(Dependency::HubSpot))?;
        let openai = bootstrap::openai_client(settings, hooks(Dependency::OpenAi))?;
        Ok(Self {
            crm_reader: CrmReader::new(hubspot.with_rate_limiter(rate_limiters.hubspot(Lane::Live)), &settings.hubspot),
            loop_guard: Arc::new(LoopGuard::new(app_id, &playbooks)),
            playbooks: playbooks.into(),
            models,
            portal_id: PortalId(settings.hubspot.portal_id.ok_or(MissingSetting("hubspot.portal_id"))?),
            batched_ledger: Arc::new(BatchedLedger::open(settings, ledger)),
            hubspot,
            model_client: ModelClient {
                openai: openai.with_rate_limiter(rate_limiters.openai(Lane::Live)),
                spend_limiter,
            },
            rate_limiters,
            publisher,
            circuit_breakers,
            retry_schedule: bootstrap::retry_schedule(settings)?,
            time_per_event: lease.mul_f64(1.0 - SETTLE_MARGIN),
            coalesce: Duration::from_millis(settings.inference.debounce_ms),
        })
    }

    /// The same for events that are caught up with: they leave a part of the rate_limiters to the others.
    pub fn for_backfill(&self) -> Self {
        let Self { crm_reader, model_client, rate_limiters, .. } = self;
        Self {
            crm_reader: crm_reader.with_rate_limiter(rate_limiters.hubspot(Lane::Backfill)),
            model_client: ModelClient {
                openai: model_client.openai.with_rate_limiter(rate_limiters.openai(Lane::Backfill)),
                ..model_client.clone()
            },
            ..self.clone()
        }
    }
}

/// How an event's way ended.
enum Outcome {
    /// Nothing is to be done, for this reason.
    Ended(EventState, Reason, Option<String>),
    /// The commands are to be carried out.
    Decided,
}

/// Whether a delivery is the one under which its event was parked, and not a duplicate: it came back without having been
/// acknowledged, or waited for anything else than for its turn.
fn was_on_its_way(delivery: &Delivery) -> bool {
    delivery.redelivered || delivery.message.reason.as_deref().is_some_and(|reason| reason != HELD.as_str())
}

/// Why a delivery waits whose event another worker has.
const HELD: Reason = Reason::LeasedElsewhere;

/// What has been achieved under a claim. It is recorded even when a later step fails: it was paid for.
#[derive(Default)]
struct Progress {
    inferences: Vec<Inference>,
    commands: Vec<WriteCommand>,
}

impl Handler for EventHandler {
    async fn handle(&self, delivery: Delivery) -> Disposition {
        // Delivery just before the circuit opened.
        if let Some(reason) = self.circuit_breakers.open_reason() {
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
        let mut progress = Progress { inferences: Vec::new(), commands: claimed.commands.clone() };
        let decided = tokio::time::timeout(self.time_per_event, self.decide(&event, &claimed, &mut progress)).await;
        let outcome = decided.unwrap_or_else(|_| Err(StepError::DeadlineExceeded.into()));
        let (decision, disposition) = self.conclude(&delivery, &claimed, progress, outcome);
        self.record(decision, disposition).await
    }
}

impl EventHandler {
    /// Claim: this is the idempotency check. `Err` says what becomes of a delivery that is not to be worked on.
    async fn claim(&self, event: Arc<Event>, delivery: &Delivery) -> Result<Claimed, Disposition> {
        match self.batched_ledger.claim(event).await {
            Ok(Claim::Mine(claimed)) => Ok(claimed),
            // Killed or refused between the ledger and the disposition queue: message and commands still have to get there.
            Ok(Claim::Not(Duplicate::Parked(commands))) if was_on_its_way(delivery) => {
                Err(match self.publish(&commands).await {
                    Disposition::Done => {
                        Disposition::Park { reason: Reason::Parked, detail: "see the ledger for the reason".to_owned() }
                    }
                    unpublished => unpublished,
                })
            }
            Ok(Claim::Not(Duplicate::Done(_) | Duplicate::Parked(_))) => {
                metrics::counter!("leadline_duplicates_total", "kind" => "done").increment(1);
                Err(Disposition::Done)
            }
            // Killed between the decision and its publication, or delivery twice: publishing again is harmless.
            Ok(Claim::Not(Duplicate::Decided(commands))) => {
                metrics::counter!("leadline_duplicates_total", "kind" => "decided").increment(1);
                Err(self.publish(&commands).await)
            }
            Ok(Claim::Not(Duplicate::LeasedElsewhere)) => {
                metrics::counter!("leadline_duplicates_total", "kind" => "leased_elsewhere").increment(1);
                Err(Disposition::defer(HELD))
            }
            Err(error) => {
                tracing::warn!(%error, "cannot claim");
                Err(Disposition::defer(Reason::LedgerUnavailable))
            }
        }
    }

    async fn decide(&self, event: &Event, claimed: &Claimed, progress: &mut Progress) -> Result<Outcome, RunFailure> {
        if let Some((state, reason)) = self.loop_guard.stops(event) {
            return Ok(Outcome::Ended(state, reason, None));
        }
        let Some(subject) = event.record() else {
            return Ok(Outcome::Ended(EventState::Skipped, Reason::NoPlaybook, None));
        };
        if event.portal_id != self.portal_id {
            return Err(StepError::WrongPortal { event: event.portal_id, ours: self.portal_id }.into());
        }
        let playbooks = self.playbooks(event)?;
        if playbooks.is_empty() {
            return Ok(Outcome::Ended(EventState::Skipped, Reason::NoPlaybook, None));
        }
        if claimed.attempt == 1 {
            // Somebody who fills in a form makes ten events: the newest of them answers for all.
            tokio::time::sleep(self.coalesce).await;
        }
        // Boxed: what waits until here waits by the thousand, and has no need of the room that the rest takes.
        Box::pin(self.decide_about(event, claimed, &subject, playbooks, progress)).await
    }

    /// Units: what the playbooks want to know about the records that the event concerns.
    async fn decide_about(
        &self,
        event: &Event,
        claimed: &Claimed,
        subject: &RecordRef,
        playbooks: Vec<(&Playbook, &Model)>,
        progress: &mut Progress,
    ) -> Result<Outcome, RunFailure> {
        if self.loop_guard.is_our_engagement(&self.crm_reader, subject).await? {
            return Ok(Outcome::Ended(EventState::Dropped, Reason::Echo, None));
        }
        let units = self.records(subject, playbooks).await?;
        let mut nothing = (EventState::Skipped, Reason::NoRecord, None);
        let mut failed: Option<RunFailure> = None;
        for unit in &units {
            match self.work(event, claimed, unit, progress).await {
                Ok(None) => {}
                Ok(Some(because)) => nothing = because,
                Err(error) => {
                    let playbook = Some(unit.playbook.name.clone());
                    failed = Some(more_severe(failed, RunFailure { error, playbook }));
                }
            }
        }
        let has_effect = claimed.was_decided || !progress.commands.is_empty();
        match failed {
            // One of several records is gone: the others' answers count.
            Some(failure) if failure.error.retry_action() == RetryAction::Discard && has_effect => Ok(Outcome::Decided),
            Some(failure) => Err(failure),
            None if !has_effect => Ok(Outcome::Ended(nothing.0, nothing.1, nothing.2)),
            None => Ok(Outcome::Decided),
        }
    }

    /// Playbooks: which ones this event may start.
    fn playbooks(&self, event: &Event) -> Result<Vec<(&Playbook, &Model)>, StepError> {
        let mut started = Vec::new();
        for (playbook, model) in self.playbooks.iter().zip(self.models.iter()) {
            if playbook.may_be_triggered_by(event)? {
                started.push((playbook, model));
            }
        }
        Ok(started)
    }

    /// What an outcome or a failure means for the ledger and for the message.
    fn conclude(
        &self,
        delivery: &Delivery,
        claimed: &Claimed,
        progress: Progress,
        outcome: Result<Outcome, RunFailure>,
    ) -> (Decision, Disposition) {
        let mut playbook = None;
        let (state, reason, detail, disposition) = match outcome {
            Ok(Outcome::Ended(state, reason, detail)) => (state, Some(reason), detail, Disposition::Done),
            Ok(Outcome::Decided) => (EventState::Decided, None, None, Disposition::Done),
            Err(failure) => {
                let error = failure.error;
                playbook = failure.playbook;
                let (reason, detail) = (error.reason(), error.to_string());
                let decision = self.circuit_breakers.decide(&self.retry_schedule, &error, delivery.message.attempts);
                let state = match decision {
                    RetryDecision::Retry(_) | RetryDecision::Defer(_) => EventState::Waiting,
                    RetryDecision::Exhausted | RetryDecision::Park => EventState::Parked,
                    RetryDecision::Discard => EventState::Dropped,
                };
                let disposition = decision.disposition(reason, &detail);
                tracing::warn!(%reason, %error, state = state.as_str(), "failed");
                (state, Some(reason), Some(detail), disposition)
            }
        };
        tracing::debug!(state = state.as_str(), reason = reason.map(Reason::as_str), "decided");
        let decision = Decision {
            event_id: claimed.event_id,
            attempt: claimed.attempt,
            state,
            reason,
            detail,
            playbook,
            wait: disposition.delay(),
            inferences: progress.inferences,
            commands: progress.commands,
        };
        (decision, disposition)
    }

    /// Record, and only then publish the write commands: a decision that is not in the ledger has no effect. What was
    /// decided is carried out even when another unit of the event has to wait or is parked.
    async fn record(&self, decision: Decision, disposition: Disposition) -> Disposition {
        let commands = decision.commands.clone();
        match self.batched_ledger.commit_decisions(decision).await {
            Ok(true) => {
                crash_point!("inference.after_commit");
                match self.publish(&commands).await {
                    Disposition::Done => {
                        crash_point!("inference.after_publish");
                        disposition
                    }
                    // The message comes back, and with it the commands.
                    unpublished => unpublished,
                }
            }
            Ok(false) => {
                tracing::warn!("the lease had expired; somebody else has taken the event over");
                Disposition::defer(Reason::LeaseLost)
            }
            // The lease expires by itself, and the message comes back.
            Err(error) => {
                tracing::warn!(%error, "cannot record the decision");
                Disposition::defer(Reason::LedgerUnavailable)
            }
        }
    }

    /// Write commands: confirmed in the disposition queue before the event's message is acknowledged.
    async fn publish(&self, commands: &[WriteCommand]) -> Disposition {
        for command in commands {
            let message = match command_message(command) {
                Ok(message) => message,
                Err(error) => {
                    return Disposition::Park { reason: Reason::CommandUnwritable, detail: error.to_string() };
                }
            };
            if let Err(error) = Box::pin(self.publisher.publish(Route::Queue(Stage::Writes), &message)).await {
                tracing::warn!(%error, "cannot publish a write command; the event's message comes back for it");
                return Disposition::defer(error.reason());
            }
        }
        Disposition::Done
    }
}
