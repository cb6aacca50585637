//! Runs cargo.

use anyhow::{Result, bail};
use testbed::{step, workspace};
use tokio::process::Command;

/// The cargo that runs this program, in the workspace's root. It is killed when the command's future is dropped.
pub fn cargo() -> Result<Command> {
    let mut command = Command::new(std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned()));
    command.current_dir(workspace::root()?).kill_on_drop(true);
    // `cargo run` sets these variables for the package xtask. Passed on, they would make build scripts that depend on them
    // (ring's) run again, and everything above them compile again.
    for (name, _) in
        std::env::vars().filter(|(name, _)| name.starts_with("CARGO_MANIFEST_") || name.starts_with("CARGO_PKG_"))
    {
        command.env_remove(name);
    }
    Ok(command)
}

/// Builds every binary of the workspace, so that fleets run what is in the tree; `more` are further arguments for cargo.
pub async fn build(more: &[&str]) -> Result<()> {
    testbed::build_tools().await?;
    step("building the services", async {
        let status = cargo()?.args(["build", "--quiet", "--workspace"]).args(more).status().await?;
        if status.success() { Ok(()) } else { bail!("the workspace does not build") }
    })
    .await
}
