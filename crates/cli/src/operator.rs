//! The connections of an operator's command.

use std::path::Path;

use anyhow::Context;
use bootstrap::CallHooks;
use broker::{Connection, Publisher};
use hubspot::HubSpotClient;
use ledger::Ledger;
use limits::{Lane, RateLimiters};
use settings::{ConfigScope, Settings};

/// How long a call waits for its share of the rate limit, in seconds.
const MAX_WAIT_SECONDS: u64 = 600;

/// Attempts of each call to HubSpot.
const ATTEMPTS: usize = 20;

/// The settings and connections of a command that works on the running fleet.
pub struct Operator {
    pub settings: Settings,
    pub ledger: Ledger,
    pub connection: Connection,
    pub publisher: Publisher,
}

impl Operator {
    /// Connects to RabbitMQ and prepares the connection to the ledger.
    ///
    /// # Errors
    ///
    /// When the settings are wrong or RabbitMQ does not answer at once: a command should fail rather than wait.
    pub async fn connect(file: Option<&Path>) -> anyhow::Result<Self> {
        let settings = Settings::load(file, ConfigScope::LedgerAndBroker)?;
        let ledger = ledger(&settings)?;
        ledger.verify_sessions().await?;
        let (connection, publisher) = broker(&settings).await?;
        Ok(Self { settings, ledger, connection, publisher })
    }
}

/// Connections to RabbitMQ.
///
/// # Errors
///
/// When RabbitMQ does not answer at once.
pub async fn broker(settings: &Settings) -> anyhow::Result<(Connection, Publisher)> {
    let broker = bootstrap::broker_settings(settings, "leadline")?;
    let connection = Connection::open(broker.clone()).await?;
    anyhow::ensure!(connection.is_ready(), "RabbitMQ (broker.url) cannot be reached or blocks publishers");
    Ok((connection, Publisher::open(broker).await?))
}

/// A client that uses the backfill share of the rate limit. The fleet makes calls at the same time, so it waits for its
/// share longer than a service does, and tries more often.
pub fn patient_hubspot(settings: &Settings, ledger: &Ledger) -> anyhow::Result<HubSpotClient> {
    let mut settings = settings.clone();
    settings.hubspot.attempts = ATTEMPTS;
    settings.rate_limit.max_wait_seconds = MAX_WAIT_SECONDS;
    let rate_limiters = RateLimiters::new(&settings, ledger)?;
    let hooks = CallHooks { rate_limiter: Some(rate_limiters.hubspot(Lane::Backfill)), ..CallHooks::default() };
    Ok(bootstrap::hubspot_client(&settings, hooks)?)
}

/// The ledger of these settings.
pub fn ledger(settings: &Settings) -> anyhow::Result<Ledger> {
    Ok(bootstrap::connect_ledger(settings, "leadline")?)
}

/// The ledger, for a command that needs nothing else.
pub fn ledger_only(file: Option<&Path>) -> anyhow::Result<Ledger> {
    ledger(&Settings::load(file, ConfigScope::LedgerOnly).context("settings")?)
}
