//! `cargo xtask`: the developer's commands.

mod bench;
mod chaos;
mod demo;
mod dependencies;
mod queries;
mod tests;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "The developer's commands; each does all set-up and leaves nothing running")]
enum Command {
    /// Shows the main job at work: real RabbitMQ and Postgres, real services, simulated HubSpot and OpenAI.
    Demo(demo::Options),
    /// Runs every test, unit to whole fleet.
    Test {
        /// Arguments for `cargo test`, for example a test's name.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// The real fleet under load while everything breaks, and an invariants at the end: nothing lost, nothing twice.
    Chaos(chaos::Options),
    /// Measures the fleet on this machine, in release mode, beside the baselines that RabbitMQ and Postgres set.
    Bench(bench::Options),
    /// Checks dependencies against deny.toml.
    Dependencies,
    #[command(subcommand)]
    Queries(Queries),
}

/// The checked descriptions of SQL statements in `.sqlx`, which let a clone build without a database.
#[derive(Subcommand)]
enum Queries {
    /// Writes them anew.
    Prepare,
    /// Says whether they are current.
    Check,
}

#[tokio::main]
async fn main() -> ExitCode {
    let command = Command::parse();
    http_client::install_tls_provider();
    let work = async {
        match command {
            Command::Demo(options) => demo::run(&options).await,
            Command::Test { arguments } => tests::run(&arguments).await,
            Command::Chaos(options) => chaos::run(&options).await,
            Command::Bench(options) => bench::run(&options).await,
            Command::Dependencies => dependencies::check().await,
            Command::Queries(Queries::Prepare) => queries::prepare().await,
            Command::Queries(Queries::Check) => queries::check().await,
        }
    };
    // Dropping the work ends every process that it started.
    let result = tokio::select! {
        result = work => result,
        () = until_told_to_stop() => Err(anyhow::anyhow!("interrupted")),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("\nerror: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Ctrl-C, SIGTERM, or a closed terminal.
async fn until_told_to_stop() {
    use tokio::signal::unix::{SignalKind, signal};
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
