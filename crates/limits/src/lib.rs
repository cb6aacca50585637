//! Rate limits and spend limits that the whole fleet shares: how much of HubSpot's and OpenAI's limits, and of the company's
//! money, all replicas together use.
//!
//! The ledger knows what is left ([`ledger::Ledger::acquire_quota`]). A quota client acquires it in grants that are sized by
//! how many calls wait, so that a call costs no round trip of its own, and returns what was not used.

#[cfg(test)]
mod absent_ledger;
mod grants;
mod limiters;
mod outgoing;
mod quota_actor;
mod quota_client;
mod recent_demand;
mod spend_limiter;
mod task_health;

pub use limiters::{Lane, RateLimiters};
pub use spend_limiter::{Reservation, SpendLimiter};
pub use task_health::TaskHealth;
