//! The vocabulary of Leadline as types: no I/O, no async, no text processing.
//!
//! In the order in which an event is processed: [`event`] is what HubSpot reported, [`inference`] what the model
//! answered, [`write_command`] what is to be written, and [`state`] how far the event has come. [`ids`] are the ids
//! that all of them use. This crate imports no other crate of the workspace.

pub mod event;
pub mod ids;
pub mod inference;
mod names;
pub mod state;
pub mod write_command;

pub use event::{Event, EventKey, RecordRef};
pub use ids::{ActionId, AppId, EventId, InferenceId, ObjectId, ObjectType, PortalId, WriteCommandId};
pub use inference::Inference;
pub use state::EventState;
pub use write_command::WriteCommand;
