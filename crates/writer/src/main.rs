//! `leadline-writer`: applies write commands to HubSpot, and remembers what was there before.

mod actions;
mod apply;
mod deals;
mod notify;
mod plan;
mod policy;
mod way;

use std::{process::ExitCode, sync::Arc};

use broker::Stage;
use clap::Parser;
use runtime::{config::Reader, service};

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
        let concurrency = settings.writer.concurrency;
        let (link, publisher) = connect::stage(&settings, "writer", concurrency).await?;
        let ledger = connect::ledger(&settings, "leadline-writer")?;
        let readiness = connect::readiness_with_ledger(&publisher, &ledger);
        let way = Arc::new(way::Way::new(&settings, ledger)?);
        let consumer = connect::consumer(&settings, Stage::Writes, concurrency);
        let work = async move {
            broker::consume(link, publisher, consumer, way, stop).await;
            Ok(())
        };
        Ok(service::Wired { readiness, work })
    })
    .await;
    service::exit("leadline-writer", result)
}
