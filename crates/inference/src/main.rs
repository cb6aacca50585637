//! `leadline-inference`: reads the context of an event, asks the model, and asks for the write.

mod desk;
mod loop_guard;
mod way;

use std::{process::ExitCode, sync::Arc};

use broker::Stage;
use clap::Parser;
use runtime::{config::Reader, service};

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
        let concurrency = settings.inference.concurrency;
        let (link, publisher) = connect::stage(&settings, "inference", concurrency).await?;
        let ledger = connect::ledger(&settings, "leadline-inference")?;
        let readiness = connect::readiness_with_ledger(&publisher, &ledger);
        let way = Arc::new(way::Way::new(&settings, playbooks, &ledger, publisher.clone())?);
        let consumer = connect::consumer(&settings, Stage::Events, concurrency);
        let work = async move {
            broker::consume(link, publisher, consumer, way, stop).await;
            Ok(())
        };
        Ok(service::Wired { readiness, work })
    })
    .await;
    service::exit("leadline-inference", result)
}
