//! What a failure asks for.

use std::{sync::Arc, time::Duration};

use domain::Dependency;

use crate::Reason;

/// What to do after a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RetryAction {
    /// Try again in this process, not before `after`. A stage that gets this from [`crate::run`] has used up the attempts
    /// in the process and treats it as [`RetryAction::RetryLater`].
    RetryNow {
        /// How long the other side asks to wait (`Retry-After`), if it says so.
        after: Option<Duration>,
    },
    /// A rate limit is reached. Handled as [`RetryAction::RetryNow`]; from a retry queue the message comes back as often as
    /// necessary, because a rate limit does not count as a failed attempt.
    RateLimited {
        /// When a new attempt may succeed, if that is known.
        after: Option<Duration>,
    },
    /// Free the worker and come back through a retry queue, not before `after`.
    RetryLater {
        /// The earliest time at which a new attempt makes sense, if that is known.
        after: Option<Duration>,
    },
    /// No retry can help: move the message to the parking lot, where a person decides.
    Park,
    /// Nothing is left to do and no person has to look: acknowledge the message and keep the reason in the ledger.
    Discard,
}

/// An error that knows what to do about itself.
pub trait Failure: std::error::Error {
    /// What to do about it.
    fn retry_action(&self) -> RetryAction;
    /// Why it happened, for metrics, the ledger and the message header.
    fn reason(&self) -> Reason;
    /// Whether it is a sign that a dependency is unavailable for all calls, not only for this one.
    fn outage(&self) -> Option<Outage> {
        None
    }
}

/// One failure that many callers share, for example all items of a batch.
impl<F: Failure> Failure for Arc<F> {
    fn retry_action(&self) -> RetryAction {
        F::retry_action(self)
    }

    fn reason(&self) -> Reason {
        F::reason(self)
    }

    fn outage(&self) -> Option<Outage> {
        F::outage(self)
    }
}

/// A sign that a dependency is unavailable for all calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outage {
    /// Which one.
    pub dependency: Dependency,
    /// What the failure shows.
    pub sign: OutageSign,
}

/// What one failure shows of an outage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OutageSign {
    /// The credential of this process is rejected. A cheap call shows whether it still is; others may have another one.
    CredentialRejected,
    /// No call of any worker gets through: the account has no money left, for example.
    Certain,
    /// Only many failures in a row are an outage.
    Possible,
}
