//! `leadline-receiver`: takes HubSpot's webhooks in and puts each event on the queue. Knows RabbitMQ and nothing
//! else: no Postgres, no HubSpot call, no OpenAI.

mod server;
mod way;

use std::{path::PathBuf, process::ExitCode, sync::Arc};

use clap::Parser;
use runtime::{admin::Readiness, config::Reader, service};

#[derive(Parser)]
#[command(name = "leadline-receiver", version, about = "Takes HubSpot's webhooks in and puts each event on the queue")]
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
    let result = service::run("leadline-receiver", Reader::Receiver, options, |settings, stop| async move {
        let broker = connect::broker(&settings, "receiver")?;
        let publisher = broker::Publisher::open(broker).await.map_err(|error| error.to_string())?;
        let ready = publisher.clone();
        let readiness = Readiness::default().with("broker", move || {
            let is_ready = ready.is_ready();
            async move { is_ready.then_some(()).ok_or_else(|| "away, or blocks publishers".to_owned()) }
        });
        let listen = settings.receiver.listen.clone();
        let limits = server::Limits::of(&settings.receiver);
        let way = Arc::new(way::Way::new(&settings, publisher)?);
        let listener = server::bind(&listen).await.map_err(|error| format!("receiver.listen {listen}: {error}"))?;
        let work = async move {
            server::serve(listener, way::router(way), limits, stop).await;
            Ok(())
        };
        Ok(service::Wired { readiness, work })
    })
    .await;
    service::exit("leadline-receiver", result)
}
