//! What the fleet does about itself, besides its work.
//!
//! [`Circuits`] recognise an outage of HubSpot or OpenAI, pause the whole fleet, and find out by themselves when it is
//! over. The [`Reconciler`] publishes again what the ledger has begun and whose message is lost. [`housekeep`] does that
//! every few minutes, on one worker of the fleet at a time, and lets old data go.

mod circuits;
mod housekeeping;
mod messages;
mod reconciler;
mod retention;

pub use circuits::{Circuits, Probe, probe};
pub use housekeeping::housekeep;
pub use messages::{UnreadablePayload, command_message, event_message, payload_message};
pub use reconciler::{Findings, ReconcileError, Reconciler, Repaired};
pub use retention::{Gone, let_go};
