//! The services of `docker-compose.yml`, on free ports and under a project name of their own.

use std::{
    collections::BTreeMap,
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

/// The file's variables that name a port of this machine.
const PORTS: [&str; 5] =
    ["RABBITMQ_PORT", "RABBITMQ_MANAGEMENT_PORT", "POSTGRES_PORT", "RECEIVER_PORT", "SIMULATOR_PORT"];

/// A Compose project of its own, with the values of `.env.example`; taken down with its volumes when dropped.
#[derive(Debug)]
pub struct Compose {
    project: String,
    files: Vec<PathBuf>,
    environment: BTreeMap<&'static str, String>,
}

/// Whether a Docker engine answers. The client alone is not enough.
pub fn engine_answers() -> bool {
    let mut info = Command::new("docker");
    info.arg("info").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    info.status().is_ok_and(|status| status.success())
}

impl Compose {
    /// A project that has nothing running yet. `more` is a Compose file that is laid over the repository's.
    ///
    /// # Errors
    /// No port is free, or a file cannot be written.
    pub fn new(name: &str, more: Option<&str>) -> Result<Self> {
        let root = workspace::root()?;
        let project = format!("leadline-{name}-{}", std::process::id());
        let mut files = vec![root.join("docker-compose.yml")];
        if let Some(more) = more {
            let file = root.join("target").join(format!("{project}.yml"));
            std::fs::write(&file, more).with_context(|| format!("cannot write {}", file.display()))?;
            files.push(file);
        }
        let ports = PORTS.into_iter().map(|port| Ok((port, free_port()?.to_string())));
        Ok(Self { project, files, environment: ports.collect::<Result<_>>()? })
    }

    /// RabbitMQ and Postgres alone, for tests.
    pub(super) async fn for_tests() -> Result<Self> {
        let compose = Self::new("dev", Some(FOR_TESTS))?;
        compose.run(&["up", "--detach", "--wait", RABBITMQ, POSTGRES]).await?;
        Ok(compose)
    }

    /// Kills a service as a power cut would, starts it again after `down`, and waits until it is healthy.
    pub(super) async fn crash(&self, service: &str, down: Duration) -> Result<()> {
        self.run(&["kill", "--signal", "KILL", service]).await?;
        tokio::time::sleep(down).await;
        self.run(&["up", "--detach", "--wait", service]).await.map(drop)
    }

    /// Runs `rabbitmqctl` in RabbitMQ's container.
    pub(super) async fn rabbitmqctl(&self, arguments: &[&str]) -> Result<()> {
        self.run(&[&["exec", "-T", RABBITMQ, "rabbitmqctl"], arguments].concat()).await.map(drop)
    }

    /// Runs a command of Compose and returns what it prints.
    ///
    /// # Errors
    /// It failed; what it said is in the error.
    pub async fn run(&self, arguments: &[&str]) -> Result<String> {
        let mut command = self.command();
        command.args(arguments);
        let output =
            tokio::task::spawn_blocking(move || command.output()).await?.context("cannot run docker compose")?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            bail!("docker compose {} failed:\n{}{said}", arguments.join(" "), String::from_utf8_lossy(&output.stdout));
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    fn command(&self) -> Command {
        let mut command = Command::new("docker");
        command.args(["compose", "--project-name", &self.project]);
        if let Some(folder) = self.files[0].parent() {
            command.arg("--env-file").arg(folder.join(".env.example"));
        }
        for file in &self.files {
            command.arg("--file").arg(file);
        }
        command.envs(&self.environment).stdin(Stdio::null());
        command
    }

    /// The network of the project's containers, in which each has the name of its service.
    pub fn network(&self) -> String {
        format!("{}_default", self.project)
    }

    fn port(&self, variable: &str) -> &str {
        self.environment.get(variable).map_or("", String::as_str)
    }

    pub(super) fn amqp_url(&self) -> String {
        format!("amqp://leadline:leadline@127.0.0.1:{}", self.port("RABBITMQ_PORT"))
    }

    pub(super) fn management_url(&self) -> String {
        format!("http://leadline:leadline@127.0.0.1:{}", self.port("RABBITMQ_MANAGEMENT_PORT"))
    }

    pub(super) fn postgres_url(&self) -> String {
        format!("postgres://leadline:leadline@127.0.0.1:{}/leadline", self.port("POSTGRES_PORT"))
    }
}

impl Drop for Compose {
    fn drop(&mut self) {
        let _ = self.command().args(["--profile", "*", "down", "--volumes"]).output();
        for file in self.files.iter().skip(1) {
            let _ = std::fs::remove_file(file);
        }
    }
}
