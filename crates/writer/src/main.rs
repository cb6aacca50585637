//! `leadline-writer`: applies write commands to HubSpot and records the values before and after.

use std::{process::ExitCode, sync::Arc};

use broker::Stage;
use clap::Parser;
use ledger::Worker;
use maintenance::{CircuitBreakers, Reconciler};
use settings::ConfigScope;
use writer::wiring::{self, HUBSPOT, Writer};

#[derive(Parser)]
#[command(name = "leadline-writer", version, about = "Applies write commands to HubSpot")]
struct Arguments {
    #[command(flatten)]
    options: service::Options,
}

#[tokio::main]
async fn main() -> ExitCode {
    let Arguments { options } = Arguments::parse();
    let result = service::run("leadline-writer", ConfigScope::Writer, options, |settings, stop| async move {
        let (connection, publisher) = bootstrap::stage(&settings, "writer").await?;
        let ledger = bootstrap::ledger(&settings, "leadline-writer")?;
        let circuit_breakers = CircuitBreakers::new(&settings.circuit_breaker, &[HUBSPOT]);
        let readiness = circuit_breakers.ready(bootstrap::readiness_with_ledger(&publisher, &ledger));
        let worker = Worker::named("writer");
        let Writer { handler, verifier, verify_interval, probes } =
            wiring::wire(&settings, &ledger, &circuit_breakers, &worker).map_err(|error| error.to_string())?;
        circuit_breakers.watch(ledger.clone(), worker.clone(), probes);
        verifier.start(verify_interval, circuit_breakers.clone(), &stop);
        let reconciler = Reconciler::new(ledger.clone(), publisher.clone(), settings.reconcile.clone());
        maintenance::run_maintenance(&settings, ledger, reconciler, worker, &stop);
        let consumer = bootstrap::consumer(&settings, Stage::Writes, settings.writer.concurrency);
        let flow = circuit_breakers.flow();
        let work = async move {
            broker::consume(connection, publisher, consumer, Arc::new(handler), flow, stop).await;
            Ok(())
        };
        Ok(service::Wired { readiness, work })
    })
    .await;
    service::exit("leadline-writer", result)
}
