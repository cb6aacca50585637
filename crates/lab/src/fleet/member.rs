//! One service of a fleet that is a process.

use std::path::Path;

use anyhow::Result;
use testbed::{Process, free_port, workspace};

use super::plan::variable;

/// A running service.
#[derive(Debug)]
pub struct Member {
    /// Its process.
    pub process: Process,
    /// The URL of its internal listener (`/livez`, `/readyz`, `/metrics`).
    pub admin_url: String,
    pub(super) program: String,
    environment: Vec<(String, String)>,
}

impl Member {
    /// Starts `program` with these settings, by the name of the environment variable.
    pub(super) fn start(program: &str, mut environment: Vec<(String, String)>, log: &Path) -> Result<Self> {
        let admin = format!("127.0.0.1:{}", free_port()?);
        environment.push((variable("admin.listen"), admin.clone()));
        // A fleet that starts is asked often whether it is ready. What the plan says comes later, and wins.
        environment.insert(0, (variable("admin.ready_cache_ms"), "20".to_owned()));
        let path = workspace::binaries()?.join(program);
        let root = workspace::root()?;
        let process = Process::start(program, &path, log, |command| {
            // Only the given settings: those in a developer's environment must not change a test.
            for (name, _) in std::env::vars_os().filter(|(name, _)| name.as_encoded_bytes().starts_with(b"LEADLINE__"))
            {
                command.env_remove(name);
            }
            command.envs(environment.iter().cloned()).current_dir(root);
        })?;
        let program = program.to_owned();
        Ok(Self { process, admin_url: format!("http://{admin}"), program, environment })
    }

    /// Starts the same service again after its process has ended, without its crash point.
    pub(super) fn start_again(&self, log: &Path) -> Result<Self> {
        let mut environment = self.environment.clone();
        environment.retain(|(name, _)| name != crashpoint::VARIABLE);
        Self::start(&self.program, environment, log)
    }

    /// The most memory that the process ever had, in KiB; `None` when it does not run.
    pub(super) fn peak_memory(&self) -> Option<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id())).ok()?;
        let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
        line.split_whitespace().nth(1)?.parse().ok()
    }
}
