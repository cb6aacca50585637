//! `cargo xtask test`: starts the services once, builds, and runs every test.

use anyhow::{Result, bail};
use testbed::{On, Services};

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

pub async fn run(on: Option<&On>, arguments: &[String]) -> Result<()> {
    eprintln!("set-up");
    build(&[]).await?;
    testbed::prometheus().await?;
    let services = Services::chosen(on).await?;
    eprintln!("tests");
    let mut tests = cargo()?;
    tests.arg("test");
    if !arguments.iter().any(|argument| argument.starts_with("-p") || argument.starts_with("--package")) {
        tests.arg("--workspace");
    }
    if arguments.is_empty() {
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
    if arguments.is_empty() {
        // Chaos starts services of its own where it may, because it kills them.
        drop(services);
        eprintln!("chaos");
        let on = on.map(ToString::to_string);
        let on = on.iter().flat_map(|on| ["--on", on]);
        return lab::become_lab("debug", "chaos", &CHAOS.into_iter().chain(on).collect::<Vec<_>>());
    }
    Ok(())
}
