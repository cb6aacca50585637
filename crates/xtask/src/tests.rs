//! `cargo xtask test`: brings the services up, builds, and runs every test.

use anyhow::{Result, bail};
use tokio::process::Command;
use xtask::{Services, services, step, workspace};

use crate::chaos;

pub async fn run(arguments: &[String]) -> Result<()> {
    eprintln!("set-up");
    build(&[]).await?;
    let services = Services::up().await?;
    eprintln!("tests");
    let status = cargo()
        .args(["test", "--workspace"])
        .args(arguments)
        .env(services::AMQP_URL, &services.amqp_url)
        .env(services::MANAGEMENT_URL, &services.management_url)
        .env(services::POSTGRES_URL, &services.postgres_url)
        .status()
        .await?;
    if !status.success() {
        bail!("some tests failed");
    }
    if arguments.is_empty() {
        drop(services);
        eprintln!("chaos");
        chaos::run(&chaos::Options::for_tests()).await?;
    }
    Ok(())
}

/// Builds every binary, so that whole-fleet tests start what is in the tree; with `more` arguments for cargo.
pub async fn build(more: &[&str]) -> Result<()> {
    services::build_tools().await?;
    step("building the services", async {
        let status = cargo().args(["build", "--quiet", "--workspace"]).args(more).status().await?;
        if status.success() { Ok(()) } else { bail!("the workspace does not build") }
    })
    .await
}

/// The same cargo that runs us. It ends with us.
pub fn cargo() -> Command {
    let mut command = Command::new(std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned()));
    command.current_dir(workspace::root()).kill_on_drop(true);
    // `cargo run` tells us about the package xtask. Passed on, it would make build scripts that look at such variables
    // (ring's) run again, and everything above them compile again.
    for (name, _) in
        std::env::vars().filter(|(name, _)| name.starts_with("CARGO_MANIFEST_") || name.starts_with("CARGO_PKG_"))
    {
        command.env_remove(name);
    }
    command
}
