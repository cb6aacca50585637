//! Connects and wires the service, for its `main` and for tests that run it as a task.

use std::{process::ExitCode, sync::Arc};

use broker::Stage;
use domain::Dependency;
use ledger::Worker;
use maintenance::{CircuitBreakers, Reconciler};
use service::{ServiceFailure, Wired};
use settings::{ConfigScope, Settings};
use tokio_util::sync::CancellationToken;

use crate::{
    review,
    wiring::{self, Writer},
};

/// The `main` of `leadline-writer`, which the image's one program runs, too, when it is called by that name.
pub async fn main() -> ExitCode {
    service::main("leadline-writer", "Applies write commands to HubSpot", ConfigScope::Writer, start).await
}

/// Connects to RabbitMQ and the ledger and starts the service's background tasks. The returned work consumes write commands
/// until `stop` is cancelled and what is in progress has ended.
///
/// # Errors
/// A setting is wrong, RabbitMQ has queues with other arguments, or a pooler before Postgres works in another way.
pub async fn start(
    settings: Settings,
    stop: CancellationToken,
) -> Result<Wired<impl Future<Output = Result<(), ServiceFailure>> + Send + 'static>, ServiceFailure> {
    let (connection, publisher) = bootstrap::connect_broker(&settings, "writer").await?;
    let ledger = bootstrap::connect_ledger_verified(&settings, "leadline-writer").await?;
    let token = bootstrap::credential(&settings, Dependency::HubSpot)?;
    let circuit_breakers = CircuitBreakers::new(&settings.circuit_breaker, [token]);
    let readiness = circuit_breakers.add_readiness_checks(bootstrap::broker_and_ledger_readiness(&publisher, &ledger));
    let readiness = bootstrap::warn_of_ending_versions(readiness, &settings);
    let worker = Worker::named("writer");
    let Writer { handler, verifier, verify_interval, probes, hubspot, quota_health } =
        wiring::wire(&settings, &ledger, &circuit_breakers, &worker)?;
    let readiness = bootstrap::add_quota_readiness(readiness, move || quota_health.broken());
    circuit_breakers.start_sync(ledger.clone(), worker.clone(), probes, None);
    let credential = |settings: &Settings| bootstrap::credential(settings, Dependency::HubSpot);
    let clients = (ledger.clone(), hubspot);
    maintenance::reload_of_worker(&settings, ConfigScope::Writer, clients, circuit_breakers.clone(), credential)
        .start(&stop);
    verifier.start(verify_interval, circuit_breakers.clone(), &stop);
    let reconciler = Reconciler::new(ledger.clone(), publisher.clone(), settings.reconcile.clone());
    review::start(&settings, &ledger, &publisher, &worker, &stop).await?;
    maintenance::run_expiry(ledger.clone(), worker.clone(), &stop);
    maintenance::run_maintenance(&settings, ledger, reconciler, worker, &stop);
    let consumer = bootstrap::consumer_settings(&settings, Stage::Writes, settings.writer.concurrency);
    let mode = circuit_breakers.consume_mode();
    let work = async move {
        broker::consume(connection, publisher, consumer, Arc::new(handler), mode, stop).await;
        Ok(())
    };
    Ok(Wired { readiness, work })
}
