//! What the fleet does about itself, on a real RabbitMQ and Postgres.

mod erasures;
mod probes;
