//! Shared budgets: how much of HubSpot's and OpenAI's limits, and of the company's money, the fleet takes, summed over all
//! its replicas.
//!
//! The ledger knows what is left ([`ledger::Ledger::acquire_quota`]); a [`QuotaClient`] borrows from it in grants that are sized by how
//! many calls wait, so that a call costs no round trip of its own, and gives back what was not used.

mod grants;
mod limiters;
mod quota_client;
mod spend_limiter;

pub use limiters::{Lane, RateLimiters};
pub use spend_limiter::SpendLimiter;
