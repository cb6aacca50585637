//! `leadline`: the operator's command. Called as `leadline-inference` or `leadline-writer` it is that service: the image holds one
//! program for the three, because each would carry the tokenizers' tables of 50 MB.
#![deny(clippy::print_stdout, clippy::print_stderr)] // Only `print` prints: it escapes what a terminal would act on.

mod backfill;
mod check;
mod erase;
mod event;
mod events;
mod explain;
mod manual;
mod migrate;
mod names;
mod needs;
mod operator;
mod parked;
mod playbooks;
mod print;
mod reconcile;
mod record;
mod requeue;
mod review;
mod snapshot;
mod status;
mod times;
mod top;
mod undo;

use std::{
    ffi::OsStr,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use anyhow::Context;
use clap::{Parser, Subcommand};
use settings::{ConfigScope, Settings};

use crate::print::{Format, say};

#[global_allocator]
static ALLOCATOR: service::Jemalloc = service::Jemalloc;

/// What the exit codes of all commands mean; docs/operations.md says it as well.
const EXIT_CODES: &str = "Exit codes:
  0  done; nothing is wrong
  1  it failed, or something is wrong: a problem, an unknown event, an item that stays parked
  2  the arguments are wrong
  3  undecided: `playbook eval` has no answer to judge";

#[derive(Parser)]
#[command(
    name = "leadline",
    version,
    about = "Operates a fleet of Leadline services",
    arg_required_else_help = true,
    after_help = EXIT_CODES
)]
struct Arguments {
    /// The settings file.
    #[arg(long, env = "LEADLINE_CONFIG", global = true)]
    config: Option<PathBuf>,
    /// Only say whether the settings are valid, of all services together. `leadline check` also tries them.
    #[arg(long)]
    check_config: bool,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Migrates the ledger to the schema that this version needs, gives its roles their rights, and declares the queues.
    Migrate {
        /// Only say whether the ledger has every migration that this version needs, and fail when it has not. Any program's user may
        /// ask.
        #[arg(long)]
        check: bool,
        /// With `--check`: wait for up to so many seconds until it has them.
        #[arg(long, requires = "check", value_name = "SECONDS", default_value_t = 0,
              value_parser = clap::value_parser!(u64).range(..=3_600))]
        wait: u64,
    },
    /// Checks settings, playbooks, credentials, scopes, properties, models, RabbitMQ and the ledger, and lists every problem.
    Check {
        /// Do not ask the models anything. Otherwise each playbook asks each of its models one small question.
        #[arg(long)]
        no_questions: bool,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Checks, provisions, runs and evaluates playbooks.
    Playbook {
        #[command(subcommand)]
        command: playbooks::PlaybookCommand,
    },
    /// Shows the history of one event. `event requeue` publishes its message again.
    #[command(args_conflicts_with_subcommands = true, arg_required_else_help = true)]
    Event {
        /// The event's key or id.
        key_or_id: Option<String>,
        /// Also show prompts and raw answers. They contain what people wrote.
        #[arg(long)]
        prompts: bool,
        #[command(flatten)]
        format: Format,
        #[command(subcommand)]
        command: Option<EventCommand>,
    },
    /// Finds events by record, state, reason, playbook and time, and with `--follow` shows what becomes of them.
    Events(Box<events::EventsOptions>),
    /// Shows queues, unfinished work by state and age, what is parked, rate limits, spend limits and circuit breakers.
    Status(Format),
    /// Watches the fleet: queues, rates, limits, cost, the oldest and slowest events, what is parked and what pauses.
    Top(top::TopOptions),
    /// Lists, shows, replays and discards parked messages.
    Parked {
        #[command(subcommand)]
        command: parked::ParkedCommand,
    },
    /// Shows what playbooks propose, and approves, edits or rejects it.
    Review {
        #[command(subcommand)]
        command: review::ReviewCommand,
    },
    /// Finds events and write commands whose message is lost. With `--yes` it publishes them again.
    Reconcile(reconcile::ReconcileOptions),
    /// Queues the changes in HubSpot since a given time for which no webhook arrived.
    Backfill(backfill::BackfillOptions),
    /// Says why a property of a record has its value: event, playbook, quotation, model, cost, and what was before.
    Explain(explain::ExplainOptions),
    /// Puts back what the fleet wrote, and deletes the tasks and notes that it made. Without `--yes` it only shows what it would do.
    Undo(Box<undo::UndoOptions>),
    /// Erases a record's data from the ledger and the parking lots. Counts, costs and times remain.
    Erase {
        /// The record, like contact/123.
        record: String,
        /// Erase it. Without it, the command only says what it would do.
        #[arg(long)]
        yes: bool,
    },
    /// Prints the completions for a shell. For bash: `leadline completions bash > /etc/bash_completion.d/leadline`.
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
    /// Writes a man page for each command into a folder.
    Man {
        /// The folder.
        folder: PathBuf,
    },
}

