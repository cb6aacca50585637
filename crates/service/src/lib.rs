//! The frame of every service: settings are read, telemetry and the internal listener start, the service runs until
//! SIGTERM, and the exit code says how it ended. [`run`] is the whole of a `main`.

mod admin;
mod allocator;
mod frame;
mod telemetry;

pub use admin::Readiness;
pub use frame::{Options, ServiceError, Wired, exit, install_tls_provider, run};
pub use telemetry::TelemetryError;
