//! `leadline-writer`: applies write commands to HubSpot, and remembers what was there before.

mod actions;
mod apply;
mod creations;
mod deals;
mod failure;
mod notify;
mod plan;
mod policy;
mod verify;
mod way;

use std::{process::ExitCode, sync::Arc};

use allocator as _;
use broker::Stage;
use clap::Parser;
use ledger::Worker;
use runtime::{config::Reader, service};
use upkeep::{Circuits, Reconciler};

#[derive(Parser)]
#[command(name = "leadline-writer", version, about = "Applies write commands to HubSpot")]
struct Arguments {
    #[command(flatten)]
    options: service::Options,
}

#[tokio::main]
async fn main() -> ExitCode {
    let Arguments { options } = Arguments::parse();
    let result = service::run("leadline-writer", Reader::Writer, options, |settings, stop| async move {
        let (link, publisher) = connect::stage(&settings, "writer").await?;
        let ledger = connect::ledger(&settings, "leadline-writer")?;
        let circuits = Circuits::new(&settings.circuit, &[way::HUBSPOT]);
        let readiness = circuits.ready(connect::readiness_with_ledger(&publisher, &ledger));
        let way = Arc::new(way::Way::new(&settings, ledger.clone(), circuits.clone())?);
        let worker = Worker::named("writer");
        circuits.watch(ledger.clone(), worker.clone(), way.probes());
        verify::keep(&settings, way.hubspot().clone(), ledger.clone(), circuits.clone(), &worker, &stop)?;
        let reconciler = Reconciler::new(ledger.clone(), publisher.clone(), settings.reconcile.clone());
        upkeep::housekeep(&settings, ledger, reconciler, worker, &stop);
        let consumer = connect::consumer(&settings, Stage::Writes, settings.writer.concurrency);
        let work = async move {
            broker::consume(link, publisher, consumer, way, circuits.flow(), stop).await;
            Ok(())
        };
        Ok(service::Wired { readiness, work })
    })
    .await;
    service::exit("leadline-writer", result)
}
