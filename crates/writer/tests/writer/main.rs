//! The writer in one process, with a real Postgres and the simulator as HubSpot. Run them with `cargo xtask test`. Each
//! module is named after what it shows.
#![allow(clippy::expect_used, reason = "these are tests")]

mod actions;
mod approved_attempts;
mod batches;
mod calls;
mod corrections;
mod fixtures;
mod leases;
mod merges;
mod messages;
mod order;
mod policies;
mod recovered;
mod review;
mod review_page;
mod undo;
