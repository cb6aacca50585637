//! The writer: applies write commands to HubSpot and records the values before and after.
//!
//! A [`WriteHandler`] leads a message into a batch, a [`BatchExecutor`] carries the batch out, and a [`Verifier`] repairs
//! records afterwards. [`wiring`] builds them from the settings; a test builds them from parts.

mod action_ledger;
mod actions;
mod apply;
mod association_types;
mod batch;
mod batch_creator;
mod corrections;
mod current_values;
mod deals;
mod engagements;
mod failure;
mod handler;
mod marker_reader;
mod missing;
mod notify;
mod outcome;
mod plan;
mod policy;
mod proposals;
mod record;
mod recovered;
mod refused;
pub mod review;
mod start;
mod undo;
mod value_reader;
mod verify;
pub mod wiring;

pub use actions::ActionExecutor;
pub use batch::{BatchExecutor, BatchNames};
pub use current_values::NullValues;
pub use deals::Pipelines;
pub use handler::WriteHandler;
pub use notify::Channels;
pub use outcome::FailurePolicy;
pub use policy::WriteRules;
pub use refused::RefusedProperties;
pub use start::{main, start};
pub use undo::{Removal, look as look_at_engagements};
pub use verify::{Verifier, VerifyError};
