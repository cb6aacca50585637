//! `leadline-inference`: reads the context of an event, asks the model, and asks for the write.

mod batched_ledger;
mod handler;
mod loop_guard;
mod outages;

use std::{process::ExitCode, sync::Arc};

use broker::Stage;
use clap::Parser;
use domain::Dependency;
use futures_util::future::OptionFuture;
use ledger::Worker;
use maintenance::{CircuitBreakers, Reconciler};
use settings::ConfigScope;

#[derive(Parser)]
#[command(name = "leadline-inference", version, about = "Reads the context of an event and asks the model about it")]
struct Arguments {
    #[command(flatten)]
    options: service::ServiceOptions,
}

#[global_allocator]
static ALLOCATOR: service::Jemalloc = service::Jemalloc;

#[tokio::main]
async fn main() -> ExitCode {
    let Arguments { options } = Arguments::parse();
    let result = service::run("leadline-inference", ConfigScope::Inference, options, |settings, stop| async move {
        let playbooks = playbook::load(&settings.inference.playbooks, &settings.inference.protected_properties)?;
        for playbook in &playbooks {
            tracing::info!(name = playbook.name, version = playbook.version, "playbook");
        }
        let (link, publisher) = bootstrap::connect_broker(&settings, "inference").await?;
        let ledger = bootstrap::connect_ledger(&settings, "leadline-inference")?;
        let circuit_breakers =
            CircuitBreakers::new(&settings.circuit_breaker, &[Dependency::HubSpot, Dependency::OpenAi]);
        let readiness =
            circuit_breakers.add_readiness_checks(bootstrap::broker_and_ledger_readiness(&publisher, &ledger));
        let handler =
            handler::EventHandler::new(&settings, playbooks, &ledger, publisher.clone(), circuit_breakers.clone())?;
        let worker = Worker::named("inference");
        circuit_breakers.start_sync(ledger.clone(), worker.clone(), handler.probes());
        let reconciler = Reconciler::new(ledger.clone(), publisher.clone(), settings.reconcile.clone());
        maintenance::run_maintenance(&settings, ledger, reconciler, worker, &stop);

        let consume = |link, stage, concurrency, handler| {
            let consumer = bootstrap::consumer_settings(&settings, stage, concurrency);
            broker::consume(
                link,
                publisher.clone(),
                consumer,
                Arc::new(handler),
                circuit_breakers.consume_mode(),
                stop.clone(),
            )
        };
        let live = consume(link, Stage::Events, settings.inference.concurrency, handler.clone());
        let backfill = match settings.inference.backfill_concurrency {
            0 => None,
            concurrency => {
                let link = bootstrap::connect_consumer(&settings, "backfill").await?;
                Some(consume(link, Stage::Backfill, concurrency, handler.for_backfill()))
            }
        };
        let work = async move {
            tokio::join!(live, OptionFuture::from(backfill));
            Ok(())
        };
        Ok(service::Wired { readiness, work })
    })
    .await;
    service::exit("leadline-inference", result)
}
