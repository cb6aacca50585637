//! `leadline-receiver`: accepts HubSpot's webhooks and publishes each event to RabbitMQ.

use std::{process::ExitCode, sync::Arc};

use receiver::{handler, server, wiring};
use settings::ConfigScope;

#[global_allocator]
static ALLOCATOR: service::Jemalloc = service::Jemalloc;

#[tokio::main]
async fn main() -> ExitCode {
    const ABOUT: &str = "Accepts HubSpot's webhooks and publishes each event to RabbitMQ";
    service::main("leadline-receiver", ABOUT, ConfigScope::Receiver, |settings, stop| async move {
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
    .await
}
