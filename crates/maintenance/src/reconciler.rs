//! Finding what was left behind: the ledger has begun it, and no message brings it on any more.
//!
//! That cannot happen by the protocol alone (the message is acknowledged last), but queues are purged, brokers lose disks,
//! and operators make mistakes. In a healthy fleet every pass finds nothing, so a finding is news.

use std::time::Duration;

use broker::{PublishError, Publisher, Route, Stage};
use domain::EventState;
use ledger::{Ledger, LedgerError, StuckCommand, StuckEvent};
use retry::Reason;

use crate::messages::{command_message, payload_message};

/// While the queue holds at least as many messages as are missing, they may be in it, behind others: then this much more
/// patience.
const BEHIND_OTHERS: u32 = 6;

/// Why a pass did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum ReconcileError {
    /// The ledger.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// RabbitMQ, when asked how much it holds.
    #[error(transparent)]
    Broker(#[from] broker::ConnectionError),
    /// RabbitMQ, when publishing.
    #[error(transparent)]
    Publish(#[from] PublishError),
}

/// What a pass found.
#[derive(Debug, Default, Clone)]
pub struct Findings {
    /// Events, claimed or waiting, whose message is lost.
    pub events: Vec<StuckEvent>,
    /// Write commands whose message is lost.
    pub commands: Vec<StuckCommand>,
    /// Overdue, but their messages may well be in the queue.
    pub maybe_queued: usize,
}

/// What a pass mended.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Repaired {
    /// Events published again.
    pub events: usize,
    /// Write commands published again.
    pub commands: usize,
    /// Events parked, because their workers died each time.
    pub parked: usize,
    /// Events whose payload makes no event.
    pub unreadable: usize,
}

/// Compares the ledger with the queues.
#[derive(Debug, Clone)]
pub struct Reconciler {
    ledger: Ledger,
    publisher: Publisher,
    settings: settings::Reconcile,
}

impl Reconciler {
    /// A reconciler with these settings.
    pub fn new(ledger: Ledger, publisher: Publisher, settings: settings::Reconcile) -> Self {
        Self { ledger, publisher, settings }
    }

    /// What was left behind.
    pub async fn find(&self) -> Result<Findings, ReconcileError> {
        let after = Duration::from_secs(self.settings.stuck_after_seconds);
        let limit = i64::from(self.settings.batch);
        let mut events = self.ledger.stuck_events(after, limit).await?;
        let mut commands = self.ledger.stuck_commands(after, limit).await?;
        let overdue = events.len() + commands.len();
        if overdue > 0 {
            let depths = self.publisher.depths().await?;
            let holds = |stages: &[Stage]| -> usize {
                let of_stage = |name: &str| stages.iter().any(|stage| name.starts_with(stage.queue()));
                let all = depths.iter().filter(|(name, _)| of_stage(name) && !name.ends_with(".parked"));
                all.map(|(_, depth)| *depth as usize).sum()
            };
            if holds(&[Stage::Events, Stage::Backfill]) >= events.len() {
                events.retain(|event| event.overdue > after * BEHIND_OTHERS);
            }
            if holds(&[Stage::Writes]) >= commands.len() {
                commands.retain(|command| command.overdue > after * BEHIND_OTHERS);
            }
        }
        let maybe_queued = overdue - events.len() - commands.len();
        Ok(Findings { events, commands, maybe_queued })
    }

    /// Publishes again what was found. Doing so once too often is harmless: every step is idempotent by id.
    pub async fn repair(&self, findings: &Findings) -> Result<Repaired, ReconcileError> {
        let mut repaired = Repaired::default();
        let (mut events, mut commands) = (Vec::new(), Vec::new());
        for event in &findings.events {
            let message = match payload_message(&event.payload) {
                Ok(message) => message,
                Err(error) => {
                    tracing::error!(event = event.key, %error, "left behind, and cannot be published again");
                    repaired.unreadable += 1;
                    continue;
                }
            };
            if event.state == EventState::Claimed
                && u32::try_from(event.requeues).unwrap_or(0) >= self.settings.max_requeues
            {
                let detail = format!("published again {} times, and no worker survived it", event.requeues);
                let parked = message.with_reason(Reason::AttemptsExhausted, &detail);
                self.publisher.publish(Route::Parked(Stage::Events), &parked).await?;
                repaired.parked +=
                    usize::from(self.ledger.park_event(event.id, Reason::AttemptsExhausted, &detail).await?);
                continue;
            }
            self.publisher.publish(Route::Queue(Stage::Events), &message).await?;
            events.push(event.id.0);
        }
        for stranded in &findings.commands {
            let Ok(message) = command_message(&stranded.command) else { continue };
            self.publisher.publish(Route::Queue(Stage::Writes), &message).await?;
            commands.push(stranded.command.id.0);
        }
        self.ledger.record_requeue(&events, &commands).await?;
        (repaired.events, repaired.commands) = (events.len(), commands.len());
        Ok(repaired)
    }

    /// Finds and repairs, and says so where monitoring sees it.
    pub async fn pass(&self) -> Result<Repaired, ReconcileError> {
        let findings = self.find().await?;
        let repaired = self.repair(&findings).await?;
        for (kind, count) in [
            ("event", repaired.events),
            ("write_command", repaired.commands),
            ("event_parked", repaired.parked),
            ("event_unreadable", repaired.unreadable),
        ] {
            metrics::counter!("leadline_reconciled_total", "kind" => kind).increment(count as u64);
        }
        if repaired != Repaired::default() {
            tracing::warn!(?repaired, "what was left behind is taken up again");
        }
        Ok(repaired)
    }
}
