//! The sections. Every field has a default, named and explained in `deploy/leadline.toml`.
//!
//! Some sections have more than eight fields: each is one flat table of the file, and serde cannot flatten nested structs into
//! a table and reject unknown keys at the same time.
#![allow(missing_docs, reason = "deploy/leadline.toml documents every setting, and a test holds the two together")]

mod connections;
mod operation;
mod services;

pub use connections::{
    BrokerSection, HubSpotSection, LedgerSection, ModelFacts, OpenAiSection, PoolMode, SignatureVersion,
};
pub use operation::{
    AdminSection, CircuitBreakerSection, DriftSection, LogFormat, RateLimitSection, ReconcileSection, RetentionSection,
    ReviewSection, SecretsSection, SpendSection, TelemetrySection,
};
pub use services::{InferenceSection, ReceiverSection, WriterSection};
