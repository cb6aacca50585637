//! PermitFuture to call: an rate limiter that many callers share, in this process and elsewhere.

use std::{fmt, future::Future, pin::Pin, sync::Arc, time::Duration};

/// Gives calls leave, or makes them wait for it.
///
/// An account has up to two dimensions: calls, and units of what a call uses up (tokens); an account without units takes
/// calls only.
pub trait RateLimiter: Send + Sync + fmt::Debug {
    /// Waits until a call of `units` may be made on `account` (a model's name; empty where there is only one).
    fn take<'a>(&'a self, account: &'a str, units: i64) -> PermitFuture<'a>;
    /// How much longer those who put calls together should gather: no longer, unless calls are scarce.
    fn extra_linger(&self) -> Duration;
    /// A call was answered: what was said about the limits, calls first, and what it has used if that is known.
    fn answered(&self, permit: Permit, said: [Option<QuotaReport>; 2], used: Option<i64>);
    /// A call was refused because of a limit: nobody may call for `wait`.
    fn refused(&self, permit: Permit, said: [Option<QuotaReport>; 2], wait: Duration);
}

/// The answer to come.
pub type PermitFuture<'a> = Pin<Box<dyn Future<Output = Result<Permit, RateLimited>> + Send + 'a>>;

/// Who gives leave, if anybody has to.
pub type OptionalRateLimiter = Option<Arc<dyn RateLimiter>>;

/// PermitFuture for one call.
#[derive(Debug, Clone)]
pub struct Permit {
    /// The account.
    pub account: String,
    /// When leave was given.
    pub taken: std::time::Instant,
    /// The units that it was given for.
    pub units: i64,
    /// Where they were booked, calls first: for whoever gave leave.
    pub booked: Vec<i64>,
}

/// What an answer said about one dimension.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QuotaReport {
    /// The whole of it within its window.
    pub quota: i64,
    /// What is left of it.
    pub remaining: i64,
}

/// It is not our turn, and will not be soon.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the fleet's share of the limit is used up; our turn may come in {after:?}")]
pub struct RateLimited {
    /// When to try again.
    pub after: Duration,
}
