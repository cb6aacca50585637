//! What the fleet does besides its work: outages, lost messages, old data, erased persons.
//!
//! [`CircuitBreakers`] recognise an outage of HubSpot or OpenAI, pause the whole fleet, and detect the end of the outage by
//! probes; a process whose credential is rejected pauses alone, until another one confirms it. [`ModelCircuits`] pause single playbooks
//! whose model is away. The [`Reconciler`] publishes work again whose message is lost. [`run_maintenance`] does that every few minutes, on
//! one worker of the fleet at a time, and deletes old data. The [`Eraser`] carries out erasures that were asked for.
//! [`check_drift`] holds versions of playbooks back that have become wrong too often.

mod breaker;
mod breaker_sync;
mod circuit_breakers;
mod drift;
mod erasure;
mod messages;
mod model_circuits;
mod own_credential;
mod probe;
mod reconciler;
mod reload;
mod retention;
mod schedule;

pub use circuit_breakers::CircuitBreakers;
pub use drift::{UsedVersion, check_drift};
pub use erasure::{EraseError, Eraser};
pub use messages::{UnreadablePayload, command_message, event_message, payload_message};
pub use model_circuits::{ModelCircuits, ModelPause, ModelProbe, Permission, Refused, Turns};
pub use probe::{Probe, ProbeOutcome, hubspot_probe, probe};
pub use reconciler::{ReconcileError, ReconcileFindings, Reconciler, RepairCounts};
pub use reload::reload_of_worker;
pub use retention::{PruneCounts, prune};
pub use schedule::{run_announcements, run_drift_checks, run_erasures, run_expiry, run_maintenance};
