//! `leadline-writer`: applies write commands to HubSpot and records the values before and after.

use std::process::ExitCode;

use settings::ConfigScope;

#[global_allocator]
static ALLOCATOR: service::Jemalloc = service::Jemalloc;

#[tokio::main]
async fn main() -> ExitCode {
    const ABOUT: &str = "Applies write commands to HubSpot";
    service::main("leadline-writer", ABOUT, ConfigScope::Writer, writer::start).await
}
