//! `leadline-writer`: applies write commands to HubSpot and records the values before and after.

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: service::Jemalloc = service::Jemalloc;

#[tokio::main]
async fn main() -> ExitCode {
    writer::main().await
}
