//! The rate limit of an API client, shared by many callers in this process and in others.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    time::{Duration, Instant},
};

/// Gives each call a permit, or makes it wait for one.
///
/// A limit has up to two dimensions: calls, and units that a call uses up (tokens). A limit without units counts calls only.
pub trait RateLimiter: Send + Sync + fmt::Debug {
    /// Waits until a call that uses `units` may be made under the limit `key`: a model's name for OpenAI; for HubSpot
    /// [`HUBSPOT_ASSOCIATIONS`], or empty for a call that counts against the limit of all calls alone.
    fn acquire<'a>(&'a self, key: &'a str, units: i64) -> PermitFuture<'a>;
    /// How much longer batches should wait for more items. Zero, unless calls are scarce at the moment.
    fn extra_linger(&self) -> Duration;
    /// The call was answered. `reports` are what the answer says about the limits, calls first; `used` is how many units the
    /// call has used, if that is known.
    fn record_answer(&self, permit: Permit, reports: [Option<QuotaReport>; 2], used: Option<i64>);
    /// The call was rejected because of a limit: no caller of the fleet may call for `wait`.
    fn record_rejection(&self, permit: Permit, reports: [Option<QuotaReport>; 2], wait: Duration);
}

/// The key of the calls of HubSpot's association endpoints.
pub const HUBSPOT_ASSOCIATIONS: &str = "associations";

/// Resolves to a permit, or to an error when waiting for it would take too long.
pub type PermitFuture<'a> = Pin<Box<dyn Future<Output = Result<Permit, RateLimited>> + Send + 'a>>;

/// A rate limiter that clients share.
pub type SharedRateLimiter = Arc<dyn RateLimiter>;

/// The permission to make one call.
#[derive(Debug, Clone)]
pub struct Permit {
    /// The limit that it counts against.
    pub key: String,
    /// When it was acquired.
    pub acquired_at: Instant,
    /// How many units it is for.
    pub units: i64,
    /// The time slices that calls and units were taken from, calls first. Only the limiter that gave the permit reads them.
    pub slices: Vec<i64>,
}

/// What an answer says about one dimension of a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QuotaReport {
    /// The whole quota of the limit's window.
    pub quota: i64,
    /// What is left of it.
    pub remaining: i64,
}

/// No permit can be had soon.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the fleet's share of the rate limit is used up; try again in {after:?}")]
pub struct RateLimited {
    /// When to try again.
    pub after: Duration,
}
