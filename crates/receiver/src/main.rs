//! `leadline-receiver`: accepts HubSpot's webhooks and publishes each event to RabbitMQ.

use std::{process::ExitCode, sync::Arc};

use clap::Parser;
use receiver::{handler, server, wiring};
use settings::ConfigScope;

#[derive(Parser)]
#[command(
    name = "leadline-receiver",
    version,
    about = "Accepts HubSpot's webhooks and publishes each event to RabbitMQ"
)]
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
        let handler = wiring::webhook_handler(&settings, publisher)?;
        let listen = &settings.receiver.listen;
        let listener = server::bind(listen).await.map_err(|error| format!("receiver.listen {listen}: {error}"))?;
        let limits = wiring::server_limits(&settings);
        let work = async move {
            server::serve(listener, handler::router(Arc::new(handler)), limits, stop).await;
            Ok(())
        };
        Ok(service::Wired { readiness, work })
    })
    .await;
    service::exit("leadline-receiver", result)
}
