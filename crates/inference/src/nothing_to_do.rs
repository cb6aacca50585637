//! How an event ends that leads to no question or no write.

use domain::{EventState, Reason};

/// Why an event, or one playbook run of it, ends without a question to the model or without a write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NothingToDo {
    /// The state in which the event ends if nothing else of it has an effect.
    pub state: EventState,
    /// The reason in the ledger.
    pub reason: Reason,
    /// What the reason leaves open, for example the name of the guard that holds.
    pub detail: Option<String>,
}

impl NothingToDo {
    /// There is nothing to ask or to write.
    pub fn skipped(reason: Reason) -> Self {
        Self { state: EventState::Skipped, reason, detail: None }
    }

    /// A newer event of the same record takes its place.
    pub fn superseded(reason: Reason) -> Self {
        Self { state: EventState::Superseded, reason, detail: None }
    }

    /// It must have no effect.
    pub fn dropped(reason: Reason) -> Self {
        Self { state: EventState::Dropped, reason, detail: None }
    }
}
