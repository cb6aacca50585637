//! The rate limit of an API client, shared by many callers in this process and in others.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    time::{Duration, Instant},
};

use crate::Reason;

/// Gives each call a permit, or makes it wait for one.
///
/// A limit has up to two dimensions: calls, and units that a call uses up (tokens). A limit without units counts calls only.
pub trait RateLimiter: Send + Sync + fmt::Debug {
    /// Waits until a call that uses `units` may be made under the limit `key`: a model's name for OpenAI; for HubSpot
    /// [`HUBSPOT_ASSOCIATIONS`], or empty for a call that counts against the limit of all calls alone.
    fn acquire<'a>(&'a self, key: &'a str, units: i64) -> PermitFuture<'a>;
    /// How much longer batches of calls under the limit `key` should wait for more items. Zero, unless calls are scarce at the moment.
    fn extra_linger(&self, key: &str) -> Duration;
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

/// What an answer says about one dimension of a limit: numbers that a limit can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QuotaReport {
    quota: i64,
    remaining: i64,
}

impl QuotaReport {
    /// The largest quota that is believed.
    pub const MOST: i64 = 1_000_000_000_000;

    /// A report of `remaining` out of `quota` in the limit's window; `None` for numbers that say nothing, such as the -1 and 0 that
    /// gateways send for "no limit".
    pub fn new(quota: i64, remaining: i64) -> Option<Self> {
        ((1..=Self::MOST).contains(&quota) && (0..=quota).contains(&remaining)).then_some(Self { quota, remaining })
    }

    /// The whole quota of the limit's window.
    pub fn quota(self) -> i64 {
        self.quota
    }

    /// What is left of it.
    pub fn remaining(self) -> i64 {
        self.remaining
    }
}

/// No permit can be had soon.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{shortage}; try again in {after:?}")]
pub struct RateLimited {
    /// When to try again.
    pub after: Duration,
    /// Why there is none.
    pub shortage: Shortage,
}

/// Why there is no permit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shortage {
    /// The fleet's share is used up.
    UsedUp,
    /// Whether any of it is left is not known, because the ledger does not answer.
    Unknown,
}

impl Shortage {
    /// The reason of what waits for a permit.
    pub fn reason(self) -> Reason {
        match self {
            Self::UsedUp => Reason::RateLimitShareExhausted,
            Self::Unknown => Reason::LedgerUnavailable,
        }
    }
}

impl fmt::Display for Shortage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::UsedUp => "the fleet's share of the rate limit is used up",
            Self::Unknown => "the ledger does not say what is left of the rate limit",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::QuotaReport;

    #[test]
    fn numbers_that_no_limit_can_have_say_nothing() {
        let report = QuotaReport::new(500, 0).expect("used up");
        assert_eq!((report.quota(), report.remaining()), (500, 0));
        for (quota, remaining) in [
            (-1, -1),
            (0, 0),
            (-1, 5),
            (500, -1),
            (500, 501),
            (500, i64::MAX),
            (i64::MAX, 1),
            (QuotaReport::MOST + 1, 1),
        ] {
            assert_eq!(QuotaReport::new(quota, remaining), None, "{remaining} of {quota}");
        }
    }
}
