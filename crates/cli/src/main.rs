//! `leadline`: the operator's command.

mod check;
mod event;
mod needs;
mod playbook;

use std::{path::PathBuf, process::ExitCode};

use anyhow::Context;
use clap::{Parser, Subcommand};
use runtime::{
    config::{Reader, Settings},
    service,
};

#[derive(Parser)]
#[command(name = "leadline", version, about = "Operates a fleet of Leadline")]
struct Arguments {
    /// The settings file.
    #[arg(long, env = "LEADLINE_CONFIG", global = true)]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Brings the ledger's schema up to date.
    Migrate,
    /// Says everything that is wrong with settings, playbooks, credentials, scopes, properties, broker and ledger.
    Check,
    /// Checks, provisions and tries playbooks.
    Playbook {
        #[command(subcommand)]
        command: playbook::Command,
    },
    /// Shows the history of one event.
    Event {
        /// The event's key or id.
        key_or_id: String,
        /// Also show the prompt and the raw answer; they hold what people wrote.
        #[arg(long)]
        prompts: bool,
    },
}

#[tokio::main]
async fn main() -> anyhow::Result<ExitCode> {
    let Arguments { config, command } = Arguments::parse();
    service::install_tls_provider();
    let file = service::Options { config, check_config: false }.file();
    match command {
        Command::Migrate => {
            let settings = Settings::load(file.as_deref(), Reader::LedgerOnly)?;
            let ledger = connect::ledger(&settings, "leadline").map_err(anyhow::Error::msg)?;
            ledger.migrate().await.context("the ledger was not migrated")?;
            println!("the ledger's schema is up to date");
            Ok(ExitCode::SUCCESS)
        }
        Command::Playbook { command } => playbook::run(command, file.as_deref()).await,
        Command::Check => Ok(check::run(file.as_deref()).await),
        Command::Event { key_or_id, prompts } => {
            let settings = Settings::load(file.as_deref(), Reader::LedgerOnly)?;
            let ledger = connect::ledger(&settings, "leadline").map_err(anyhow::Error::msg)?;
            let Some(story) = ledger.event_story(&key_or_id).await? else {
                eprintln!("the ledger has no event `{key_or_id}`");
                return Ok(ExitCode::FAILURE);
            };
            event::print(&story, prompts);
            Ok(ExitCode::SUCCESS)
        }
    }
}
