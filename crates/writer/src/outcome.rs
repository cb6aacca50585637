//! What becomes of a write command and of its message.

use std::time::Duration;

use broker::{Disposition, RetryDecision, RetrySchedule};
use domain::{CommandState, Reason, RecordRef};
use ledger::CommandResult;
use maintenance::CircuitBreakers;
use retry::Failure;

use crate::plan::TakenCommand;

/// What becomes of one command of a batch.
pub struct CommandOutcome {
    /// The position of its message in the batch.
    pub index: usize,
    /// What becomes of its message.
    pub disposition: Disposition,
    /// The record that the command is about.
    pub record: RecordRef,
    /// What the ledger records.
    pub row: CommandResult,
    /// The command, as long as its actions are not carried out; `None` when it has no actions.
    pub with_actions: Option<TakenCommand>,
}

impl CommandOutcome {
    /// The command ends in this state, and its message as `disposition` says.
    pub fn new(taken: &TakenCommand, state: CommandState, disposition: Disposition) -> Self {
        let reason = match (&disposition, state) {
            (Disposition::Defer { reason, .. }, _) => Some(*reason),
            (_, CommandState::Superseded) => Some(Reason::NewerEventWritten),
            _ => None,
        };
        let row = CommandResult {
            id: taken.command.id,
            attempt: taken.attempt,
            state,
            reason,
            detail: None,
            wait: None,
            written: Vec::new(),
            skipped_writes: Vec::new(),
        };
        let with_actions = (!taken.command.actions.is_empty()).then(|| taken.clone());
        Self { index: taken.index, disposition, record: taken.command.record.clone(), row, with_actions }
    }

    /// The command comes back through the shortest retry queue, and the attempt does not count as failed.
    pub fn defer(taken: &TakenCommand, reason: Reason) -> Self {
        Self::new(taken, CommandState::Waiting, Disposition::defer(reason))
    }
}

/// What a failure means for a command.
pub struct FailurePolicy {
    circuit_breakers: CircuitBreakers,
    retry_schedule: RetrySchedule,
}

impl FailurePolicy {
    /// Retries by `retry_schedule`. A failure that an outage causes does not count as an attempt.
    pub fn new(circuit_breakers: CircuitBreakers, retry_schedule: RetrySchedule) -> Self {
        Self { circuit_breakers, retry_schedule }
    }

    /// The outcome of a command that failed.
    pub fn failed(&self, taken: &TakenCommand, error: &impl Failure) -> CommandOutcome {
        let mut outcome = CommandOutcome::new(taken, CommandState::Waiting, Disposition::Done);
        self.fail(&mut outcome, taken, error);
        outcome
    }

    /// Turns an outcome into that of a failure. What was written stays in it.
    pub fn fail(&self, outcome: &mut CommandOutcome, taken: &TakenCommand, error: &impl Failure) {
        let (reason, detail) = (error.reason(), error.to_string());
        let command = &taken.command;
        tracing::warn!(command = %command.id, event = %command.event_key, %reason, %error, "the write command failed");
        let decision = self.circuit_breakers.decide(&self.retry_schedule, error, taken.failures);
        outcome.row.state = match decision {
            RetryDecision::Retry(_) | RetryDecision::Defer(_) => CommandState::Waiting,
            RetryDecision::Exhausted | RetryDecision::Park => CommandState::Parked,
            RetryDecision::Discard => CommandState::Dropped,
        };
        outcome.disposition = decision.disposition(reason, &detail);
        outcome.row.reason = Some(reason);
        outcome.row.detail = Some(detail);
    }

    /// How long the command's message stays in a retry queue; `None` when it does not come back.
    pub fn delay(&self, outcome: &CommandOutcome) -> Option<Duration> {
        match outcome.row.state {
            CommandState::Waiting => outcome.disposition.delay().or(Some(self.retry_schedule.shortest())),
            _ => None,
        }
    }
}
