//! From settings to clients: one place that turns sections of the settings into connections.
//!
//! The clients know nothing of the settings file, and the settings nothing of the clients; services import this crate
//! and get both. The receiver imports it without the feature `clients`: it can reach RabbitMQ and nothing else.

mod broker_settings;
#[cfg(feature = "clients")]
mod clients;
mod stage;

pub use broker_settings::{broker, consumer};
#[cfg(feature = "clients")]
pub use clients::{hubspot, ledger, model_facts, openai};
#[cfg(feature = "clients")]
pub use retry::CallHooks;
#[cfg(feature = "clients")]
pub use stage::readiness_with_ledger;
pub use stage::{connection, readiness, stage};
