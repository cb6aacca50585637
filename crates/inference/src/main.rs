//! `leadline-inference`: reads the context of an event, asks the model, and asks for the write.

mod context;
mod desk;
mod failure;
mod question;
mod way;

use std::{path::PathBuf, process::ExitCode, sync::Arc};

use broker::{Link, Publisher, Stage};
use clap::Parser;
use runtime::{admin::Readiness, config::Reader, service};

#[derive(Parser)]
#[command(name = "leadline-inference", version, about = "Reads the context of an event and asks the model about it")]
struct Arguments {
    /// The settings file.
    #[arg(long, env = "LEADLINE_CONFIG")]
    config: Option<PathBuf>,
    /// Only say whether the settings are right.
    #[arg(long)]
    check_config: bool,
}

#[tokio::main]
async fn main() -> ExitCode {
    let Arguments { config, check_config } = Arguments::parse();
    let options = service::Options { config, check_config };
    let result = service::run("leadline-inference", Reader::Inference, options, |settings, stop| async move {
        let playbooks = runtime::playbooks::load(&settings.inference.playbooks).map_err(|error| error.to_string())?;
        for playbook in &playbooks {
            tracing::info!(name = playbook.name, version = playbook.version, "playbook");
        }
        let concurrency = settings.inference.concurrency;
        let prefetch = u16::try_from(concurrency).unwrap_or(u16::MAX);
        let link = Link::open(connect::broker(&settings, "inference consumer")?, prefetch)
            .await
            .map_err(|error| error.to_string())?;
        let publisher = Publisher::open(connect::broker(&settings, "inference publisher")?)
            .await
            .map_err(|error| error.to_string())?;
        let ledger = connect::ledger(&settings, "leadline-inference")?;
        let (ready, asked) = (publisher.clone(), ledger.clone());
        let readiness = Readiness::default()
            .with("broker", move || {
                let is_ready = ready.is_ready();
                async move { is_ready.then_some(()).ok_or_else(|| "away, or blocks publishers".to_owned()) }
            })
            .with("ledger", move || {
                let ledger = asked.clone();
                async move { ledger.check().await.map_err(|error| error.to_string()) }
            });
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
