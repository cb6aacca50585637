//! `leadline`: the operator's command.

mod backfill;
mod check;
mod erase;
mod event;
mod needs;
mod operator;
mod parked;
mod playbooks;
mod reconcile;
mod record;
mod requeue;
mod status;
mod when;

use std::{path::PathBuf, process::ExitCode};

use anyhow::Context;
use clap::{Parser, Subcommand};

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
        command: playbooks::Command,
    },
    /// Shows the history of one event; `event requeue` publishes it again.
    #[command(args_conflicts_with_subcommands = true, arg_required_else_help = true)]
    Event {
        /// The event's key or id.
        key_or_id: Option<String>,
        /// Also show the prompt and the raw answer; they hold what people wrote.
        #[arg(long)]
        prompts: bool,
        #[command(subcommand)]
        command: Option<EventCommand>,
    },
    /// Shows queues, unfinished work by state and age, what is parked, and outages.
    Backlog,
    /// Lists, shows, replays and discards what is parked.
    Parked {
        #[command(subcommand)]
        command: parked::Command,
    },
    /// Finds events and write commands whose message is lost; `--yes` takes them up again.
    Reconcile(reconcile::Options),
    /// Queues what changed in HubSpot since a time and no webhook told of.
    Backfill(backfill::Options),
    /// Takes a person's data out of the ledger, keeping counts.
    Erase {
        /// The record, like contact/123.
        record: String,
        /// Do it.
        #[arg(long)]
        yes: bool,
    },
}

#[derive(Subcommand)]
enum EventCommand {
    /// Publishes an event again, whatever became of its message.
    Requeue {
        /// The event's key or id.
        key_or_id: String,
    },
}

#[tokio::main]
async fn main() -> anyhow::Result<ExitCode> {
    let Arguments { config, command } = Arguments::parse();
    http_client::install_tls_provider();
    let file = settings::file_or_default(config);
    match command {
        Command::Migrate => {
            let (_, ledger) = operator::with_ledger(file.as_deref())?;
            ledger.migrate().await.context("the ledger was not migrated")?;
            println!("the ledger's schema is up to date");
            Ok(ExitCode::SUCCESS)
        }
        Command::Playbook { command } => playbooks::run(command, file.as_deref()).await,
        Command::Check => Ok(check::run(file.as_deref()).await),
        Command::Event { command: Some(EventCommand::Requeue { key_or_id }), .. } => {
            requeue::run(file.as_deref(), &key_or_id).await
        }
        Command::Event { key_or_id, prompts, command: None } => {
            let key_or_id = key_or_id.context("which event? Give its key or id")?;
            let (_, ledger) = operator::with_ledger(file.as_deref())?;
            let Some(story) = ledger.event_story(&key_or_id).await? else {
                eprintln!("the ledger has no event `{key_or_id}`");
                return Ok(ExitCode::FAILURE);
            };
            event::print(&story, prompts);
            Ok(ExitCode::SUCCESS)
        }
        Command::Backlog => status::run(file.as_deref()).await,
        Command::Parked { command } => parked::run(&command, file.as_deref()).await,
        Command::Reconcile(options) => reconcile::run(file.as_deref(), &options).await,
        Command::Backfill(options) => backfill::run(file.as_deref(), &options).await,
        Command::Erase { record, yes } => erase::run(file.as_deref(), &record, yes).await,
    }
}
