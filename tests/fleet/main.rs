//! Whole-fleet tests: real processes, real RabbitMQ, real Postgres, the simulator as HubSpot and OpenAI. Run them with
//! `cargo xtask test`. Each module is named after what it shows.
#![allow(clippy::expect_used, reason = "these are tests; their helpers too")]

mod actions;
mod answers;
mod backfill;
mod broker_trouble;
mod bursts;
mod concurrency;
mod crash_points;
mod failures;
mod fixtures;
mod injection;
mod long_texts;
mod loops;
mod observability;
mod once;
mod openapi;
mod operator;
mod order;
mod outages;
mod parked;
mod playbook_command;
mod rate_limits;
mod reconcile;
mod recovery;
mod retention;
mod use_cases;
