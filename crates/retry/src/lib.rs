//! What a failure asks for, and the part of it that happens inside the process.
//!
//! Every error type of the fleet implements [`Failure`]: it classifies itself once, as [`RetryAction`], with a [`Reason`].
//! The stages obey and never inspect an error's text. [`run`] carries out the retries in the process (exponential backoff
//! with full jitter; `Retry-After` is obeyed). Later retries go through the broker's retry queues, so that a waiting message
//! occupies no worker.
//!
//! [`CallHooks`] connect an API client to what surrounds it: a [`CallObserver`] sees how each attempt ends, a
//! [`RateLimiter`] gives each attempt its permit.

mod call_hooks;
mod failure;
mod rate_limiter;
mod retry_policy;

pub use call_hooks::{CallHooks, CallObserver, CredentialVersion, SharedObserver};
pub use domain::{Dependency, Reason};
pub use failure::{Failure, Outage, OutageSign, RetryAction};
pub use rate_limiter::{
    HUBSPOT_ASSOCIATIONS, Permit, PermitFuture, QuotaReport, RateLimited, RateLimiter, SharedRateLimiter, Shortage,
};
pub use retry_policy::{RetryPolicy, run};
