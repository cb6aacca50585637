//! The vocabulary of Leadline as types: no I/O, no async, no text processing.
//!
//! [`event`] is what HubSpot reports, [`model`] how a model is asked, [`inference`] what it answered, [`write_command`] what is to be written,
//! [`review`] whether a person is asked first, [`state`] how far each of them has come, [`reason`] why, and [`rate`] how often. Every other
//! crate may import this one; it imports none.

mod action_id;
mod correction;
mod dependency;
mod drift;
pub mod event;
pub mod hash;
pub mod ids;
pub mod inference;
mod message_body;
pub mod model;
pub mod named_record;
mod names;
mod payload;
pub mod rate;
pub mod reason;
pub mod review;
pub mod state;
pub mod write_command;

pub use action_id::ActionPosition;
pub use correction::{Correction, CorrectionSource};
pub use dependency::{Circuit, Credential, Dependency, Fingerprint, PlaybookModel};
pub use drift::DriftRate;
pub use event::{Event, EventKey, RecordRef};
pub use ids::{
    ActionId, AppId, ChargeId, EventId, InferenceId, ObjectId, ObjectType, PortalId, UndoId, WriteCommandId,
};
pub use inference::Inference;
pub use message_body::MessageBody;
pub use named_record::NamedRecord;
pub use payload::Payload;
pub use rate::Rate;
pub use reason::Reason;
pub use state::{ActionState, CircuitBreakerState, CommandState, EventState, GateState};
pub use write_command::WriteCommand;
