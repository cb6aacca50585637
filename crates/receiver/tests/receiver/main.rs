//! The receiver in this process, with a real RabbitMQ: which webhooks it accepts, what it does with their events, and what
//! strangers cannot do to it.

mod door;
mod fixtures;
mod webhooks;
