//! Why a service does not start or ends early.

use settings::InvalidSettings;

use crate::{open_files::TooFewFiles, probe::ProbeFailed, telemetry::TelemetryError};

/// What a service's own code reports when it cannot start or go on.
pub type ServiceFailure = Box<dyn std::error::Error + Send + Sync>;

/// Why a service did not start, or ended before it was told to.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// The settings are invalid.
    #[error(transparent)]
    Settings(#[from] InvalidSettings),
    /// Telemetry did not start.
    #[error(transparent)]
    Telemetry(#[from] TelemetryError),
    /// The process may have too few files open.
    #[error(transparent)]
    Files(#[from] TooFewFiles),
    /// The service that was asked about does not answer, or says no.
    #[error(transparent)]
    Probe(#[from] ProbeFailed),
    /// The internal listener or the signal handlers could not be set up.
    #[error("{what}: {error}")]
    Io {
        /// What was tried.
        what: String,
        /// What the operating system reports.
        error: std::io::Error,
    },
    /// The service's own code failed.
    #[error("{0}")]
    Service(ServiceFailure),
}
