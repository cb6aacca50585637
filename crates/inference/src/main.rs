//! `leadline-inference`: reads the context of an event, asks the model, and publishes write commands.

use std::process::ExitCode;

use clap::Parser;
use settings::ConfigScope;

#[derive(Parser)]
#[command(name = "leadline-inference", version, about = "Reads the context of an event and asks the model about it")]
struct Arguments {
    #[command(flatten)]
    options: service::ServiceOptions,
}

#[global_allocator]
static ALLOCATOR: service::Jemalloc = service::Jemalloc;

#[tokio::main]
async fn main() -> ExitCode {
    let Arguments { options } = Arguments::parse();
    let result = service::run("leadline-inference", ConfigScope::Inference, options, inference::start).await;
    service::exit("leadline-inference", result)
}
