//! Runs other programs.

use std::{ffi::OsStr, process::Stdio};

use anyhow::{Context, Result, bail};
use tokio::process::Command;

/// What `program` prints. It fails with what it said.
pub async fn run(program: impl AsRef<OsStr>, arguments: &[&OsStr]) -> Result<String> {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null());
    output(command).await
}

/// What a command prints. It fails with what it said.
pub async fn output(mut command: Command) -> Result<String> {
    let program = command.as_std().get_program().to_string_lossy().into_owned();
    let output = command.kill_on_drop(true).output().await.with_context(|| format!("cannot run {program}"))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        bail!("{program} failed:\n{text}{}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(text)
}
