//! `cargo xtask`: the developer's commands. It depends on nothing that the workspace's SQL statements are part of, so it
//! builds on a fresh clone even while `.sqlx` is empty or wrong.

mod cargo;
mod command;
mod containers;
mod dependencies;
mod fuzz;
mod lab;
mod manifests;
mod queries;
mod tests;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use testbed::On;

#[derive(Parser)]
#[command(name = "cargo xtask", about = "The developer's commands; each does all set-up and leaves nothing running")]
enum Command {
    /// Shows the main job at work: real RabbitMQ and Postgres, real services, simulated HubSpot and OpenAI.
    #[command(disable_help_flag = true)]
    Demo(Arguments),
    /// Runs every test, unit to whole fleet, then three minutes of chaos.
    Test {
        /// What RabbitMQ and Postgres run on: `containers`, `private`, `environment`, or their URLs, separated by commas:
        /// amqp://user:password@host:port,http://user:password@host:port,postgres://user:password@host:port/database.
        #[arg(long)]
        on: Option<On>,
        /// Arguments for `cargo test`, for example a test's name. With arguments, chaos does not run.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Runs the real fleet under load, injects faults, and checks the invariants: nothing lost, nothing twice.
    #[command(disable_help_flag = true)]
    Chaos(Arguments),
    /// Measures the fleet on this machine, in release mode, beside the baselines that RabbitMQ and Postgres set.
    #[command(disable_help_flag = true)]
    Bench(Arguments),
    /// Holds the reader of strangers' texts to its promises with random texts, optimised; needs no services.
    Fuzz {
        /// How many texts each property is tried with.
        #[arg(long, default_value_t = 1_000_000)]
        cases: u32,
    },
    /// Renders deploy/kubernetes and checks it against Kubernetes' schemas, the operators' definitions and policies.
    Manifests,
    /// Builds the images, runs the fleet of docker-compose.yml and the pods of deploy/kubernetes in a Docker engine, and checks them.
    Containers(containers::Options),
    /// Checks dependencies against deny.toml.
    Dependencies,
    #[command(subcommand)]
    Queries(Queries),
}

/// Arguments for the same command of `leadline-lab`.
#[derive(clap::Args)]
struct Arguments {
    /// Its options; `--help` lists them.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<String>,
}

/// The checked descriptions of SQL statements in `.sqlx`, with which a clone builds without a database.
#[derive(Subcommand)]
enum Queries {
    /// Writes them anew.
    Prepare,
    /// Fails when they are not current.
    Check,
}

#[tokio::main]
async fn main() -> ExitCode {
    let command = Command::parse();
    testbed::exit_code(async {
        match command {
            Command::Demo(Arguments { arguments }) => lab::run("demo", &arguments).await,
            Command::Test { on, arguments } => tests::run(on.as_ref(), &arguments).await,
            Command::Chaos(Arguments { arguments }) => lab::run("chaos", &arguments).await,
            Command::Bench(Arguments { arguments }) => lab::run("bench", &arguments).await,
            Command::Fuzz { cases } => fuzz::run(cases).await,
            Command::Manifests => manifests::check().await,
            Command::Containers(options) => containers::check(&options).await,
            Command::Dependencies => dependencies::check().await,
            Command::Queries(Queries::Prepare) => queries::prepare().await,
            Command::Queries(Queries::Check) => queries::check().await,
        }
    })
    .await
}
