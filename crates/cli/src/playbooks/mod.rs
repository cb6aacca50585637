//! `leadline playbook`: writing, provisioning and trying playbooks.

mod case;
mod eval;
mod explain;
mod provision;
mod run;

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::Subcommand;
use playbook::Playbook;
pub use provision::conflict;
use settings::{ConfigScope, Settings};

/// What can be done with playbooks.
#[derive(Subcommand)]
pub enum Command {
    /// Says what is wrong with playbooks, with file and line, and what each would subscribe to, read, ask and write.
    Check {
        /// The files.
        #[arg(required = true)]
        files: Vec<PathBuf>,
    },
    /// Creates the properties, groups and options that the playbooks write and the portal lacks. Never changes one that
    /// exists.
    Provision {
        /// The files; without any, the folder in the settings.
        files: Vec<PathBuf>,
        /// Only print the plan.
        #[arg(long)]
        dry_run: bool,
    },
    /// Tries a playbook on one record: shows context, prompt, answer, checks and what it would write.
    Run {
        /// The playbook.
        file: PathBuf,
        /// For example `contact/123`.
        #[arg(long)]
        record: String,
        /// Write it, by the way of every other write: ledger, queue, writer.
        #[arg(long)]
        write: bool,
    },
    /// Asks about a folder of cases with expected bounds, and prints a table of hits.
    Eval {
        /// The playbook.
        file: PathBuf,
        /// A folder of *.toml.
        cases: PathBuf,
    },
}

/// Runs the command with the settings in `config` and the environment.
pub async fn run(command: Command, config: Option<&Path>) -> anyhow::Result<ExitCode> {
    match command {
        Command::Check { files } => {
            // Needs nothing that runs: whoever writes a playbook has no credentials at hand.
            let settings = Settings::load(config, ConfigScope::LedgerOnly)?;
            match playbook::load_files(&files, &settings.inference.protected_properties) {
                Ok(playbooks) => {
                    playbooks.iter().for_each(|playbook| explain::print(playbook, &settings));
                    Ok(ExitCode::SUCCESS)
                }
                Err(error) => {
                    eprintln!("{error}");
                    Ok(ExitCode::FAILURE)
                }
            }
        }
        Command::Provision { files, dry_run } => {
            let settings = Settings::load(config, ConfigScope::Writer)?;
            let playbooks = if files.is_empty() {
                playbook::load(&settings.inference.playbooks, &settings.inference.protected_properties)?
            } else {
                playbook::load_files(&files, &settings.inference.protected_properties)?
            };
            provision::run(&settings, &playbooks, dry_run).await
        }
        Command::Run { file, record, write } => {
            let settings = Settings::load(config, ConfigScope::Inference)?;
            let playbook = one(&file, &settings)?;
            run::run(&settings, &playbook, &record, write).await
        }
        Command::Eval { file, cases } => {
            let settings = Settings::load(config, ConfigScope::OpenAiOnly)?;
            let playbook = one(&file, &settings)?;
            eval::run(&settings, &playbook, &cases).await
        }
    }
}

fn one(file: &Path, settings: &Settings) -> anyhow::Result<Playbook> {
    let files = [file.to_owned()];
    let mut playbooks = playbook::load_files(&files, &settings.inference.protected_properties)?;
    playbooks.pop().ok_or_else(|| anyhow::anyhow!("no playbook"))
}
