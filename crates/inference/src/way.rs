//! The way of an event:
//! claim → loop guard → playbooks → records → context → guards → ask → intend → record → write commands → ack.
//!
//! One event may start several playbooks, and concern several records: each playbook with each record is a unit of work
//! of its own, and what one unit meets holds back no other.
//!
//! Every step is a function below, in this order. Each may run twice: the ledger knows what was done already.

mod unit;

use std::{sync::Arc, time::Duration};

use broker::{Delivered, Handler, Next, Publisher, Route, Stage, topology::Decision};
use budget::{Budgets, Lane};
use crashpoint::crash_point;
use domain::{AppId, Event, EventState, Inference, Playbook, PortalId, RecordRef, WriteCommand};
use inference::{Asker, Reader, StepError};
use ledger::{Claim, Claimed, Duplicate, Ledger, Settlement};
use openai::models::Model;
use retry::{Failure, Reason, Remedy, Watched};
use runtime::config::Settings;
use upkeep::{Circuits, Probe, command_message};

use crate::{
    desk::Desk,
    loop_guard::LoopGuard,
    outages::{self, HUBSPOT, OPENAI},
};
use unit::{Setback, worse};

/// What is kept of a lease for committing the decision.
const SETTLE_MARGIN: f64 = 0.15;

/// What an event meets on its way. Cheap to clone.
#[derive(Clone)]
pub struct Way {
    playbooks: Arc<[Playbook]>,
    models: Arc<[Model]>,
    loop_guard: Arc<LoopGuard>,
    portal_id: PortalId,
    desk: Arc<Desk>,
    reader: Reader,
    hubspot: hubspot::Client,
    asker: Asker,
    budgets: Budgets,
    publisher: Publisher,
    circuits: Circuits,
    ladder: broker::Ladder,
    time_per_event: Duration,
    coalesce: Duration,
}

impl Way {
    /// How the outages of what it depends on are probed.
    pub fn probes(&self) -> Vec<(&'static str, Probe)> {
        outages::probes(&self.hubspot, &self.asker.openai, &self.models[0].name)
    }

    pub fn new(
        settings: &Settings,
        playbooks: Vec<Playbook>,
        ledger: &Ledger,
        publisher: Publisher,
        circuits: Circuits,
    ) -> Result<Self, String> {
        let models =
            playbooks.iter().map(|playbook| inference::model_of(settings, playbook)).collect::<Vec<_>>().into();
        let lease = Duration::from_secs(settings.inference.lease_seconds);
        let app_id = AppId(settings.hubspot.app_id.ok_or("hubspot.app_id is not set")?);
        let budgets = Budgets::new(settings, ledger)?;
        let caps = playbooks
            .iter()
            .filter_map(|playbook| Some((playbook.name.clone(), playbook.model.max_micro_dollars_per_day?)));
        let wallet = budgets.wallet(caps);
        let watched = |of| Watched { observer: circuits.observer(of), allowance: None };
        let hubspot = connect::hubspot(settings, watched(HUBSPOT))?;
        let openai = connect::openai(settings, watched(OPENAI))?;
        Ok(Self {
            reader: Reader::new(hubspot.with_allowance(budgets.hubspot(Lane::Live)), &settings.hubspot),
            loop_guard: Arc::new(LoopGuard::new(app_id, &playbooks)),
            playbooks: playbooks.into(),
            models,
            portal_id: PortalId(settings.hubspot.portal_id.ok_or("hubspot.portal_id is not set")?),
            desk: Arc::new(Desk::open(settings, ledger)),
            hubspot,
            asker: Asker { openai: openai.with_allowance(budgets.openai(Lane::Live)), wallet },
            budgets,
            publisher,
            circuits,
            ladder: connect::broker(settings, "inference")?.topology.ladder,
            time_per_event: lease.mul_f64(1.0 - SETTLE_MARGIN),
            coalesce: Duration::from_millis(settings.inference.coalesce_ms),
        })
    }

    /// The same for events that are caught up with: they leave a part of the budgets to the others.
    pub fn for_backfill(&self) -> Self {
        let Self { reader, asker, budgets, .. } = self;
        Self {
            reader: reader.with_allowance(budgets.hubspot(Lane::Backfill)),
            asker: Asker { openai: asker.openai.with_allowance(budgets.openai(Lane::Backfill)), ..asker.clone() },
            ..self.clone()
        }
    }
}

