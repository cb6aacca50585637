//! The services of `docker-compose.yml`, on free ports and under a project name of their own.

use std::{
    path::PathBuf,
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, bail};

use crate::{free_port, workspace};

/// The service that is RabbitMQ.
pub(super) const RABBITMQ: &str = "rabbitmq";
/// The service that is Postgres.
pub(super) const POSTGRES: &str = "postgres";

/// What tests need beside `docker-compose.yml`: six fleets at once have more connections than Postgres takes by itself.
const FOR_TESTS: &str = r#"services: { postgres: { command: ["-c", "max_connections=300"] } }"#;

/// A running compose project; taken down with its volumes when dropped.
#[derive(Debug)]
pub(super) struct Compose {
    project: String,
    file: PathBuf,
    for_tests: PathBuf,
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
        let root = workspace::root()?;
        let project = format!("leadline-dev-{}", std::process::id());
        let for_tests = root.join("target").join(format!("{project}.yml"));
        std::fs::write(&for_tests, FOR_TESTS).with_context(|| format!("cannot write {}", for_tests.display()))?;
        let compose = Self {
            project,
            file: root.join("docker-compose.yml"),
            for_tests,
            amqp: free_port()?,
            management: free_port()?,
            postgres: free_port()?,
        };
        compose.run(&["up", "--detach", "--wait", RABBITMQ, POSTGRES]).await?;
        Ok(compose)
    }

    /// Kills a service as a power cut would, starts it again after `down`, and waits until it is healthy.
    pub(super) async fn crash(&self, service: &str, down: Duration) -> Result<()> {
        self.run(&["kill", "--signal", "KILL", service]).await?;
        tokio::time::sleep(down).await;
        self.run(&["up", "--detach", "--wait", service]).await
    }

    /// Runs `rabbitmqctl` in RabbitMQ's container.
    pub(super) async fn rabbitmqctl(&self, arguments: &[&str]) -> Result<()> {
        self.run(&[&["exec", "-T", RABBITMQ, "rabbitmqctl"], arguments].concat()).await
    }

    /// Runs a command of Compose.
    async fn run(&self, arguments: &[&str]) -> Result<()> {
        let mut command = self.command();
        command.args(arguments);
        let output =
            tokio::task::spawn_blocking(move || command.output()).await?.context("cannot run docker compose")?;
        if !output.status.success() {
            bail!("docker compose {} failed:\n{}", arguments.join(" "), String::from_utf8_lossy(&output.stderr));
        }
        Ok(())
    }

    fn command(&self) -> Command {
        let mut command = Command::new("docker");
        command
            .args(["compose", "--project-name", &self.project, "--file"])
            .arg(&self.file)
            .arg("--file")
            .arg(&self.for_tests)
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
        let _ = std::fs::remove_file(&self.for_tests);
    }
}
