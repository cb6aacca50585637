//! `leadline playbook case`: makes a case of what the model was asked about a real event.

mod addresses;
mod case_text;
mod expected;
mod known_names;
mod masked;
mod names;
mod placeholders;
mod shown;

use std::{
    io::Write,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context as _, bail};
use clap::Args;
use ledger::InferenceEntry;
use playbook::Playbook;
use settings::{ConfigScope, Settings};

use self::{
    case_text::{CaseText, case_text},
    known_names::{GivenNames, KnownNames},
    placeholders::Placeholders,
    shown::{asked_inference, shown_context},
};
use super::cases::EvalCase;
use crate::{operator, print};

#[derive(Args)]
pub struct CaseOptions {
    /// The event's key or id.
    event: String,
    /// Write the case to this new file; without it, it is printed.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// The playbook file; by default the one of that name in the folder of the settings.
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Of an event with questions of several playbooks, this one.
    #[arg(long, value_name = "NAME")]
    playbook: Option<String>,
    /// Of an event with questions about several records, this one, like contact/123.
    #[arg(long)]
    record: Option<String>,
    /// The name of a person to replace beside those that are found, like "Ada King".
    #[arg(long = "person", value_name = "NAME")]
    persons: Vec<String>,
    /// The name of a company to replace beside those that are found.
    #[arg(long = "company", value_name = "NAME")]
    companies: Vec<String>,
}

/// Runs the command with the settings in `config` and the environment.
pub async fn run(config: Option<&Path>, options: &CaseOptions) -> anyhow::Result<ExitCode> {
    let settings = Settings::load(config, ConfigScope::LedgerOnly).context("settings")?;
    let ledger = operator::ledger(&settings)?;
    let Some(story) = ledger.event_story(&options.event).await? else {
        bail!("the ledger has no event `{}`", options.event);
    };
    let inference = asked_inference(&story, options.playbook.as_deref(), options.record.as_deref())?;
    let mut shown = shown_context(&ledger, &story, inference).await?;
    let playbook = playbook_of(&settings, inference, options.file.as_deref())?;
    masked::replace_masks(&mut shown, &playbook);

    let given = GivenNames { persons: &options.persons, companies: &options.companies };
    let mut placeholders = Placeholders::new(KnownNames::of(&shown, given)?);
    placeholders.replace_in(&mut shown);
    let (mut case, path_notes) = CaseText::of(&shown, &playbook, story.occurred_at.date())?;
    let fields = expected::fields(&playbook, inference);
    if let Some(fields) = &fields {
        case.expect = expected::expectations(&playbook, fields);
        let without = EvalCase::parse("case.toml", &case_text(&case), &playbook).context(NOT_A_CASE)?;
        case.actions = expected::actions(&playbook, &without, fields, &inference.model);
    }
    let text = case_text(&case);
    EvalCase::parse("case.toml", &text, &playbook).context(NOT_A_CASE)?;
    match &options.out {
        Some(file) => write_new(file, &text)?,
        None => print::text(&text),
    }
    let mut notes = path_notes;
    notes.extend(shown.left_out.iter().map(|what| format!("the model did not see all of it: {what}")));
    if inference.playbook_version != playbook.version {
        notes.push(format!("the playbook was {} then and is {} now", inference.playbook_version, playbook.version));
    }
    if fields.is_none() {
        notes.push("the answer could not be used, so the case expects nothing yet".to_owned());
    }
    say_what_to_look_at(&placeholders, &shown, &notes);
    Ok(ExitCode::SUCCESS)
}

/// Only when the playbook has changed since.
const NOT_A_CASE: &str =
    "the playbook has changed, and what was read then is no case of it now; --file names another one";

fn playbook_of(settings: &Settings, inference: &InferenceEntry, file: Option<&Path>) -> anyhow::Result<Playbook> {
    let playbook = if let Some(file) = file {
        super::one(file, settings)?
    } else {
        let folder = &settings.inference.playbooks;
        let playbooks = playbook::load(folder, &settings.inference.protected_properties)?;
        let named = playbooks.into_iter().find(|playbook| playbook.name == inference.playbook);
        named.with_context(|| {
            format!("{} has no playbook `{}`; give its file with --file", folder.display(), inference.playbook)
        })?
    };
    if playbook.name != inference.playbook {
        bail!("the question was one of the playbook `{}`, not of `{}`", inference.playbook, playbook.name);
    }
    Ok(playbook)
}

/// Never over another case.
fn write_new(file: &Path, text: &str) -> anyhow::Result<()> {
    let cannot_write = || format!("cannot write {}", file.display());
    let mut new = std::fs::File::create_new(file).with_context(cannot_write)?;
    new.write_all(text.as_bytes()).with_context(cannot_write)
}

/// On the standard error output, beside the case itself.
fn say_what_to_look_at(placeholders: &Placeholders, shown: &playbook::ShownContext, notes: &[String]) {
    let replaced = placeholders.replaced();
    if replaced.is_empty() {
        print::error("replaced: nothing");
    } else {
        print::error("replaced:");
        for (original, placeholder) in replaced {
            // An original may have line breaks, and nothing of it may look like a line of ours.
            print::error(format_args!("  {} → {placeholder}", print::visible(original)));
        }
    }
    let mut suspects = placeholders.kept_in(shown);
    suspects.extend(names::suspects(shown));
    if !suspects.is_empty() {
        let suspects = suspects.join(", ");
        let suspects = print::visible(&suspects);
        print::error(format_args!("kept, and perhaps names (--person and --company replace more): {suspects}"));
    }
    notes.iter().for_each(|note| print::error(format_args!("note: {}", print::visible(note))));
    print::error(
        "A person must read every line before this is committed: names are found by rules, and addresses, numbers and \
         what else tells who somebody is stay as they are. Correct the expectations, too: they are what the model said.",
    );
}
