//! `leadline-inference`: reads the context of an event, asks the model, and publishes write commands.

use std::process::ExitCode;

use settings::ConfigScope;

#[global_allocator]
static ALLOCATOR: service::Jemalloc = service::Jemalloc;

#[tokio::main]
async fn main() -> ExitCode {
    const ABOUT: &str = "Reads the context of an event and asks the model about it";
    service::main("leadline-inference", ABOUT, ConfigScope::Inference, inference::start).await
}
