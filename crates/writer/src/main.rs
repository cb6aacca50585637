//! `leadline-writer`: applies write commands to HubSpot and records the values before and after.

use std::{process::ExitCode, sync::Arc};

use broker::Stage;
use domain::Dependency;
use ledger::Worker;
use maintenance::{CircuitBreakers, Reconciler};
use settings::ConfigScope;
use writer::wiring::{self, Writer};

#[global_allocator]
static ALLOCATOR: service::Jemalloc = service::Jemalloc;

#[tokio::main]
async fn main() -> ExitCode {
    const ABOUT: &str = "Applies write commands to HubSpot";
    service::main("leadline-writer", ABOUT, ConfigScope::Writer, |settings, stop| async move {
        let (connection, publisher) = bootstrap::connect_broker(&settings, "writer").await?;
        let ledger = bootstrap::connect_ledger(&settings, "leadline-writer")?;
        let circuit_breakers = CircuitBreakers::new(&settings.circuit_breaker, &[Dependency::HubSpot]);
        let readiness =
            circuit_breakers.add_readiness_checks(bootstrap::broker_and_ledger_readiness(&publisher, &ledger));
        let worker = Worker::named("writer");
        let Writer { handler, verifier, verify_interval, probes } =
            wiring::wire(&settings, &ledger, &circuit_breakers, &worker)?;
        circuit_breakers.start_sync(ledger.clone(), worker.clone(), probes);
        verifier.start(verify_interval, circuit_breakers.clone(), &stop);
        let reconciler = Reconciler::new(ledger.clone(), publisher.clone(), settings.reconcile.clone());
        maintenance::run_maintenance(&settings, ledger, reconciler, worker, &stop);
        let consumer = bootstrap::consumer_settings(&settings, Stage::Writes, settings.writer.concurrency);
        let mode = circuit_breakers.consume_mode();
        let work = async move {
            broker::consume(connection, publisher, consumer, Arc::new(handler), mode, stop).await;
            Ok(())
        };
        Ok(service::Wired { readiness, work })
    })
    .await
}
