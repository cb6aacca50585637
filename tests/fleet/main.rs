//! Whole-fleet tests: real processes, real RabbitMQ, real Postgres, the sandbox as HubSpot and OpenAI. Run them with
//! `cargo xtask test`. Each module is named after what it shows.
#![allow(clippy::expect_used, reason = "these are tests; their helpers too")]

mod answers;
mod concurrency;
mod failures;
mod ledger_rules;
mod loops;
mod observability;
mod once;
mod openapi;
mod operator;
mod order;
mod receiver;
mod recovery;
mod scene;
mod writer;
