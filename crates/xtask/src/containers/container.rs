//! One running container.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::docker;

/// A container that is removed when it is dropped.
#[derive(Debug)]
pub(super) struct Container {
    id: String,
    /// What it is called in messages.
    name: String,
}

impl Container {
    /// Starts one with the arguments of `docker run`.
    pub(super) async fn start(name: &str, arguments: &[String]) -> Result<Self> {
        let command: Vec<_> = ["create"].into_iter().chain(arguments.iter().map(String::as_str)).collect();
        let id = docker(&command).await.with_context(|| name.to_owned())?.trim().to_owned();
        // One that cannot be started is removed, too.
        let container = Self { id, name: name.to_owned() };
        docker(&["start", &container.id]).await.with_context(|| name.to_owned())?;
        Ok(container)
    }

    /// Waits until it has ended, and returns its exit code.
    pub(super) async fn ended(&self) -> Result<i64> {
        Ok(docker(&["wait", &self.id]).await?.trim().parse()?)
    }

    /// Waits until one of its ports answers a GET with success.
    ///
    /// # Errors
    /// It does not within this time, or the container ends; its last lines are in the error.
    pub(super) async fn answers(&self, port: i64, path: &str, within: Duration) -> Result<()> {
        let started = Instant::now();
        let address = docker(&["port", &self.id, &format!("{port}/tcp")]).await.unwrap_or_default();
        let url = format!("http://{}{path}", address.lines().next().unwrap_or_default());
        loop {
            if inspect(&self.id).await?["State"]["Running"] != true {
                bail!("{} has ended:\n{}", self.name, self.log().await);
            }
            let answer = testbed::get(&url).await;
            if answer.as_ref().is_ok_and(|(status, _)| *status == 200) {
                return Ok(());
            }
            if started.elapsed() > within {
                bail!("{}: {path} on {port} answers {answer:?} after {within:?}\n{}", self.name, self.log().await);
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    /// Sends SIGTERM and returns how long it took to end and with which code. After `grace` it is killed.
    pub(super) async fn stop(&self, grace: u64) -> Result<(Duration, i64)> {
        let started = Instant::now();
        docker(&["stop", "--time", &grace.to_string(), &self.id]).await?;
        let took = started.elapsed();
        Ok((took, inspect(&self.id).await?["State"]["ExitCode"].as_i64().unwrap_or(-1)))
    }

    /// What it holds in memory, in words like `12.5MiB / 128MiB`.
    pub(super) async fn memory(&self) -> Result<String> {
        memory(&self.id).await
    }

    /// Its last lines.
    pub(super) async fn log(&self) -> String {
        docker(&["logs", "--tail", "20", &self.id]).await.unwrap_or_else(|error| error.to_string())
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        let _ = std::process::Command::new("docker").args(["rm", "--force", "--volumes", &self.id]).output();
    }
}

/// What a container holds in memory.
pub(super) async fn memory(id: &str) -> Result<String> {
    Ok(docker(&["stats", "--no-stream", "--format", "{{.MemUsage}}", id]).await?.trim().to_owned())
}

/// What the engine knows of a container.
pub(super) async fn inspect(id: &str) -> Result<Value> {
    let inspected: Vec<Value> = serde_json::from_str(&docker(&["inspect", id]).await?)?;
    inspected.into_iter().next().with_context(|| format!("there is no container {id}"))
}
