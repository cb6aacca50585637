//! `cargo xtask containers`: what a Docker engine is needed for. Builds the images, runs the fleet of `docker-compose.yml` and the
//! pods of `deploy/kubernetes`, checks what is promised of them, and ends everything.

mod container;
mod fleet;
mod images;
mod pods;

use std::ffi::OsStr;

use anyhow::{Result, bail};
use testbed::engine_answers;

use crate::command::run;

/// The image of the fleet, as `docker-compose.yml` names it.
const FLEET: &str = "leadline:local";
/// The image of the simulator and the demo.
const SIMULATOR: &str = "leadline-simulator:local";

#[derive(clap::Args)]
pub struct Options {
    /// Use the images that are there instead of building them.
    #[arg(long)]
    no_build: bool,
    /// Further arguments for `docker build`, for example `--network host`.
    #[arg(last = true)]
    build_arguments: Vec<String>,
}

/// Fails with everything that is not as promised.
pub async fn check(options: &Options) -> Result<()> {
    if !engine_answers() {
        bail!("no Docker engine answers (`docker info`)");
    }
    if !options.no_build {
        images::build(&options.build_arguments).await?;
    }
    let mut findings = images::findings().await?;
    findings.extend(fleet::findings().await?);
    findings.extend(pods::findings().await?);
    if !findings.is_empty() {
        bail!("the containers are not as they should be:\n  {}", findings.join("\n  "));
    }
    println!("the images, docker-compose.yml and every pod of deploy/kubernetes hold");
    Ok(())
}

async fn docker(arguments: &[&str]) -> Result<String> {
    run("docker", &arguments.iter().map(OsStr::new).collect::<Vec<_>>()).await
}
