//! Builds the writer's parts from the settings.

use std::time::Duration;

use batcher::BatcherSettings;
use bootstrap::BootstrapError;
use domain::{AppId, Dependency, PortalId};
use hubspot::{HubSpotClient, client::Operation};
use ledger::{Ledger, Worker};
use limits::{Lane, RateLimiters, TaskHealth};
use maintenance::{CircuitBreakers, Probe, hubspot_probe};
use retry::CallHooks;
use settings::{MissingSetting, Settings};

use crate::{
    actions::ActionExecutor,
    batch::{BatchExecutor, BatchNames},
    current_values::NullValues,
    deals::Pipelines,
    handler::WriteHandler,
    notify::Channels,
    outcome::FailurePolicy,
    policy::WriteRules,
    refused::RefusedProperties,
    verify::Verifier,
};

/// The longest interval between two passes of the verifier, in seconds.
const MAX_VERIFY_INTERVAL: u64 = 30;

/// Why the writer cannot be built.
#[derive(Debug, thiserror::Error)]
pub enum WriterWiringError {
    /// A setting that the writer needs is missing.
    #[error(transparent)]
    MissingSetting(#[from] MissingSetting),
    /// The HubSpot client cannot be built, or the retry delays are invalid.
    #[error(transparent)]
    Bootstrap(#[from] BootstrapError),
    /// The HTTP client of the notification channels cannot be built.
    #[error("the HTTP client for the notification channels: {0}")]
    Channels(#[from] reqwest::Error),
}

/// The parts of the writer.
pub struct Writer {
    /// Handles messages with write commands.
    pub handler: WriteHandler,
    /// Verifies records whose lease was lost.
    pub verifier: Verifier,
    /// How often the verifier makes a pass.
    pub verify_interval: Duration,
    /// Tests whether an outage of HubSpot is over.
    pub probes: Vec<(Dependency, Probe)>,
    /// What calls HubSpot.
    pub hubspot: HubSpotClient,
    /// Whether the tasks behind the limits work.
    pub quota_health: TaskHealth,
}

/// Builds the writer. Everything that it leases is leased to `worker` or a name derived from it.
///
/// # Errors
///
/// When a setting is missing or a client cannot be built.
pub fn wire(
    settings: &Settings,
    ledger: &Ledger,
    circuit_breakers: &CircuitBreakers,
    worker: &Worker,
) -> Result<Writer, WriterWiringError> {
    let portal_id = settings.hubspot.portal_id.ok_or(MissingSetting("hubspot.portal_id"))?;
    let app_id = settings.hubspot.app_id.ok_or(MissingSetting("hubspot.app_id"))?;
    let rules = WriteRules {
        portal_id: PortalId(portal_id),
        app_id: AppId(app_id),
        protected_properties: settings.inference.protected_properties.iter().cloned().collect(),
        proposals_expire_after: Duration::from_secs(settings.review.expire_hours * 3_600),
    };
    let lease = Duration::from_secs(settings.writer.lease_seconds);
    let rate_limiters = RateLimiters::new(settings, ledger)?;
    let hubspot = hubspot_client(settings, &rate_limiters, circuit_breakers)?;
    let executor = BatchExecutor {
        ledger: ledger.clone(),
        hubspot: hubspot.clone(),
        actions: action_executor(settings, ledger, &hubspot)?,
        failures: FailurePolicy::new(circuit_breakers.clone(), bootstrap::retry_schedule(settings)?),
        refused_properties: RefusedProperties::new(Duration::from_secs(settings.writer.refused_properties_seconds)),
        null_values: NullValues::default(),
        rules: rules.clone(),
        lease,
        names: BatchNames::of(worker.clone()),
    };
    let batching = BatcherSettings {
        name: "write",
        max: settings.writer.batch_max,
        linger: Duration::from_millis(settings.writer.batch_linger_ms),
        extra_linger: Some(hubspot.extra_linger(Operation::BatchUpdateObjects)),
        max_in_flight: settings.writer.parallel_batches,
        // Batches that all end after their leases would be made again and again.
        long: Some(lease / 2),
    };
    Ok(Writer {
        handler: WriteHandler::new(circuit_breakers.clone(), executor, batching),
        verifier: Verifier::new(hubspot.clone(), ledger.clone(), worker, lease, rules),
        verify_interval: Duration::from_secs(settings.reconcile.interval_seconds.min(MAX_VERIFY_INTERVAL)),
        probes: vec![(Dependency::HubSpot, hubspot_probe(&hubspot))],
        hubspot,
        quota_health: rate_limiters.health().clone(),
    })
}

/// A client whose calls the circuit breakers observe. It uses the live share of the rate limit: what was decided is paid
/// for, so writes go before the reads of a backfill.
fn hubspot_client(
    settings: &Settings,
    rate_limiters: &RateLimiters,
    circuit_breakers: &CircuitBreakers,
) -> Result<HubSpotClient, WriterWiringError> {
    let rate_limiter = rate_limiters.hubspot(Lane::Live);
    let hooks =
        CallHooks { observer: circuit_breakers.observer(Dependency::HubSpot), rate_limiter: Some(rate_limiter) };
    Ok(bootstrap::hubspot_client(settings, hooks)?)
}

fn action_executor(
    settings: &Settings,
    ledger: &Ledger,
    hubspot: &HubSpotClient,
) -> Result<ActionExecutor, WriterWiringError> {
    let pipelines = Pipelines::new(Duration::from_secs(settings.writer.pipeline_cache_ttl_seconds));
    let timeout = Duration::from_secs(settings.writer.notify_timeout_seconds);
    let channels = Channels::new(settings.notify.clone(), timeout)?;
    Ok(ActionExecutor::new(ledger.clone(), hubspot.clone(), pipelines, channels))
}
