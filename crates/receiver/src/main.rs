//! `leadline-receiver`: accepts HubSpot's webhooks and publishes each event to RabbitMQ.

use std::process::ExitCode;

use settings::ConfigScope;

#[global_allocator]
static ALLOCATOR: service::Jemalloc = service::Jemalloc;

#[tokio::main]
async fn main() -> ExitCode {
    const ABOUT: &str = "Accepts HubSpot's webhooks and publishes each event to RabbitMQ";
    service::main("leadline-receiver", ABOUT, ConfigScope::Receiver, receiver::start).await
}
