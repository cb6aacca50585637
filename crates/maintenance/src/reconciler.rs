//! Finds work in the ledger whose message is lost, and publishes it again.
//!
//! The protocol alone loses no message (it is acknowledged last), but queues are purged, brokers lose disks, and operators
//! make mistakes. In a healthy fleet every pass finds nothing; whatever it finds is worth a look.

use std::time::Duration;

use broker::{PublishError, Publisher, Route, Stage};
use domain::{EventKey, EventState};
use ledger::{LEDGER_RETRY, Ledger, LedgerError, StuckCommand, StuckEvent};
use retry::Reason;

use crate::messages::{command_message, payload_message};

/// While the queues hold at least as many messages as are overdue, the overdue ones may be in them, behind others. Then work
/// counts as stuck only after this many times the configured time.
const LONG_QUEUE_FACTOR: u32 = 6;

/// Why a pass failed.
#[derive(Debug, thiserror::Error)]
pub enum ReconcileError {
    /// The ledger could not be read or changed.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// RabbitMQ could not be asked how many messages its queues hold.
    #[error(transparent)]
    Broker(#[from] broker::ConnectionError),
    /// A message could not be published.
    #[error(transparent)]
    Publish(#[from] PublishError),
}

/// What a pass found.
#[derive(Debug, Default, Clone)]
pub struct ReconcileFindings {
    /// Events, claimed or waiting, whose message is lost.
    pub events: Vec<StuckEvent>,
    /// Write commands whose message is lost.
    pub commands: Vec<StuckCommand>,
    /// How many more are overdue whose messages may still be in the queue.
    pub maybe_queued: usize,
}

/// What a pass repaired.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct RepairCounts {
    /// Events published again.
    pub events: usize,
    /// Write commands published again.
    pub commands: usize,
    /// Events and write commands parked because their workers died at every attempt.
    pub parked: usize,
    /// Events that were parked because no event can be read from their payload.
    pub unreadable: usize,
}

/// Compares the ledger with the queues. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Reconciler {
    ledger: Ledger,
    publisher: Publisher,
    settings: settings::ReconcileSection,
}

impl Reconciler {
    /// A reconciler with these settings.
    pub fn new(ledger: Ledger, publisher: Publisher, settings: settings::ReconcileSection) -> Self {
        Self { ledger, publisher, settings }
    }

    /// Finds work whose message is lost. Changes nothing.
    pub async fn find(&self) -> Result<ReconcileFindings, ReconcileError> {
        let after = Duration::from_secs(self.settings.stuck_after_seconds);
        let limit = i64::from(self.settings.batch);
        // Before the ledger is asked: RabbitMQ may take long to answer, and what is overdue has to be so now. And what has left a queue
        // since then is in the ledger.
        let depths = self.publisher.queue_depths().await?;
        let mut events = self.ledger.stuck_events(after, limit).await?;
        let mut commands = self.ledger.stuck_commands(after, limit).await?;
        let overdue = events.len() + commands.len();
        if overdue > 0 {
            let queued = |stages: &[Stage]| -> usize {
                let is_counted = |route: Route| stages.contains(&route.stage()) && !matches!(route, Route::Parked(_));
                depths.iter().filter(|(route, _)| is_counted(*route)).map(|(_, depth)| *depth as usize).sum()
            };
            if queued(&[Stage::Events, Stage::Backfill, Stage::Erasures]) >= events.len() {
                events.retain(|event| event.overdue > after * LONG_QUEUE_FACTOR);
            }
            if queued(&[Stage::Writes]) >= commands.len() {
                commands.retain(|command| command.overdue > after * LONG_QUEUE_FACTOR);
            }
        }
        let maybe_queued = overdue - events.len() - commands.len();
        Ok(ReconcileFindings { events, commands, maybe_queued })
    }

    /// Publishes again what was found. To publish a message that was not lost is harmless: every step is idempotent by id.
    pub async fn repair(&self, findings: &ReconcileFindings) -> Result<RepairCounts, ReconcileError> {
        self.repair_telling(findings, |_| {}).await
    }

    /// As [`Reconciler::repair`]. `tell` is told how many of the findings were looked at, whenever that is one more.
    pub async fn repair_telling(
        &self,
        findings: &ReconcileFindings,
        mut tell: impl FnMut(usize) + Send,
    ) -> Result<RepairCounts, ReconcileError> {
        let mut counts = RepairCounts::default();
        let (mut events, mut commands) = (Vec::new(), Vec::new());
        for (done, event) in findings.events.iter().enumerate() {
            tell(done);
            let stage = Stage::of_event(&EventKey::from_text(event.key.as_str()));
            let message = match payload_message(&event.payload) {
                Ok(message) => message,
                Err(error) => {
                    tracing::error!(event = event.key, %error, "the event's message is lost and cannot be rebuilt");
                    let detail = format!("its message is lost and cannot be rebuilt: {error}");
                    let is_parked = self.ledger.park_event(event.id, Reason::EventInvalid, &detail).await?;
                    counts.unreadable += usize::from(is_parked);
                    continue;
                }
            };
            if event.state == EventState::Claimed
                && u32::try_from(event.requeues).unwrap_or(0) >= self.settings.max_requeues
            {
                let detail =
                    format!("published again {} times, and every worker died before it was done", event.requeues);
                // In the ledger first: what it does not park, a worker has taken up, and its message must not be in two places.
                if self.ledger.park_event(event.id, Reason::AttemptsExhausted, &detail).await? {
                    counts.parked += 1;
                    let parked = message.with_reason(Reason::AttemptsExhausted, &detail);
                    self.publisher.publish(Route::Parked(stage), &parked).await?;
                }
                continue;
            }
            self.publisher.publish(Route::Queue(stage), &message).await?;
            events.push(event.id.0);
        }
        for (done, stuck) in findings.commands.iter().enumerate() {
            tell(findings.events.len() + done);
            let message = command_message(stuck.id);
            if stuck.was_taken && u32::try_from(stuck.requeues).unwrap_or(0) >= self.settings.max_requeues {
                let detail =
                    format!("published again {} times, and every writer died before it was done", stuck.requeues);
                if self.ledger.park_command(stuck.id, Reason::AttemptsExhausted, &detail).await? {
                    counts.parked += 1;
                    let parked = message.with_reason(Reason::AttemptsExhausted, &detail);
                    self.publisher.publish(Route::Parked(Stage::Writes), &parked).await?;
                }
                continue;
            }
            self.publisher.publish(Route::Queue(Stage::Writes), &message).await?;
            commands.push(stuck.id.0);
        }
        // Repeated, because the messages are published: a deadlock with a worker must not hide that.
        retry::run(&LEDGER_RETRY, || self.ledger.record_requeue(&events, &commands)).await?;
        (counts.events, counts.commands) = (events.len(), commands.len());
        Ok(counts)
    }

    /// Finds and repairs, and reports what it did as metrics and in the log.
    pub async fn pass(&self) -> Result<RepairCounts, ReconcileError> {
        let findings = self.find().await?;
        let counts = self.repair(&findings).await?;
        for (kind, count) in [
            ("event", counts.events),
            ("write_command", counts.commands),
            ("parked", counts.parked),
            ("event_unreadable", counts.unreadable),
        ] {
            metrics::counter!("leadline_reconciled_total", "kind" => kind).increment(count as u64);
        }
        if counts != RepairCounts::default() {
            tracing::warn!(?counts, "published work again whose messages were lost");
        }
        Ok(counts)
    }
}
