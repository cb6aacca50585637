//! What every service shares: settings, telemetry, health endpoints, graceful shutdown, gathering.
//!
//! [`service::run`] is the frame of each `main`: it reads the settings, starts telemetry and the internal listener,
//! runs the service until SIGTERM, and says how it ended.

pub mod admin;
pub mod config;
mod gather;
pub mod playbooks;
pub mod service;
mod telemetry;

pub use gather::{Gather, GatherError, Limits as GatherLimits};
