//! The connection, its queues and what each role may do, on a real RabbitMQ.
#![allow(clippy::expect_used, reason = "these are tests; their fixtures too")]

mod connection;
mod fixtures;
mod topology;
