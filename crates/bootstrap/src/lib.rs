//! From settings to clients: the one place that turns sections of the settings into connections.
//!
//! The clients do not know the settings file, and the settings do not know the clients; a program imports this crate and
//! gets both. The receiver imports it without the feature `clients`: it can reach RabbitMQ and nothing else.

mod broker_connections;
#[cfg(feature = "clients")]
mod clients;
mod error;
mod readiness;

pub use broker_connections::{broker_settings, connect_broker, connect_consumer, consumer_settings, retry_schedule};
#[cfg(feature = "clients")]
pub use clients::{
    api_versions, connect_ledger, connect_ledger_to_migrate, connect_ledger_verified, credential, hubspot_client,
    model_facts, openai_client, retention,
};
pub use error::BootstrapError;
pub use readiness::broker_readiness;
#[cfg(feature = "clients")]
pub use readiness::{
    add_consumer_readiness, add_quota_readiness, broker_and_ledger_readiness, warn_of_ending_versions,
};
#[cfg(feature = "clients")]
pub use retry::CallHooks;