#[derive(Subcommand)]
enum EventCommand {
    /// Publishes the message of an unfinished or parked event again, for example when it was lost.
    Requeue {
        /// The event's key or id.
        key_or_id: String,
    },
}

#[tokio::main]
async fn main() -> ExitCode {
    let called = std::env::args_os().next().unwrap_or_default();
    match Path::new(&called).file_name().and_then(OsStr::to_str) {
        Some("leadline-inference") => Box::pin(inference::main()).await,
        Some("leadline-writer") => Box::pin(writer::main()).await,
        // An error may contain what HubSpot, OpenAI or a file says.
        _ => print::conclude(run().await.unwrap_or_else(|error| {
            print::error(format_args!("Error: {error:?}"));
            ExitCode::FAILURE
        })),
    }
}

async fn run() -> anyhow::Result<ExitCode> {
    let Arguments { config, check_config, command } = Arguments::parse();
    http_client::install_tls_provider();
    let file = settings::file_or_default(config);
    if check_config {
        Settings::load(file.as_deref(), ConfigScope::Everything)?;
        say!("leadline: the settings are valid");
        return Ok(ExitCode::SUCCESS);
    }
    match command.context("which command? `leadline --help` lists them")? {
        Command::Migrate { check: true, wait } => migrate::check(file.as_deref(), Duration::from_secs(wait)).await,
        Command::Migrate { check: false, .. } => migrate::run(file.as_deref()).await,
        Command::Playbook { command } => playbooks::run(command, file.as_deref()).await,
        Command::Check { no_questions, json } => check::run(file.as_deref(), !no_questions, json).await,
        Command::Event { command: Some(EventCommand::Requeue { key_or_id }), .. } => {
            requeue::run(file.as_deref(), &key_or_id).await
        }
        Command::Event { key_or_id, prompts, format, command: None } => {
            let key_or_id = key_or_id.context("the event's key or id is missing")?;
            event::run(file.as_deref(), &key_or_id, prompts, format).await
        }
        Command::Events(options) => events::run(file.as_deref(), *options).await,
        Command::Top(options) => top::run(file.as_deref(), options).await,
        Command::Completions { shell } => Ok(manual::completions(shell)),
        Command::Man { folder } => manual::man(&folder),
        Command::Status(format) => status::run(file.as_deref(), format).await,
        Command::Parked { command } => parked::run(command, file.as_deref()).await,
        Command::Review { command } => review::run(command, file.as_deref()).await,
        Command::Reconcile(options) => reconcile::run(file.as_deref(), &options).await,
        Command::Backfill(options) => backfill::run(file.as_deref(), &options).await,
        Command::Explain(options) => explain::run(file.as_deref(), &options).await,
        Command::Undo(options) => undo::run(file.as_deref(), &options).await,
        Command::Erase { record, yes } => erase::run(file.as_deref(), &record, yes).await,
    }
}
