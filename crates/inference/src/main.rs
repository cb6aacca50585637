//! `leadline-inference`: reads the context of an event, asks the model, and publishes write commands.

use std::{process::ExitCode, sync::Arc};

use broker::Stage;
use futures_util::future::OptionFuture;
use inference::wiring::{self, Wiring};
use ledger::Worker;
use maintenance::{CircuitBreakers, Reconciler};
use settings::ConfigScope;

#[global_allocator]
static ALLOCATOR: service::Jemalloc = service::Jemalloc;

#[tokio::main]
async fn main() -> ExitCode {
    const ABOUT: &str = "Reads the context of an event and asks the model about it";
    service::main("leadline-inference", ABOUT, ConfigScope::Inference, |settings, stop| async move {
        // Before anything connects, so that a wrong playbook is reported even when RabbitMQ is away.
        let playbooks = wiring::load_playbooks(&settings)?;
        let (connection, publisher) = bootstrap::connect_broker(&settings, "inference").await?;
        let ledger = bootstrap::connect_ledger(&settings, "leadline-inference")?;
        let circuit_breakers = CircuitBreakers::new(&settings.circuit_breaker, &wiring::DEPENDENCIES);
        let readiness =
            circuit_breakers.add_readiness_checks(bootstrap::broker_and_ledger_readiness(&publisher, &ledger));
        let worker = Worker::named("inference");
        let Wiring { live, backfill, probes } =
            wiring::wire(&settings, playbooks, &ledger, worker.clone(), publisher.clone(), circuit_breakers.clone())?;
        circuit_breakers.start_sync(ledger.clone(), worker.clone(), probes);
        let reconciler = Reconciler::new(ledger.clone(), publisher.clone(), settings.reconcile.clone());
        maintenance::run_maintenance(&settings, ledger, reconciler, worker, &stop);

        let consume = |connection, stage, concurrency, handler| {
            let consumer = bootstrap::consumer_settings(&settings, stage, concurrency);
            let mode = circuit_breakers.consume_mode();
            broker::consume(connection, publisher.clone(), consumer, Arc::new(handler), mode, stop.clone())
        };
        let live = consume(connection, Stage::Events, settings.inference.concurrency, live);
        let backfill = match backfill {
            None => None,
            Some(handler) => {
                let connection = bootstrap::connect_consumer(&settings, "backfill").await?;
                Some(consume(connection, Stage::Backfill, settings.inference.backfill_concurrency, handler))
            }
        };
        let work = async move {
            tokio::join!(live, OptionFuture::from(backfill));
            Ok(())
        };
        Ok(service::Wired { readiness, work })
    })
    .await
}
