//! `cargo xtask test`: starts the services once, builds, and runs every test.

use anyhow::{Result, bail};
use testbed::Services;

use crate::{
    cargo::{build, cargo},
    lab,
};

/// The chaos run that is part of every test run: always the same faults.
const CHAOS: [&str; 4] = ["--minutes", "3", "--seed", "20261124"];

pub async fn run(arguments: &[String]) -> Result<()> {
    eprintln!("set-up");
    build(&[]).await?;
    let services = Services::up().await?;
    eprintln!("tests");
    let status = cargo()?.args(["test", "--workspace"]).args(arguments).envs(services.environment()).status().await?;
    if !status.success() {
        bail!("some tests failed");
    }
    if arguments.is_empty() {
        // Chaos starts services of its own, because it kills them.
        drop(services);
        eprintln!("chaos");
        return lab::become_lab("debug", "chaos", &CHAOS);
    }
    Ok(())
}
