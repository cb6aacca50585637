//! `cargo xtask fuzz`: random texts of strangers against the crate that reads them.

use anyhow::{Result, bail};

use crate::cargo::cargo;

pub async fn run(cases: u32) -> Result<()> {
    eprintln!("time and memory");
    // Alone: the memory is that of the whole process.
    test(cases, &["--test", "strangers", "--", "--nocapture", "bounded"]).await?;
    eprintln!("{cases} texts");
    test(cases, &["--test", "strangers", "--test", "browser", "--", "--skip", "bounded"]).await
}

async fn test(cases: u32, arguments: &[&str]) -> Result<()> {
    let mut tests = cargo()?;
    tests.args(["test", "--profile", "fuzz", "--package", "playbook"]).args(arguments);
    tests.env("PROPTEST_CASES", cases.to_string()).env("LEADLINE_FUZZ", "1");
    if tests.status().await?.success() { Ok(()) } else { bail!("a text breaks a promise") }
}
