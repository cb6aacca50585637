//! `leadline-inference`: reads the context of an event, asks the model, and asks for the write.

mod batched_ledger;
mod handler;
mod loop_guard;
mod outages;

use std::{process::ExitCode, sync::Arc};

use broker::Stage;
use clap::Parser;
use futures_util::future::OptionFuture;
use ledger::Worker;
use maintenance::{CircuitBreakers, Reconciler};
use settings::ConfigScope;

#[derive(Parser)]
#[command(name = "leadline-inference", version, about = "Reads the context of an event and asks the model about it")]
struct Arguments {
    #[command(flatten)]
    options: service::Options,
}

#[tokio::main]
async fn main() -> ExitCode {
    let Arguments { options } = Arguments::parse();
    let result = service::run("leadline-inference", ConfigScope::Inference, options, |settings, stop| async move {
        let playbooks = playbook::load(&settings.inference.playbooks, &settings.inference.protected_properties)
            .map_err(|error| error.to_string())?;
        for playbook in &playbooks {
            tracing::info!(name = playbook.name, version = playbook.version, "playbook");
        }
        let (link, publisher) = bootstrap::stage(&settings, "inference").await?;
        let ledger = bootstrap::ledger(&settings, "leadline-inference")?;
        let circuit_breakers = CircuitBreakers::new(&settings.circuit_breaker, &[outages::HUBSPOT, outages::OPENAI]);
        let readiness = circuit_breakers.ready(bootstrap::readiness_with_ledger(&publisher, &ledger));
        let handler =
            handler::EventHandler::new(&settings, playbooks, &ledger, publisher.clone(), circuit_breakers.clone())?;
        let worker = Worker::named("inference");
        circuit_breakers.watch(ledger.clone(), worker.clone(), handler.probes());
        let reconciler = Reconciler::new(ledger.clone(), publisher.clone(), settings.reconcile.clone());
        maintenance::run_maintenance(&settings, ledger, reconciler, worker, &stop);

        let consume = |link, stage, concurrency, handler| {
            let consumer = bootstrap::consumer(&settings, stage, concurrency);
            broker::consume(link, publisher.clone(), consumer, Arc::new(handler), circuit_breakers.flow(), stop.clone())
        };
        let live = consume(link, Stage::Events, settings.inference.concurrency, handler.clone());
        let backfill = match settings.inference.backfill_concurrency {
            0 => None,
            concurrency => {
                let link = bootstrap::connection(&settings, "backfill").await?;
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