/// How an event's way ended.
enum Outcome {
    /// Nothing is to be done, for this reason.
    Ended(EventState, String),
    /// The commands are to be carried out.
    Decided,
}

/// Whether a delivery is the one under which its event was parked, and not a duplicate: it came back without having been
/// acknowledged, or waited for anything else than for its turn.
fn was_on_its_way(delivered: &Delivered) -> bool {
    delivered.redelivered || delivered.message.reason.as_deref().is_some_and(|reason| reason != HELD.as_str())
}

/// Why a delivery waits whose event another worker has.
const HELD: Reason = Reason::Held;

/// What has been achieved under a claim. It is recorded even when a later step fails: it was paid for.
#[derive(Default)]
struct Progress {
    inferences: Vec<Inference>,
    commands: Vec<WriteCommand>,
}

impl Handler for Way {
    async fn handle(&self, delivered: Delivered) -> Next {
        // Delivered just before the circuit opened.
        if let Some(reason) = self.circuits.open() {
            return Next::wait(reason);
        }
        let event: Arc<Event> = match serde_json::from_slice(&delivered.message.body) {
            Ok(event) => Arc::new(event),
            Err(error) => return Next::Park { reason: Reason::EventInvalid, detail: format!("not an event: {error}") },
        };
        let claimed = match self.claim(event.clone(), &delivered).await {
            Ok(claimed) => claimed,
            Err(next) => return next,
        };
        crash_point!("inference.after_claim");
        let mut progress = Progress { inferences: Vec::new(), commands: claimed.commands.clone() };
        let decided = tokio::time::timeout(self.time_per_event, self.decide(&event, &claimed, &mut progress)).await;
        let outcome = decided.unwrap_or_else(|_| Err(StepError::OutOfTime.into()));
        let (settlement, next) = self.conclude(&delivered, &claimed, progress, outcome);
        self.record(settlement, next).await
    }
}

impl Way {
    /// Claim: this is the idempotency check. `Err` says what becomes of a delivery that is not to be worked on.
    async fn claim(&self, event: Arc<Event>, delivered: &Delivered) -> Result<Claimed, Next> {
        match self.desk.claim(event).await {
            Ok(Claim::Mine(claimed)) => Ok(claimed),
            // Killed or refused between the ledger and the next queue: message and commands still have to get there.
            Ok(Claim::Not(Duplicate::Parked(commands))) if was_on_its_way(delivered) => {
                Err(match self.publish(&commands).await {
                    Next::Done => {
                        Next::Park { reason: Reason::Parked, detail: "see the ledger for the reason".to_owned() }
                    }
                    unpublished => unpublished,
                })
            }
            Ok(Claim::Not(Duplicate::Done(_) | Duplicate::Parked(_))) => {
                metrics::counter!("leadline_duplicates_total", "kind" => "done").increment(1);
                Err(Next::Done)
            }
            // Killed between the decision and its publication, or delivered twice: publishing again is harmless.
            Ok(Claim::Not(Duplicate::Decided(commands))) => {
                metrics::counter!("leadline_duplicates_total", "kind" => "decided").increment(1);
                Err(self.publish(&commands).await)
            }
            Ok(Claim::Not(Duplicate::Held)) => {
                metrics::counter!("leadline_duplicates_total", "kind" => "held").increment(1);
                Err(Next::wait(HELD))
            }
            Err(error) => {
                tracing::warn!(%error, "cannot claim");
                Err(Next::wait(Reason::LedgerUnavailable))
            }
        }
    }

