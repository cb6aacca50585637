//! What to do about a failure.
//!
//! Every error type that a stage of the fleet can meet implements [`Failure`]: it says, once, whether the same thing
//! is worth trying again now, later, or never. The stages only obey. [`run`] carries out the "now" part in the
//! process (exponential backoff with full jitter, `Retry-After` honoured); the "later" part belongs to the broker's
//! retry queues, so that a waiting message holds no worker.

#[cfg(feature = "http")]
pub mod http;
mod policy;
mod rate_limiter;

use std::{fmt, sync::Arc, time::Duration};

pub use domain::Reason;
pub use policy::{Policy, run};
pub use rate_limiter::{OptionalRateLimiter, Permit, PermitFuture, QuotaReport, RateLimited, RateLimiter};

/// What a failure asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RetryAction {
    /// Try again in this process, not before `after`. A stage that sees this has used up its in-process attempts and
    /// treats it as [`RetryAction::RetryLater`].
    RetryNow {
        /// The other side's own wish (`Retry-After`), if it gave one.
        after: Option<Duration>,
    },
    /// Nothing failed, it only is not our turn (a rate limit): like [`RetryAction::RetryNow`], and from the retry queue again
    /// and again without counting as a failure.
    RateLimited {
        /// When it may be our turn, if the other side says so.
        after: Option<Duration>,
    },
    /// PermitFuture the worker and come back through a retry queue, not before `after`.
    RetryLater {
        /// The earliest moment at which a new try makes sense, if that is known.
        after: Option<Duration>,
    },
    /// No retry can help: keep the message in the parking lot for a person.
    Park,
    /// Nothing is left to do and nobody needs to look: forget the message, keep the reason in the ledger.
    Discard,
}

/// An error that knows its own retry_action.
pub trait Failure: std::error::Error {
    /// What to do about it.
    fn retry_action(&self) -> RetryAction;
    /// Why, by name.
    fn reason(&self) -> Reason;
    /// Whether it says that the other side is away for everybody, not only for this call.
    fn outage(&self) -> Option<Outage> {
        None
    }
}

/// One failure of many: of a batch, for example.
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

/// A sign that a dependency is away for everybody.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outage {
    /// Who is away: `hubspot`, `openai`.
    pub of: &'static str,
    /// Whether one such failure proves it (a dead key, an empty purse), rather than many in a row.
    pub is_certain: bool,
}

/// Sees how calls end, all of them, each try.
pub trait CallObserver: Send + Sync + fmt::Debug {
    /// A try ended: well, or with this failure.
    fn record(&self, failure: Option<&dyn Failure>);
}

/// Who watches a client's calls, if anybody does.
pub type OptionalObserver = Option<Arc<dyn CallObserver>>;

/// Who watches a client's calls, and who gives them leave: nobody, by default.
#[derive(Debug, Clone, Default)]
pub struct CallHooks {
    /// Sees how every try ends.
    pub observer: OptionalObserver,
    /// Every try needs its leave.
    pub rate_limiter: OptionalRateLimiter,
}
