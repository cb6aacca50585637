//! The vocabulary of Leadline as types: no I/O, no async, no text processing.
//!
//! [`event`] is what HubSpot reports, [`model`] how a model is asked, [`inference`] what it answered, [`write_command`] what is to be written,
//! [`state`] how far each of them has come, and [`reason`] why. Every other crate may import this one; it imports none.

mod action_id;
mod dependency;
pub mod event;
pub mod hash;
pub mod ids;
pub mod inference;
mod message_body;
pub mod model;
pub mod named_record;
mod names;
pub mod reason;
pub mod state;
pub mod write_command;

pub use action_id::ActionPosition;
pub use dependency::{Circuit, Credential, Dependency, Fingerprint, PlaybookModel};
pub use event::{Event, EventKey, RecordRef};
pub use ids::{ActionId, AppId, ChargeId, EventId, InferenceId, ObjectId, ObjectType, PortalId, WriteCommandId};
pub use inference::Inference;
pub use message_body::MessageBody;
pub use named_record::NamedRecord;
pub use reason::Reason;
pub use state::{ActionState, CircuitBreakerState, CommandState, EventState, GateState};
pub use write_command::WriteCommand;
