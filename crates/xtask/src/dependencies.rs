//! `cargo xtask dependencies`: what `deny.toml` says about bans, licences and sources, checked without a network.

use std::{collections::BTreeMap, process::Stdio};

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use testbed::workspace;

use crate::cargo::cargo;

#[derive(Deserialize)]
struct Rules {
    bans: Bans,
    licenses: Licenses,
}

#[derive(Deserialize)]
struct Bans {
    deny: Vec<Banned>,
}

#[derive(Deserialize)]
struct Banned {
    #[serde(rename = "crate")]
    name: String,
}

#[derive(Deserialize)]
struct Licenses {
    allow: Vec<String>,
}

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
    resolve: Resolve,
}

#[derive(Deserialize)]
struct Resolve {
    nodes: Vec<Node>,
}

#[derive(Deserialize)]
struct Node {
    id: String,
}

#[derive(Deserialize)]
struct Package {
    id: String,
    name: String,
    version: String,
    license: Option<String>,
    source: Option<String>,
}

/// Fails with everything that breaks a rule.
pub async fn check() -> Result<()> {
    let text = std::fs::read_to_string(workspace::root()?.join("deny.toml")).context("cannot read deny.toml")?;
    let rules: Rules = toml::from_str(&text).context("cannot parse deny.toml")?;
    let output = cargo()?
        .args(["metadata", "--locked", "--format-version", "1", "--filter-platform", "x86_64-unknown-linux-gnu"])
        .stderr(Stdio::inherit())
        .output()
        .await?;
    let metadata: Metadata =
        serde_json::from_slice(&output.stdout).context("cannot parse what cargo metadata printed")?;
    let known: BTreeMap<_, _> = metadata.packages.iter().map(|package| (package.id.as_str(), package)).collect();
    let mut broken = Vec::new();
    // Only what is compiled here; the lock file holds other platforms' packages too.
    for package in metadata.resolve.nodes.iter().filter_map(|node| known.get(node.id.as_str())) {
        let place = format!("{} {}", package.name, package.version);
        if rules.bans.deny.iter().any(|banned| banned.name == package.name) {
            broken.push(format!("{place} is banned"));
        }
        // Packages of the workspace have no source.
        let Some(source) = &package.source else { continue };
        if !source.starts_with("registry+") {
            broken.push(format!("{place} comes from {source}"));
        }
        let license = package.license.as_deref().unwrap_or("no licence");
        if !is_allowed(license, &rules.licenses.allow) {
            broken.push(format!("{place}: {license}"));
        }
    }
    if !broken.is_empty() {
        bail!("dependencies break deny.toml:\n  {}", broken.join("\n  "));
    }
    println!("{} dependencies keep the rules of deny.toml", metadata.resolve.nodes.len());
    Ok(())
}

/// Whether an SPDX expression can be satisfied: any side of an OR, both of an AND. The old form `MIT/Apache-2.0` is an
/// OR; brackets only ever hold alternatives in the expressions there are.
fn is_allowed(expression: &str, allowed: &[String]) -> bool {
    let plain = expression.replace(['(', ')'], "").replace('/', " OR ");
    plain
        .split(" AND ")
        .all(|part| part.split(" OR ").any(|license| allowed.iter().any(|known| known == license.trim())))
}
