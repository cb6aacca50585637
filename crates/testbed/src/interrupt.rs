//! Runs a command until it is done or the developer stops it.

use std::{future::Future, process::ExitCode};

use anyhow::Result;
use tokio::signal::unix::{SignalKind, signal};

/// Runs `work` and prints its error. SIGINT, SIGTERM and SIGHUP (a closed terminal) drop `work`, which ends every process
/// that it holds.
pub async fn exit_code(work: impl Future<Output = Result<()>>) -> ExitCode {
    let result = tokio::select! {
        result = work => result,
        () = stop_signal() => Err(anyhow::anyhow!("interrupted")),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("\nerror: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn stop_signal() {
    let signals = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()].map(signal);
    let [Ok(mut interrupt), Ok(mut terminate), Ok(mut hangup)] = signals else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
        _ = hangup.recv() => {}
    }
}
