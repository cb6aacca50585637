//! `leadline-writer`: applies write commands to HubSpot, and remembers what was there before.

mod apply;
mod plan;
mod way;

use std::{path::PathBuf, process::ExitCode, sync::Arc};

use broker::{Link, Publisher, Stage};
use clap::Parser;
use runtime::{admin::Readiness, config::Reader, service};

#[derive(Parser)]
#[command(name = "leadline-writer", version, about = "Applies write commands to HubSpot")]
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
    let result = service::run("leadline-writer", Reader::Writer, options, |settings, stop| async move {
        let concurrency = settings.writer.concurrency;
        let prefetch = u16::try_from(concurrency).unwrap_or(u16::MAX);
        let link = Link::open(connect::broker(&settings, "writer consumer")?, prefetch)
            .await
            .map_err(|error| error.to_string())?;
        let publisher = Publisher::open(connect::broker(&settings, "writer publisher")?)
            .await
            .map_err(|error| error.to_string())?;
        let ledger = connect::ledger(&settings, "leadline-writer")?;
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
