//! `leadline playbook`: checks, provisions, runs and evaluates playbooks.

mod cases;
mod cost;
mod eval;
mod explain;
mod new_case;
mod provision;
mod report;
mod resume;
mod rules;
mod run;

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Context;
use clap::Subcommand;
use playbook::Playbook;
pub use provision::conflict;
pub use resume::table as held_back_table;
pub use rules::broken_rules;
use settings::{ConfigScope, Settings};

use crate::{check::model_findings, print, print::say};

#[derive(Subcommand)]
pub enum PlaybookCommand {
    /// Checks playbook files. Prints every error with file and line, or what each playbook subscribes to, reads, asks,
    /// writes and does.
    Check {
        /// The playbook files.
        #[arg(required = true)]
        files: Vec<PathBuf>,
    },
    /// Creates the properties that the playbooks write and the portal lacks, in a property group of their own. Never changes
    /// an existing property.
    Provision {
        /// The playbook files; by default those in the folder of the settings.
        files: Vec<PathBuf>,
        /// Only print the plan.
        #[arg(long)]
        dry_run: bool,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Runs a playbook for one record and shows context, prompt, answer, checks and what it would write.
    Run {
        /// The playbook file.
        file: PathBuf,
        /// The record, like contact/123.
        #[arg(long)]
        record: String,
        /// Also write it, like every other write: through the ledger, the queue and the writer.
        #[arg(long)]
        write: bool,
    },
    /// Prints what an answer costs for each playbook and model: of the prompts of its cases and an answer of usual length. Asks
    /// nothing.
    Cost {
        /// The playbook files, each with its cases in `cases/NAME` beside it; by default those in the folder of the settings.
        files: Vec<PathBuf>,
        /// A model to compare; by default all that are known and answer today.
        #[arg(long = "model")]
        models: Vec<String>,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Asks one or several models about a folder of cases and compares the answers with what the cases expect, and with each
    /// other. Exit code: 0 good, 1 an expectation is not met (with --baseline: too many), 2 wrong arguments, 3 undecided.
    Eval(eval::EvalOptions),
    /// Makes a case of what the model was asked about a real event, with names replaced. With `--from overrides`, of each answer that
    /// people corrected.
    Case(new_case::CaseOptions),
    /// Shows how good a playbook's answers are, by version: what was written, kept, refused and parked, what people changed, what it
    /// cost, and how the values spread, against the version before.
    Report(report::ReportOptions),
    /// Lets a version go on that steps back to review because a rate of it left its bound. Answers count anew from then on.
    Resume(resume::ResumeOptions),
}

/// Runs the command with the settings in `config` and the environment.
pub async fn run(command: PlaybookCommand, config: Option<&Path>) -> anyhow::Result<ExitCode> {
    match command {
        PlaybookCommand::Check { files } => {
            // The check needs no credentials and no running service, so that everyone who writes a playbook can run it.
            let settings = Settings::load(config, ConfigScope::LedgerOnly)?;
            match playbook::load_files(&files, &settings.inference.protected_properties) {
                Ok(playbooks) => {
                    playbooks.iter().for_each(|playbook| explain::print(playbook, &settings));
                    let (findings, refused) = model_findings(&settings, &playbooks);
                    findings.warnings.iter().for_each(|warning| say!("warning: {warning}"));
                    let problems = [findings.problems, refused].concat();
                    problems.iter().for_each(print::error);
                    Ok(if problems.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
                }
                Err(error) => {
                    print::error(error);
                    Ok(ExitCode::FAILURE)
                }
            }
        }
        PlaybookCommand::Provision { files, dry_run, json } => {
            let settings = Settings::load(config, ConfigScope::Writer)?;
            let playbooks = if files.is_empty() {
                playbook::load(&settings.inference.playbooks, &settings.inference.protected_properties)?
            } else {
                playbook::load_files(&files, &settings.inference.protected_properties)?
            };
            provision::run(&settings, &playbooks, dry_run, json).await
        }
        PlaybookCommand::Run { file, record, write } => {
            let settings = Settings::load(config, ConfigScope::Inference)?;
            let playbook = one(&file, &settings)?;
            run::run(&settings, &playbook, &record, write).await
        }
        PlaybookCommand::Cost { files, models, json } => {
            let settings = Settings::load(config, ConfigScope::LedgerOnly)?;
            let files = if files.is_empty() { cost::files_of(&settings)? } else { files };
            cost::run(&settings, &files, &models, json)
        }
        PlaybookCommand::Eval(options) => Ok(eval::run(config, &options).await),
        PlaybookCommand::Case(options) => new_case::run(config, &options).await,
        PlaybookCommand::Report(options) => report::run(config, options).await,
        PlaybookCommand::Resume(options) => resume::run(config, &options).await,
    }
}

fn one(file: &Path, settings: &Settings) -> anyhow::Result<Playbook> {
    let files = [file.to_owned()];
    let mut playbooks = playbook::load_files(&files, &settings.inference.protected_properties)?;
    let mut playbook = playbooks.pop().with_context(|| format!("{} holds no playbook", file.display()))?;
    playbook.effects.escapes_formulas = settings.inference.escape_formulas;
    Ok(playbook)
}
