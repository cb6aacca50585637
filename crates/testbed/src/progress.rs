//! Progress lines for work that takes long.

use std::{
    future::Future,
    io::IsTerminal,
    time::{Duration, Instant},
};

use anyhow::Result;
use indicatif::{ProgressBar, ProgressStyle};

/// Does `work`, shows a spinner on a terminal meanwhile, and prints how long it took.
pub async fn step<T>(what: &str, work: impl Future<Output = Result<T>>) -> Result<T> {
    let started = Instant::now();
    let spinner = std::io::stderr().is_terminal().then(|| {
        let style =
            ProgressStyle::with_template("  {spinner} {msg} ({elapsed})").unwrap_or(ProgressStyle::default_spinner());
        let spinner = ProgressBar::new_spinner().with_style(style).with_message(what.to_owned());
        spinner.enable_steady_tick(Duration::from_millis(120));
        spinner
    });
    let result = work.await;
    if let Some(spinner) = spinner {
        spinner.finish_and_clear();
    }
    let sign = if result.is_ok() { "✓" } else { "✗" };
    eprintln!("  {sign} {what} ({:.1} s)", started.elapsed().as_secs_f64());
    result
}
