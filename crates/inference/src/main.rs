//! `leadline-inference`: reads the context of an event, asks the model, and asks for the write.

mod desk;
mod loop_guard;
mod outages;
mod way;

use std::{process::ExitCode, sync::Arc};

use allocator as _;
use broker::Stage;
use clap::Parser;
use futures_util::future::OptionFuture;
use ledger::Worker;
use runtime::{config::Reader, service};
use upkeep::{Circuits, Reconciler};

#[derive(Parser)]
#[command(name = "leadline-inference", version, about = "Reads the context of an event and asks the model about it")]
struct Arguments {
    #[command(flatten)]
    options: service::Options,
}

#[tokio::main]
async fn main() -> ExitCode {
    let Arguments { options } = Arguments::parse();
    let result = service::run("leadline-inference", Reader::Inference, options, |settings, stop| async move {
        let playbooks = runtime::playbooks::load(&settings.inference).map_err(|error| error.to_string())?;
        for playbook in &playbooks {
            tracing::info!(name = playbook.name, version = playbook.version, "playbook");
        }
        let (link, publisher) = connect::stage(&settings, "inference").await?;
        let ledger = connect::ledger(&settings, "leadline-inference")?;
        let circuits = Circuits::new(&settings.circuit, &[outages::HUBSPOT, outages::OPENAI]);
        let readiness = circuits.ready(connect::readiness_with_ledger(&publisher, &ledger));
        let way = way::Way::new(&settings, playbooks, &ledger, publisher.clone(), circuits.clone())?;
        let worker = Worker::named("inference");
        circuits.watch(ledger.clone(), worker.clone(), way.probes());
        let reconciler = Reconciler::new(ledger.clone(), publisher.clone(), settings.reconcile.clone());
        upkeep::housekeep(&settings, ledger, reconciler, worker, &stop);

        let consume = |link, stage, concurrency, way| {
            let consumer = connect::consumer(&settings, stage, concurrency);
            broker::consume(link, publisher.clone(), consumer, Arc::new(way), circuits.flow(), stop.clone())
        };
        let live = consume(link, Stage::Events, settings.inference.concurrency, way.clone());
        let backfill = match settings.inference.backfill_concurrency {
            0 => None,
            concurrency => {
                let link = connect::link(&settings, "backfill").await?;
                Some(consume(link, Stage::Backfill, concurrency, way.for_backfill()))
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
