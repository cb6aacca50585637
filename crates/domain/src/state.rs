//! How far an event has come: a closed set of states with legal transitions.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The state of an event in the ledger. The database enforces the same transitions by a trigger
/// (`migrations/`), and a test holds the two lists against each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EventState {
    /// A worker holds it under a lease.
    Claimed,
    /// It waits in a retry queue for its next try.
    Waiting,
    /// Every playbook has answered and its write commands are recorded.
    Decided,
    /// HubSpot has what was decided.
    Written,
    /// There was nothing to do: no playbook is triggered, the context is empty, a guard holds, or a person's values
    /// were kept.
    Skipped,
    /// A newer event of the same record made it pointless.
    Superseded,
    /// It cannot have an effect any more (our own echo, the record is gone).
    Dropped,
    /// It lies in the parking lot with its reason, for a person.
    Parked,
}

impl EventState {
    /// Every state, with its name in the ledger.
    pub const ALL: [(Self, &'static str); 8] = [
        (Self::Claimed, "claimed"),
        (Self::Waiting, "waiting"),
        (Self::Decided, "decided"),
        (Self::Written, "written"),
        (Self::Skipped, "skipped"),
        (Self::Superseded, "superseded"),
        (Self::Dropped, "dropped"),
        (Self::Parked, "parked"),
    ];

    /// The name in the ledger.
    pub fn as_str(self) -> &'static str {
        Self::ALL.iter().find(|(state, _)| *state == self).map_or("", |(_, name)| name)
    }

    /// The state with this name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(_, known)| *known == name).map(|(state, _)| *state)
    }

    /// Whether nothing follows by itself.
    pub fn is_final(self) -> bool {
        !matches!(self, Self::Claimed | Self::Waiting | Self::Decided)
    }

    /// Whether `next` may follow. Only an operator leads out of [`EventState::Parked`]: by a replay of the event or of a
    /// write command of it, or by giving it up.
    pub fn may_become(self, next: Self) -> bool {
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

impl fmt::Display for EventState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
