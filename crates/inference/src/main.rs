//! `leadline-inference`: reads the context of an event, asks the model, and publishes write commands.

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: service::Jemalloc = service::Jemalloc;

#[tokio::main]
async fn main() -> ExitCode {
    inference::main().await
}
