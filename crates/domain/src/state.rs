//! The states of an event and the transitions between them.

use serde::{Deserialize, Serialize};

use crate::names::named_values;

/// The state of an event in the ledger.
///
/// The database enforces the same transitions with a trigger (`migrations/`); a test compares the two lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EventState {
    /// A worker processes it under a lease.
    Claimed,
    /// It waits in a retry queue for its next attempt.
    Waiting,
    /// Every playbook has answered, and the write commands are in the ledger.
    Decided,
    /// HubSpot has every value and action that was decided.
    Written,
    /// There was nothing to do: no playbook is triggered, the context is empty, a guard matches, or values that people
    /// set were kept.
    Skipped,
    /// A newer event of the same record replaces it.
    Superseded,
    /// It can have no effect any more: the fleet itself caused it, or its record no longer exists.
    Dropped,
    /// It is in the parking lot with a reason and waits for an operator.
    Parked,
}

named_values!(EventState {
    Claimed => "claimed",
    Waiting => "waiting",
    Decided => "decided",
    Written => "written",
    Skipped => "skipped",
    Superseded => "superseded",
    Dropped => "dropped",
    Parked => "parked",
});

impl EventState {
    /// Whether the fleet is finished with the event. A parked event is final until an operator replays or discards it.
    pub fn is_final(self) -> bool {
        !matches!(self, Self::Claimed | Self::Waiting | Self::Decided)
    }

    /// Whether an event in this state may change to `next`. Only an operator moves an event out of
    /// [`EventState::Parked`]: by replaying it or one of its write commands, or by discarding it.
    pub fn can_become(self, next: Self) -> bool {
        use EventState::{Claimed, Decided, Dropped, Parked, Skipped, Superseded, Waiting, Written};
        match self {
            Claimed => next != Written,
            Waiting => next == Claimed,
            Parked => matches!(next, Claimed | Waiting | Decided | Dropped),
            Decided => matches!(next, Written | Skipped | Superseded | Dropped | Parked),
            Written | Skipped | Superseded | Dropped => false,
        }
    }
}
