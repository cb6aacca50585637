//! What the fleet does about itself, on a real RabbitMQ and Postgres. Run with `cargo xtask test`.
#![allow(clippy::expect_used, reason = "these are tests; their helpers too")]

mod drift;
mod erasures;
mod probes;
