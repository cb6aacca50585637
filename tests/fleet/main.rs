//! Whole-fleet tests: real processes, real RabbitMQ, real Postgres, the sandbox as HubSpot and OpenAI. Run them with
//! `cargo xtask test`. Each module is named after what it shows.
#![allow(clippy::expect_used, reason = "these are tests; their helpers too")]

mod actions;
mod answers;
mod concurrency;
mod failures;
mod injection;
mod ledger_rules;
mod long_texts;
mod loops;
mod observability;
mod once;
mod openapi;
mod operator;
mod order;
mod playbook_command;
mod policies;
mod receiver;
mod recovery;
mod scene;
mod use_cases;
mod writer;
