//! `cargo xtask demo | chaos | bench`: builds the workspace and becomes `leadline-lab`.

use std::{os::unix::process::CommandExt, process::Command};

use anyhow::{Context, Result};

use crate::cargo::build;

/// Builds and runs a command of `leadline-lab`; returns only when it cannot be run.
pub async fn run(command: &str, arguments: &[String]) -> Result<()> {
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    let wants_help = arguments.iter().any(|argument| matches!(*argument, "--help" | "-h"));
    // The benchmark's load has to be as fast as what it loads. Its help needs no release build, which takes minutes.
    let profile = if command == "bench" && !wants_help { "release" } else { "debug" };
    if !wants_help {
        eprintln!("set-up");
    }
    build(if profile == "release" { &["--release"] } else { &[] }).await?;
    become_lab(profile, command, &arguments)
}

/// Replaces this process by `leadline-lab`: signals and the exit code are then its own, and no process is left between it
/// and the terminal.
pub fn become_lab(profile: &str, command: &str, arguments: &[&str]) -> Result<()> {
    let this = std::env::current_exe().context("cannot find the running program's path")?;
    let target = this.ancestors().nth(2).context("this program is not in a target folder")?;
    let program = target.join(profile).join("leadline-lab");
    let error = Command::new(&program).arg(command).args(arguments).exec();
    Err(error).with_context(|| format!("cannot run {}", program.display()))
}
