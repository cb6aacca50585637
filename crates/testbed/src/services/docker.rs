//! The services of `docker-compose.yml`, on free ports and under a project name of their own.

use std::{
    path::PathBuf,
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail};

use crate::{free_port, workspace};

/// A running compose project; taken down with its volumes when dropped.
#[derive(Debug)]
pub(super) struct Compose {
    project: String,
    file: PathBuf,
    amqp: u16,
    management: u16,
    postgres: u16,
}

/// Whether a Docker engine answers. The client alone is not enough.
pub(super) fn answers() -> bool {
    let mut info = Command::new("docker");
    info.arg("info").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    info.status().is_ok_and(|status| status.success())
}

impl Compose {
    pub(super) async fn up() -> Result<Self> {
        let compose = Self {
            project: format!("leadline-dev-{}", std::process::id()),
            file: workspace::root()?.join("docker-compose.yml"),
            amqp: free_port()?,
            management: free_port()?,
            postgres: free_port()?,
        };
        let mut command = compose.command();
        command.args(["up", "--detach", "--wait", "rabbitmq", "postgres"]);
        let output =
            tokio::task::spawn_blocking(move || command.output()).await?.context("cannot run docker compose")?;
        if !output.status.success() {
            bail!("docker compose up failed:\n{}", String::from_utf8_lossy(&output.stderr));
        }
        Ok(compose)
    }

    fn command(&self) -> Command {
        let mut command = Command::new("docker");
        command
            .args(["compose", "--project-name", &self.project, "--file"])
            .arg(&self.file)
            .env("RABBITMQ_PORT", self.amqp.to_string())
            .env("RABBITMQ_MANAGEMENT_PORT", self.management.to_string())
            .env("POSTGRES_PORT", self.postgres.to_string())
            .stdin(Stdio::null());
        command
    }

    pub(super) fn amqp_url(&self) -> String {
        format!("amqp://leadline:leadline@127.0.0.1:{}", self.amqp)
    }

    pub(super) fn management_url(&self) -> String {
        format!("http://leadline:leadline@127.0.0.1:{}", self.management)
    }

    pub(super) fn postgres_url(&self) -> String {
        format!("postgres://leadline:leadline@127.0.0.1:{}/leadline", self.postgres)
    }
}

impl Drop for Compose {
    fn drop(&mut self) {
        let _ = self.command().args(["down", "--volumes"]).output();
    }
}
