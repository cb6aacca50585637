//! Installing Debian's packages.

use std::{env, os::unix::fs::PermissionsExt, path::Path, process::Stdio};

use anyhow::{Context, Result, bail};
use tokio::process::Command;

/// Debian asks this script before it starts a service; 101 forbids it. Our instances are private ones.
const POLICY: &str = "/usr/sbin/policy-rc.d";

/// Removes the policy again, if it was ours.
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

pub(super) async fn packages(names: &[&str]) -> Result<()> {
    let _policy = NoServiceStarts::begin()?;
    apt(&["update"]).await?;
    apt(&[&["install", "-y", "--no-install-recommends"], names].concat()).await
}

/// Whether a program is on the path.
pub(super) fn is_there(program: &str) -> bool {
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
        .context("apt-get")?;
    if !output.status.success() {
        bail!("apt-get {} failed:\n{}", arguments.join(" "), String::from_utf8_lossy(&output.stderr));
    }
    Ok(())
}
