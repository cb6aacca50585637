//! What the images hold.

use anyhow::{Context, Result};
use serde_json::Value;
use testbed::{step, workspace};

use super::{FLEET, SIMULATOR, docker};

/// How much an image may add to its base.
const MAX_ADDED: i64 = 90_000_000;

/// What `deploy/Dockerfile` builds on, unless told otherwise.
const BASE: &str = "debian:bookworm-slim";

pub(super) async fn build(arguments: &[String]) -> Result<()> {
    let root = workspace::root()?;
    let (file, root) = (root.join("deploy/Dockerfile").display().to_string(), root.display().to_string());
    for (image, target) in [(FLEET, "leadline"), (SIMULATOR, "simulator")] {
        let mut command = vec!["build", "--file", &file, "--tag", image, "--target", target];
        command.extend(arguments.iter().map(String::as_str));
        command.push(&root);
        step(&format!("building {image}"), docker(&command)).await?;
    }
    Ok(())
}

/// What is wrong with the images.
pub(super) async fn findings() -> Result<Vec<String>> {
    let base = size(&inspect(BASE).await?);
    let mut findings = Vec::new();
    for image in [FLEET, SIMULATOR] {
        let inspected = inspect(image).await?;
        let added = size(&inspected) - base;
        println!("{image}: {:.1} MB, {:.1} MB more than {BASE}", megabytes(size(&inspected)), megabytes(added));
        let config = &inspected["Config"];
        if config["User"] != "10001:10001" {
            findings.push(format!("{image} runs as {}", config["User"]));
        }
        if image == FLEET {
            findings.extend((added > MAX_ADDED).then(|| format!("{image} adds {:.1} MB", megabytes(added))));
            findings.extend(fleet_findings(config).await);
        }
    }
    Ok(findings)
}

async fn fleet_findings(config: &Value) -> Vec<String> {
    let mut findings = Vec::new();
    if config["Healthcheck"]["Test"].as_array().is_none_or(|test| test.iter().any(|part| part == "CMD-SHELL")) {
        findings.push(format!("{FLEET} has no health check that needs no shell"));
    }
    for label in ["title", "description", "licenses", "revision"] {
        if config["Labels"][format!("org.opencontainers.image.{label}")].as_str().is_none_or(str::is_empty) {
            findings.push(format!("{FLEET} has no label {label}"));
        }
    }
    for program in ["leadline-simulator", "leadline-lab"] {
        if docker(&["run", "--rm", "--entrypoint", program, FLEET, "--help"]).await.is_ok() {
            findings.push(format!("{FLEET} holds {program}"));
        }
    }
    findings
}

async fn inspect(image: &str) -> Result<Value> {
    let text = docker(&["image", "inspect", image]).await?;
    let inspected: Vec<Value> = serde_json::from_str(&text)?;
    inspected.into_iter().next().with_context(|| format!("there is no image {image}"))
}

fn size(inspected: &Value) -> i64 {
    inspected["Size"].as_i64().unwrap_or_default()
}

#[allow(clippy::cast_precision_loss, reason = "a size in MB with one digit")]
fn megabytes(bytes: i64) -> f64 {
    bytes as f64 / 1e6
}
