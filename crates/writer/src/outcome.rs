//! What becomes of a write command and of its message.

use std::{sync::Arc, time::Duration};

use broker::{Disposition, RetryDecision, RetrySchedule, Tries};
use domain::{CommandState, Reason, RecordRef};
use ledger::CommandResult;
use maintenance::CircuitBreakers;
use retry::Failure;

use crate::{
    failure::RecordLeftOut,
    missing::{Merged, Unwritten},
    plan::TakenCommand,
};

/// What becomes of one command of a batch.
pub struct CommandOutcome {
    /// The position of its message in the batch.
    pub index: usize,
    /// What becomes of its message.
    pub disposition: Disposition,
    /// What its message has behind it.
    pub tries: Tries,
    /// The record that the command is about.
    pub record: RecordRef,
    /// What the ledger records.
    pub row: CommandResult,
    /// What its record was merged into; the command goes on with that record.
    pub merged: Option<Arc<Merged>>,
    /// A rule approved it: it is carried out next.
    pub is_approved: bool,
    /// The command, as long as its actions are not carried out; `None` when it has no actions.
    pub with_actions: Option<TakenCommand>,
    /// Whether values of its event were written before, and the ledger has forgotten it.
    pub wrote_before: bool,
}

impl CommandOutcome {
    /// The command ends in this state, and its message as `disposition` says.
    pub fn new(taken: &TakenCommand, state: CommandState, disposition: Disposition) -> Self {
        let reason = match (&disposition, state) {
            (Disposition::Defer { reason, .. }, _) => Some(*reason),
            (_, CommandState::Superseded) => Some(Reason::NewerEventWritten),
            _ => None,
        };
        let row = CommandResult { reason, ..CommandResult::new(taken.command.id, taken.attempt, state) };
        let with_actions = (!taken.command.actions.is_empty()).then(|| taken.clone());
        let (index, tries) = (taken.index, taken.tries);
        let record = taken.command.record.clone();
        Self {
            index,
            disposition,
            tries,
            record,
            row,
            merged: None,
            is_approved: false,
            with_actions,
            wrote_before: false,
        }
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

    /// The outcome of a command of whose record nothing was written.
    pub fn unwritten(&self, taken: &TakenCommand, why: &Unwritten) -> CommandOutcome {
        match why {
            Unwritten::Failed(error) => self.failed(taken, &**error),
            Unwritten::NotLookedUp => CommandOutcome::defer(taken, Reason::NotApplied),
            Unwritten::LeftOut => self.failed(taken, &RecordLeftOut),
            Unwritten::Merged(merged) => {
                let mut outcome = CommandOutcome::defer(taken, Reason::RecordMerged);
                outcome.row.moved_to = Some(merged.survivor);
                outcome.merged = Some(merged.clone());
                outcome
            }
        }
    }

    /// Turns an outcome into that of a failure. What was written stays in it.
    pub fn fail(&self, outcome: &mut CommandOutcome, taken: &TakenCommand, error: &impl Failure) {
        let (reason, detail) = (error.reason(), error.to_string());
        let command = &taken.command;
        tracing::warn!(command = %command.id, event = %command.event_key, %reason, %error, "the write command failed");
        let decision = self.circuit_breakers.decide(&self.retry_schedule, error, &taken.tries);
        outcome.row.state = state_of(decision);
        outcome.disposition = decision.disposition(reason, &detail);
        outcome.row.reason = Some(reason);
        outcome.row.detail = Some(detail);
    }

    /// Turns an outcome that the ledger refused into that of the refusal. What the ledger refused is not in it.
    pub fn refuse(&self, outcome: &mut CommandOutcome, error: &impl Failure) {
        let (command, reason, detail) = (outcome.row.id, error.reason(), error.to_string());
        tracing::warn!(%command, %reason, %error, "the ledger refused what became of a write command");
        let decision = self.retry_schedule.decide(error.retry_action(), &outcome.tries);
        outcome.row = CommandResult {
            reason: Some(reason),
            detail: Some(detail.clone()),
            wait: outcome.row.wait,
            moved_to: outcome.row.moved_to,
            ..CommandResult::new(outcome.row.id, outcome.row.attempt, state_of(decision))
        };
        outcome.disposition = decision.disposition(reason, &detail);
    }

    /// Parks a command that would wait and is too old for that, whatever excuses its waiting.
    pub fn park_if_too_old(&self, outcome: &mut CommandOutcome) {
        if outcome.row.state == CommandState::Waiting && self.retry_schedule.is_too_old(&outcome.tries) {
            let reason = outcome.row.reason.unwrap_or(Reason::DeadlineExceeded);
            let detail = outcome.row.detail.get_or_insert_with(|| "it waited for as long as allowed".to_owned());
            outcome.disposition = Disposition::Park { reason, detail: detail.clone() };
            outcome.row.state = CommandState::Parked;
        }
    }

    /// What becomes of a message that failed before its command was taken.
    pub fn decide(&self, error: &impl Failure, tries: &Tries) -> Disposition {
        let decision = self.circuit_breakers.decide(&self.retry_schedule, error, tries);
        decision.disposition(error.reason(), &error.to_string())
    }

    /// What becomes of the message of a command that only a newer writer can carry out. While the fleet is upgraded, one gets it when it
    /// comes back; that is no failure. When none comes before it is too old, a person has to know.
    pub fn leave_to_newer(&self, tries: &Tries) -> Disposition {
        self.retry_schedule
            .defer(tries)
            .disposition(Reason::NewerVersion, "no writer that knows the command's format has come")
    }

    /// How long the command's message stays in a retry queue; `None` when it does not come back.
    pub fn delay(&self, outcome: &CommandOutcome) -> Option<Duration> {
        match outcome.row.state {
            CommandState::Waiting => outcome.disposition.delay().or(Some(self.retry_schedule.shortest())),
            _ => None,
        }
    }
}

/// The state of a command that failed.
fn state_of(decision: RetryDecision) -> CommandState {
    match decision {
        RetryDecision::Retry(_) | RetryDecision::Defer(_) => CommandState::Waiting,
        RetryDecision::Exhausted | RetryDecision::Park => CommandState::Parked,
        RetryDecision::Discard => CommandState::Dropped,
    }
}