    async fn decide(&self, event: &Event, claimed: &Claimed, progress: &mut Progress) -> Result<Outcome, Setback> {
        if let Some((state, reason)) = self.loop_guard.stops(event) {
            return Ok(Outcome::Ended(state, reason.to_owned()));
        }
        let Some(subject) = event.record() else {
            return Ok(Outcome::Ended(EventState::Skipped, "no_playbook".to_owned()));
        };
        if event.portal_id != self.portal_id {
            return Err(StepError::WrongPortal { event: event.portal_id, ours: self.portal_id }.into());
        }
        let playbooks = self.playbooks(event)?;
        if playbooks.is_empty() {
            return Ok(Outcome::Ended(EventState::Skipped, "no_playbook".to_owned()));
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
    ) -> Result<Outcome, Setback> {
        if self.loop_guard.is_our_engagement(&self.reader, subject).await? {
            return Ok(Outcome::Ended(EventState::Dropped, "echo".to_owned()));
        }
        let units = self.records(subject, playbooks).await?;
        let mut nothing = (EventState::Skipped, "no_record".to_owned());
        let mut failed: Option<Setback> = None;
        for unit in &units {
            match self.work(event, claimed, unit, progress).await {
                Ok(None) => {}
                Ok(Some(because)) => nothing = because,
                Err(error) => {
                    let playbook = Some(unit.playbook.name.clone());
                    failed = Some(worse(failed, Setback { error, playbook }));
                }
            }
        }
        let has_effect = claimed.was_decided || !progress.commands.is_empty();
        match failed {
            // One of several records is gone: the others' answers count.
            Some(setback) if setback.error.remedy() == Remedy::Drop && has_effect => Ok(Outcome::Decided),
            Some(setback) => Err(setback),
            None if !has_effect => Ok(Outcome::Ended(nothing.0, nothing.1)),
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
        delivered: &Delivered,
        claimed: &Claimed,
        progress: Progress,
        outcome: Result<Outcome, Setback>,
    ) -> (Settlement, Next) {
        let mut playbook = None;
        let (state, reason, detail, next) = match outcome {
            Ok(Outcome::Ended(state, reason)) => (state, Some(reason), None, Next::Done),
            Ok(Outcome::Decided) => (EventState::Decided, None, None, Next::Done),
            Err(setback) => {
                let error = setback.error;
                playbook = setback.playbook;
                let (reason, detail) = (error.reason(), error.to_string());
                let decision = if self.circuits.excuse(&error) {
                    Decision::Wait(self.ladder.shortest())
                } else {
                    self.ladder.decide(error.remedy(), delivered.message.attempts)
                };
                let (state, next) = match decision {
                    Decision::Retry(delay) => {
                        (EventState::Waiting, Next::Retry { delay, reason, detail: detail.clone() })
                    }
                    Decision::Wait(delay) => (EventState::Waiting, Next::Wait { delay: Some(delay), reason }),
                    Decision::Exhausted | Decision::Park => {
                        (EventState::Parked, Next::Park { reason, detail: detail.clone() })
                    }
                    Decision::Drop => (EventState::Dropped, Next::Done),
                };
                tracing::warn!(%reason, %error, state = state.as_str(), "failed");
                (state, Some(reason.as_str().to_owned()), Some(detail), next)
            }
        };
        tracing::debug!(state = state.as_str(), reason, "decided");
        let settlement = Settlement {
            event_id: claimed.event_id,
            attempt: claimed.attempt,
            state,
            reason,
            detail,
            playbook,
            wait: next.delay(),
            inferences: progress.inferences,
            commands: progress.commands,
        };
        (settlement, next)
    }

    /// Record, and only then publish the write commands: a decision that is not in the ledger has no effect. What was
    /// decided is carried out even when another unit of the event has to wait or is parked.
    async fn record(&self, settlement: Settlement, next: Next) -> Next {
        let commands = settlement.commands.clone();
        match self.desk.settle(settlement).await {
            Ok(true) => {
                crash_point!("inference.after_commit");
                match self.publish(&commands).await {
                    Next::Done => {
                        crash_point!("inference.after_publish");
                        next
                    }
                    // The message comes back, and with it the commands.
                    unpublished => unpublished,
                }
            }
            Ok(false) => {
                tracing::warn!("the lease had expired; somebody else has taken the event over");
                Next::wait(Reason::LeaseLost)
            }
            // The lease expires by itself, and the message comes back.
            Err(error) => {
                tracing::warn!(%error, "cannot record the decision");
                Next::wait(Reason::LedgerUnavailable)
            }
        }
    }

    /// Write commands: confirmed in the next queue before the event's message is acknowledged.
    async fn publish(&self, commands: &[WriteCommand]) -> Next {
        for command in commands {
            let message = match command_message(command) {
                Ok(message) => message,
                Err(error) => return Next::Park { reason: Reason::CommandUnwritable, detail: error.to_string() },
            };
            if let Err(error) = Box::pin(self.publisher.publish(Route::Queue(Stage::Writes), &message)).await {
                tracing::warn!(%error, "cannot publish a write command; the event's message comes back for it");
                return Next::wait(error.reason());
            }
        }
        Next::Done
    }
}
