//! Accepts HubSpot's webhooks and publishes each event to RabbitMQ. Uses RabbitMQ and nothing else: no Postgres, no call to
//! HubSpot, no call to OpenAI.

pub mod body;
pub mod handler;
mod health;
mod overflow;
mod rejection;
mod start;
pub mod wiring;

pub use start::start;
