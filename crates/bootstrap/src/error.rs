//! The one error of this crate.

use settings::MissingSetting;

/// Why a client or a connection cannot be made from the settings.
#[derive(Debug, thiserror::Error)]
pub enum BootstrapError {
    /// A setting that the client needs is not given.
    #[error(transparent)]
    Missing(#[from] MissingSetting),
    /// The retry delays are invalid.
    #[error("broker.retry_delays_seconds: {0}")]
    RetrySchedule(#[from] broker::RetryScheduleError),
    /// The certificates or the key for RabbitMQ cannot be used.
    #[error(transparent)]
    BrokerTls(#[from] broker::BrokerTlsError),
    /// The queues in RabbitMQ are not as the settings say.
    #[error(transparent)]
    Broker(#[from] broker::ConnectionError),
    /// The URL of Postgres is invalid.
    #[cfg(feature = "clients")]
    #[error("ledger.url: {0}")]
    Ledger(#[from] ledger::LedgerError),
    /// The HTTP client for HubSpot cannot be built.
    #[cfg(feature = "clients")]
    #[error("the HubSpot client: {0}")]
    HubSpot(#[from] reqwest::Error),
    /// The HTTP client for OpenAI cannot be built.
    #[cfg(feature = "clients")]
    #[error("the OpenAI client: {0}")]
    OpenAi(#[from] openai::OpenAiSetupError),
}
