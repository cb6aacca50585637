//! Installs Debian's packages that are missing.

use std::{env, os::unix::fs::PermissionsExt, path::Path, process::Stdio};

use anyhow::{Context, Result, bail};
use tokio::process::Command;

use crate::step;

/// Debian's package scripts run this before they start a service; exit code 101 forbids it. Only our private instances are
/// to run.
const POLICY: &str = "/usr/sbin/policy-rc.d";

/// Installs what the services are built with beside Rust and a C compiler: `make`, which jemalloc's sources need.
pub async fn build_tools() -> Result<()> {
    if is_on_path("make") {
        return Ok(());
    }
    missing("make", "to build jemalloc").await
}

/// Installs a Python that makes virtual environments.
pub async fn python() -> Result<()> {
    let makes_environments = Command::new("python3").args(["-c", "import ensurepip, venv"]).output().await;
    if makes_environments.is_ok_and(|output| output.status.success()) {
        return Ok(());
    }
    missing("python3-venv", "to check the manifests").await
}

/// Installs Prometheus, whose `promtool` tests alerts, and which the dashboard is tried with.
pub async fn prometheus() -> Result<()> {
    if is_on_path("promtool") {
        return Ok(());
    }
    missing("prometheus", "to test alerts and dashboard").await
}

/// Installs a package that is missing, or says what it is for.
async fn missing(package: &str, purpose: &str) -> Result<()> {
    if !rustix::process::geteuid().is_root() {
        bail!("Debian's package {package} is needed {purpose}: install it, or run this as root to have it installed");
    }
    step(&format!("installing Debian's package {package}"), packages(&[package])).await
}

/// Installs packages without starting the services in them.
pub(crate) async fn packages(names: &[&str]) -> Result<()> {
    let _policy = NoServiceStarts::begin()?;
    apt(&["update"]).await?;
    apt(&[&["install", "-y", "--no-install-recommends"], names].concat()).await
}

/// Forbids service starts until it is dropped. A policy that was there before stays.
struct NoServiceStarts {
    ours: bool,
}

impl NoServiceStarts {
    fn begin() -> Result<Self> {
        if Path::new(POLICY).exists() {
            return Ok(Self { ours: false });
        }
        std::fs::write(POLICY, "#!/bin/sh\nexit 101\n").with_context(|| format!("cannot write {POLICY}"))?;
        std::fs::set_permissions(POLICY, std::fs::Permissions::from_mode(0o755))?;
        Ok(Self { ours: true })
    }
}

impl Drop for NoServiceStarts {
    fn drop(&mut self) {
        if self.ours {
            let _ = std::fs::remove_file(POLICY);
        }
    }
}

fn is_on_path(program: &str) -> bool {
    env::var_os("PATH").is_some_and(|path| env::split_paths(&path).any(|folder| folder.join(program).is_file()))
}

async fn apt(arguments: &[&str]) -> Result<()> {
    let output = Command::new("apt-get")
        .args(arguments)
        .env("DEBIAN_FRONTEND", "noninteractive")
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .context("cannot run apt-get")?;
    if !output.status.success() {
        bail!("apt-get {} failed:\n{}", arguments.join(" "), String::from_utf8_lossy(&output.stderr));
    }
    Ok(())
}
