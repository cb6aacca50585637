//! `leadline-receiver`: takes HubSpot's webhooks in and puts each event on the queue. Knows RabbitMQ and nothing
//! else: no Postgres, no HubSpot call, no OpenAI.

mod handler;
mod server;

use std::{process::ExitCode, sync::Arc};

use clap::Parser;
use settings::ConfigScope;

#[derive(Parser)]
#[command(name = "leadline-receiver", version, about = "Takes HubSpot's webhooks in and puts each event on the queue")]
struct Arguments {
    #[command(flatten)]
    options: service::ServiceOptions,
}

#[global_allocator]
static ALLOCATOR: service::Jemalloc = service::Jemalloc;

#[tokio::main]
async fn main() -> ExitCode {
    let Arguments { options } = Arguments::parse();
    let result = service::run("leadline-receiver", ConfigScope::Receiver, options, |settings, stop| async move {
        let broker = bootstrap::broker_settings(&settings, "receiver")?;
        let publisher = broker::Publisher::open(broker).await?;
        let readiness = bootstrap::broker_readiness(&publisher);
        let listen = settings.receiver.listen.clone();
        let limits = server::Limits::of(&settings.receiver);
        let handler = Arc::new(handler::WebhookHandler::new(&settings, publisher)?);
        let listener = server::bind(&listen).await.map_err(|error| format!("receiver.listen {listen}: {error}"))?;
        let work = async move {
            server::serve(listener, handler::router(handler), limits, stop).await;
            Ok(())
        };
        Ok(service::Wired { readiness, work })
    })
    .await;
    service::exit("leadline-receiver", result)
}
