//! `leadline-receiver`: takes HubSpot's webhooks in and puts each event on the queue. Knows RabbitMQ and nothing
//! else: no Postgres, no HubSpot call, no OpenAI.

mod server;
mod way;

use std::{process::ExitCode, sync::Arc};

use allocator as _;
use clap::Parser;
use runtime::{config::Reader, service};

#[derive(Parser)]
#[command(name = "leadline-receiver", version, about = "Takes HubSpot's webhooks in and puts each event on the queue")]
struct Arguments {
    #[command(flatten)]
    options: service::Options,
}

#[tokio::main]
async fn main() -> ExitCode {
    let Arguments { options } = Arguments::parse();
    let result = service::run("leadline-receiver", Reader::Receiver, options, |settings, stop| async move {
        let broker = connect::broker(&settings, "receiver")?;
        let publisher = broker::Publisher::open(broker).await.map_err(|error| error.to_string())?;
        let readiness = connect::readiness(&publisher);
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
