//! What the ledger promises, shown against a real Postgres. Run with `cargo xtask test`. Each test has a database of its
//! own, and ends a lease, a wait or a window with SQL instead of waiting for it.
#![allow(clippy::expect_used, reason = "these are tests; their fixtures too")]

mod actions;
mod age;
mod cancellation;
mod charges;
mod circuit_breakers;
mod claims;
mod clock;
mod command_results;
mod commands;
mod connections;
mod corrections;
mod credential_circuits;
mod decisions;
mod drift;
mod erasure;
mod erasure_size;
mod events;
mod explain;
mod fixtures;
mod gates;
mod merges;
mod migrations;
mod parking;
mod plans;
mod playbook_figures;
mod poolers;
mod prior_answers;
mod rate_limits;
mod records;
mod recovery;
mod refusals;
mod retention;
mod reviews;
mod roles;
mod schema;
mod singleton_leases;
mod stuck_work;
mod undo;
mod undo_erasure;
mod undo_size;
mod unfinished;
