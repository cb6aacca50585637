//! The fleet of `docker-compose.yml` on the simulator, from nothing to the demo's outcomes.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use testbed::{Compose, step};

use super::container::{inspect, memory};

/// Its services that are programs of ours. The others are images of others, which write to their own file systems.
const OURS: [&str; 4] = ["receiver", "inference", "writer", "simulator"];

/// Seconds since 1970 of the first property that was written.
const FIRST_WRITE: &str = "select extract(epoch from min(written_at))::bigint from write";

/// What is not as it should be.
pub(super) async fn findings() -> Result<Vec<String>> {
    let compose = Compose::new("containers", None)?;
    let started = (Instant::now(), std::time::SystemTime::now());
    if let Err(error) = step("docker compose up", compose.run(&["up", "--detach", "--no-build", "--wait"])).await {
        let said = compose.run(&["logs", "--no-color", "--tail", "20"]).await.unwrap_or_default();
        bail!("{error:#}\n{said}");
    }
    println!("docker compose up: every service is healthy after {:.1} s", started.0.elapsed().as_secs_f64());
    let at_rest = memories(&compose).await?;
    let demo = step("docker compose run --rm demo", compose.run(&["run", "--rm", "-T", "demo"])).await?;
    print!("{demo}");
    let psql = ["exec", "-T", "postgres", "psql", "-U", "leadline", "-d", "leadline", "-Atc", FIRST_WRITE];
    let first = Duration::from_secs(compose.run(&psql).await?.trim().parse()?);
    let first = first.saturating_sub(started.1.duration_since(std::time::UNIX_EPOCH)?);
    println!("the first property was written {} s after `docker compose up`", first.as_secs());
    let after = memories(&compose).await?;
    let mut findings = Vec::new();
    for (service, (at_rest, after)) in OURS.iter().zip(at_rest.iter().zip(&after)) {
        println!("{service}: memory {at_rest} at rest, {after} after the demo");
        findings.extend(rights(&compose, service).await?);
    }
    Ok(findings)
}

async fn memories(compose: &Compose) -> Result<Vec<String>> {
    let mut memories = Vec::new();
    for service in OURS {
        memories.push(memory(&id(compose, service).await?).await?);
    }
    Ok(memories)
}

/// What a service may do that it need not.
async fn rights(compose: &Compose, service: &str) -> Result<Vec<String>> {
    let inspected = inspect(&id(compose, service).await?).await?;
    let host = &inspected["HostConfig"];
    let mut findings = Vec::new();
    if host["ReadonlyRootfs"] != true {
        findings.push(format!("{service} can write to its root"));
    }
    if host["CapDrop"][0] != "ALL" {
        findings.push(format!("{service} has capabilities"));
    }
    if inspected["Config"]["User"] != "10001:10001" {
        findings.push(format!("{service} runs as {}", inspected["Config"]["User"]));
    }
    if host["Memory"].as_i64().is_none_or(|bytes| bytes == 0) {
        findings.push(format!("{service} has no memory limit"));
    }
    if inspected["RestartCount"] != 0 {
        findings.push(format!("{service} was started again {} times", inspected["RestartCount"]));
    }
    Ok(findings)
}

async fn id(compose: &Compose, service: &str) -> Result<String> {
    Ok(compose.run(&["ps", "--quiet", service]).await?.trim().to_owned())
}
