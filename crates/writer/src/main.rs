//! `leadline-writer`: applies write commands to HubSpot and records the values before and after.

use std::process::ExitCode;

use clap::Parser;
use settings::ConfigScope;

#[derive(Parser)]
#[command(name = "leadline-writer", version, about = "Applies write commands to HubSpot")]
struct Arguments {
    #[command(flatten)]
    options: service::ServiceOptions,
}

#[global_allocator]
static ALLOCATOR: service::Jemalloc = service::Jemalloc;

#[tokio::main]
async fn main() -> ExitCode {
    let Arguments { options } = Arguments::parse();
    let result = service::run("leadline-writer", ConfigScope::Writer, options, writer::start).await;
    service::exit("leadline-writer", result)
}
