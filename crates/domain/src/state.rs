//! The states of everything that the ledger records: closed sets, with the legal transitions of an event.

use crate::names::closed_set;

closed_set! {
    /// The state of an event. The database enforces the same transitions by a trigger (`migrations/`); a test compares
    /// the two lists.
    pub enum EventState {
        Claimed = "claimed", "A worker holds the event under a lease.";
        Waiting = "waiting", "The event waits in a retry queue for its next attempt.";
        Decided = "decided", "Every playbook has answered; the write commands are recorded.";
        Written = "written", "HubSpot has what was decided.";
        Skipped = "skipped", "There was nothing to do: no playbook, no text, a guard, an unchanged context, or a write policy.";
        Superseded = "superseded", "A newer event of the same record made this one pointless.";
        Dropped = "dropped", "The event can have no effect: an echo of our own write, a missing or erased record, or discarded by an operator.";
        Parked = "parked", "The event is in the parking lot with its reason and waits for an operator.";
        Proposed = "proposed", "What was decided waits for a person's approval.";
    }
}

closed_set! {
    /// The state of a write command.
    pub enum CommandState {
        Recorded = "recorded", "The write command is recorded and not yet taken by a writer.";
        Sending = "sending", "A writer holds the write command under a lease.";
        Waiting = "waiting", "The write command waits in a retry queue for its next attempt.";
        Written = "written", "HubSpot has the values.";
        Superseded = "superseded", "A newer event has written every property of it.";
        Skipped = "skipped", "The write policies left every property as it was.";
        Dropped = "dropped", "The record does not exist or was erased, or an operator discarded the write command.";
        Parked = "parked", "The write command is in the parking lot with its reason and waits for an operator.";
        Proposed = "proposed", "The write command waits for a person's approval; with `value_changed`, for another one.";
    }
}

closed_set! {
    /// The state of an action.
    pub enum ActionState {
        Intended = "intended", "The action is recorded and not yet begun.";
        Sending = "sending", "The call is about to be sent or was sent; its result is not recorded.";
        Done = "done", "The action was carried out.";
        Skipped = "skipped", "The action was not to be carried out, for its reason.";
        Parked = "parked", "The action cannot be carried out and waits for an operator.";
    }
}

closed_set! {
    /// The state of a circuit breaker.
    pub enum CircuitBreakerState {
        Closed = "closed", "Calls are made.";
        Open = "open", "No calls are made except for a probe now and then.";
        HalfOpen = "half_open", "A probe succeeded; one message at a time shows whether the outage is over.";
    }
}

closed_set! {
    /// What the gate of a playbook lets a worker run.
    pub enum GateState {
        Open = "open", "The version in the file has passed and runs.";
        Behind = "behind", "The version in the file has not passed; the last one that has runs instead.";
        Closed = "closed", "No version that can run has passed; the playbook's events wait.";
    }
}

impl EventState {
    /// Whether no further state follows without an operator.
    pub fn is_final(self) -> bool {
        !matches!(self, Self::Claimed | Self::Waiting | Self::Decided)
    }

    /// Whether `next` may follow. Only an operator leads out of [`EventState::Parked`]: by a replay of the event or of one
    /// of its write commands, or by discarding it. What leads out of [`EventState::Proposed`] is a review.
    pub fn can_become(self, next: Self) -> bool {
        use EventState::{Claimed, Decided, Dropped, Parked, Proposed, Skipped, Superseded, Waiting, Written};
        match self {
            Claimed => !matches!(next, Written | Proposed),
            Waiting => matches!(next, Claimed | Parked | Dropped),
            Parked => matches!(next, Claimed | Waiting | Decided | Dropped),
            Decided => matches!(next, Written | Skipped | Superseded | Dropped | Parked | Proposed),
            Proposed => matches!(next, Decided | Written | Skipped | Superseded | Dropped | Parked),
            Written | Skipped | Superseded | Dropped => false,
        }
    }
}

/// No outage is known at first.
impl Default for CircuitBreakerState {
    fn default() -> Self {
        Self::Closed
    }
}

impl CommandState {
    /// Whether the properties are settled, so that the actions may follow.
    pub fn settles_properties(self) -> bool {
        matches!(self, Self::Written | Self::Superseded | Self::Skipped)
    }

    /// Whether no further state follows without an operator.
    pub fn is_final(self) -> bool {
        !matches!(self, Self::Recorded | Self::Sending | Self::Waiting)
    }
}

#[cfg(test)]
mod tests {
    use super::EventState;

    #[test]
    fn every_state_is_found_by_its_name_and_no_other_name_is() {
        for state in EventState::ALL {
            assert_eq!(EventState::parse(state.as_str()), Some(*state));
        }
        assert_eq!(EventState::parse("lost"), None);
    }
}
