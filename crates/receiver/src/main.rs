//! `leadline-receiver`: accepts HubSpot's webhooks and publishes each event to RabbitMQ.

use std::process::ExitCode;

use clap::Parser;
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
    let result = service::run("leadline-receiver", ConfigScope::Receiver, options, receiver::start).await;
    service::exit("leadline-receiver", result)
}
