//! What the images hold.

use anyhow::{Context, Result};
use serde_json::Value;
use testbed::{step, workspace};

use super::{FLEET, SIMULATOR, container::Container, docker};
use crate::command::run;

/// How much an image may add to its base.
const MAX_ADDED: i64 = 90_000_000;

/// The stage of `deploy/Dockerfile` on which both images build: the base, and whom TLS connections trust.
const BASE: &str = "leadline-base:local";

pub(super) async fn build(arguments: &[String]) -> Result<()> {
    let root = workspace::root()?;
    let revision = run("git", &["-C".as_ref(), root.as_os_str(), "rev-parse".as_ref(), "HEAD".as_ref()]).await?;
    let revision = format!("REVISION={}", revision.trim());
    let (file, root) = (root.join("deploy/Dockerfile").display().to_string(), root.display().to_string());
    for (image, target) in [(FLEET, "leadline"), (SIMULATOR, "simulator"), (BASE, "base")] {
        let mut command = vec!["build", "--file", &file, "--tag", image, "--target", target, "--build-arg", &revision];
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
        println!("{image}: {:.1} MB, {:.1} MB more than its base", megabytes(size(&inspected)), megabytes(added));
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
    if config["Healthcheck"]["Test"][0] != "CMD" {
        findings.push(format!("{FLEET} has no health check that needs no shell"));
    }
    for label in ["title", "description", "licenses", "revision"] {
        if config["Labels"][format!("org.opencontainers.image.{label}")]
            .as_str()
            .is_none_or(|text| ["", "unknown"].contains(&text))
        {
            findings.push(format!("{FLEET} has no label {label}"));
        }
    }
    for (program, belongs) in [("leadline-receiver", true), ("leadline-simulator", false), ("leadline-lab", false)] {
        let asked = ["--entrypoint", program, FLEET, "--help"].map(ToOwned::to_owned);
        // The engine refuses to start what is not there.
        if Container::start(program, &asked).await.is_ok() != belongs {
            findings.push(format!("{FLEET}: {program} {}", if belongs { "does not start" } else { "is in it" }));
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
