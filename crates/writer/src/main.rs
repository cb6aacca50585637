//! `leadline-writer`: applies write commands to HubSpot, and remembers what was there before.

mod actions;
mod apply;
mod batch_creator;
mod deals;
mod failure;
mod handler;
mod notify;
mod plan;
mod policy;
mod verify;

use std::{process::ExitCode, sync::Arc};

use broker::Stage;
use clap::Parser;
use domain::Dependency;
use ledger::Worker;
use maintenance::{CircuitBreakers, Reconciler};
use settings::ConfigScope;

#[derive(Parser)]
#[command(name = "leadline-writer", version, about = "Applies write commands to HubSpot")]
struct Arguments {
    #[command(flatten)]
    options: service::ServiceOptions,
}

#[global_allocator]
static ALLOCATOR: service::Jemalloc = service::Jemalloc;

#[tokio::main]
async fn main() -> ExitCode {
    let Arguments { options } = Arguments::parse();
    let result = service::run("leadline-writer", ConfigScope::Writer, options, |settings, stop| async move {
        let (link, publisher) = bootstrap::connect_broker(&settings, "writer").await?;
        let ledger = bootstrap::connect_ledger(&settings, "leadline-writer")?;
        let circuit_breakers = CircuitBreakers::new(&settings.circuit_breaker, &[Dependency::HubSpot]);
        let readiness =
            circuit_breakers.add_readiness_checks(bootstrap::broker_and_ledger_readiness(&publisher, &ledger));
        let handler = Arc::new(handler::WriteHandler::new(&settings, ledger.clone(), circuit_breakers.clone())?);
        let worker = Worker::named("writer");
        circuit_breakers.start_sync(ledger.clone(), worker.clone(), handler.probes());
        verify::keep(&settings, handler.hubspot().clone(), ledger.clone(), circuit_breakers.clone(), &worker, &stop)?;
        let reconciler = Reconciler::new(ledger.clone(), publisher.clone(), settings.reconcile.clone());
        maintenance::run_maintenance(&settings, ledger, reconciler, worker, &stop);
        let consumer = bootstrap::consumer_settings(&settings, Stage::Writes, settings.writer.concurrency);
        let work = async move {
            broker::consume(link, publisher, consumer, handler, circuit_breakers.consume_mode(), stop).await;
            Ok(())
        };
        Ok(service::Wired { readiness, work })
    })
    .await;
    service::exit("leadline-writer", result)
}
