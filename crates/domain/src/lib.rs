//! The vocabulary of Leadline as types: no I/O, no async.
//!
//! [`event`] is what HubSpot said, [`playbook`] what the operator wants done about it, [`context`] what was read for
//! it, [`inference`] what the model answered, [`write_command`] what is to be written, and [`state`] how far an event
//! has come. Everything else imports this crate; it imports nothing of ours.

mod dependency;
pub mod event;
pub mod ids;
pub mod inference;
pub mod state;
pub mod write_command;

pub use dependency::Dependency;
pub use event::{Event, EventKey, RecordRef};
pub use ids::{ActionId, AppId, EventId, InferenceId, ObjectId, ObjectType, PortalId, WriteCommandId};
pub use inference::Inference;
pub use state::EventState;
pub use write_command::WriteCommand;
