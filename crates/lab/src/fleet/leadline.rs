//! The command `leadline`.

use anyhow::{Context, Result};
use testbed::workspace;

/// The command, with the settings of a fleet and the users of a role.
#[derive(Debug, Clone)]
pub struct Leadline {
    pub(super) environment: Vec<(String, String)>,
}

impl Leadline {
    /// Runs it and returns its output.
    pub async fn run(&self, arguments: &[&str]) -> Result<std::process::Output> {
        let program = workspace::binaries()?.join("leadline");
        tokio::process::Command::new(program)
            .args(arguments)
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .current_dir(workspace::root()?)
            .output()
            .await
            .context("cannot run leadline")
    }
}
