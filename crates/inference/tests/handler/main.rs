//! The handler of events with a real RabbitMQ and a real Postgres, without HubSpot and OpenAI. Run with `cargo xtask test`.
#![allow(clippy::expect_used, reason = "these are tests; their helpers too")]

mod duplicates;
mod fixtures;
mod gates;
mod held_back;
mod refusals;
mod waiting;
