//! The receiver in this process, with a real RabbitMQ: which webhooks it accepts, what it does with their events, and what
//! strangers cannot do to it.
#![allow(clippy::expect_used, reason = "these are tests; their helpers too")]

mod door;
mod fixtures;
mod stop;
mod tls;
mod webhooks;
mod whole;
