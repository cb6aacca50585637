//! `leadline-lab`: what `cargo xtask demo | chaos | bench` run once the workspace is built.

mod bench;
mod chaos;
mod demo;

use std::process::ExitCode;

use clap::Parser;

#[derive(Parser)]
#[command(
    name = "leadline-lab",
    bin_name = "cargo xtask",
    about = "Demo, chaos and benchmark on a fleet of real processes"
)]
enum Command {
    /// Shows the main job at work: real RabbitMQ and Postgres, real services, simulated HubSpot and OpenAI.
    Demo(demo::DemoOptions),
    /// Runs the real fleet under load, injects faults, and checks the invariants: nothing lost, nothing twice.
    Chaos(chaos::ChaosOptions),
    /// Measures the fleet on this machine, in release mode, beside the baselines that RabbitMQ and Postgres set.
    Bench(bench::BenchOptions),
}

#[tokio::main]
async fn main() -> ExitCode {
    let command = Command::parse();
    http_client::install_tls_provider();
    testbed::exit_code(Box::pin(async {
        match command {
            Command::Demo(options) => demo::run(&options).await,
            Command::Chaos(options) => chaos::run(&options).await,
            Command::Bench(options) => bench::run(&options).await,
        }
    }))
    .await
}
