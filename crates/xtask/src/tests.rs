//! `cargo xtask test`: starts the services once, builds, and runs every test.

use anyhow::{Context, Result, bail};
use testbed::{On, Services, workspace};

use crate::{
    cargo::{build, cargo},
    lab,
};

/// The chaos run that is part of every test run: always the same faults.
const CHAOS: [&str; 4] = ["--minutes", "3", "--seed", "20261124"];

/// How many tests of a program run at once, unless the environment says otherwise.
const THREADS_VARIABLE: &str = "RUST_TEST_THREADS";

/// More than there are cores: most tests wait for RabbitMQ, Postgres and timers, not for a core.
const THREADS: &str = "6";

/// What the tests' databases and queues take of the disk while all tests run, and something to spare. They go when the services end.
const DISK_BYTES: u64 = 10 << 30;

pub async fn run(on: Option<&On>, arguments: &[String]) -> Result<()> {
    eprintln!("set-up");
    let runs_all = arguments.is_empty();
    // What the tests are built into is written before the disk is looked at.
    build(if runs_all { &["--bins", "--tests"] } else { &[] }).await?;
    testbed::prometheus().await?;
    if runs_all && on.is_none_or(|on| *on == On::Private) {
        require_free_disk(DISK_BYTES)?;
    }
    let services = Services::chosen(on).await?;
    eprintln!("tests");
    let mut tests = cargo()?;
    tests.arg("test");
    if !arguments.iter().any(|argument| argument.starts_with("-p") || argument.starts_with("--package")) {
        tests.arg("--workspace");
    }
    if runs_all {
        // One run shows all that fails, not only the first program with a failing test.
        tests.arg("--no-fail-fast");
    }
    tests.args(arguments).envs(services.environment());
    if std::env::var_os(THREADS_VARIABLE).is_none() {
        tests.env(THREADS_VARIABLE, THREADS);
    }
    if !tests.status().await?.success() {
        bail!("some tests failed");
    }
    if runs_all {
        // Chaos starts services of its own where it may, because it kills them.
        drop(services);
        eprintln!("chaos");
        let on = on.map(ToString::to_string);
        let on = on.iter().flat_map(|on| ["--on", on]);
        return lab::become_lab("debug", "chaos", &CHAOS.into_iter().chain(on).collect::<Vec<_>>());
    }
    Ok(())
}

/// On a full disk RabbitMQ blocks publishers and Postgres stops: tests fail one after the other, and no error names the disk.
fn require_free_disk(bytes: u64) -> Result<()> {
    let root = workspace::root()?;
    let disk = rustix::fs::statvfs(&root)
        .with_context(|| format!("cannot tell how much disk is free in {}", root.display()))?;
    let free = disk.f_bavail.saturating_mul(disk.f_frsize);
    if free < bytes {
        let gib = |bytes: u64| bytes >> 30;
        bail!(
            "the tests need {} GiB of free disk for their databases and queues; {} has {} GiB",
            gib(bytes),
            root.display(),
            gib(free)
        );
    }
    Ok(())
}
