//! Shared budgets: how much of HubSpot's and OpenAI's limits, and of the company's money, the fleet takes, summed over all
//! its replicas.
//!
//! The ledger knows what is left ([`ledger::Ledger::borrow`]); a [`Purse`] borrows from it in lots that are sized by how
//! many calls wait, so that a call costs no round trip of its own, and gives back what was not used.

mod accounts;
mod lots;
mod purse;
mod wallet;

pub use accounts::{Budgets, Lane};
pub use wallet::Wallet;
