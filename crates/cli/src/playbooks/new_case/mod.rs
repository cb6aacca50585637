//! `leadline playbook case`: makes a case of what the model was asked about a real event, or of each answer that people corrected.

mod addresses;
mod case_text;
mod expected;
mod known_names;
mod masked;
mod names;
mod overrides;
mod placeholders;
mod shown;

use std::{
    io::Write,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context as _, bail};
use clap::Args;
use ledger::{CorrectedValue, EventStory, InferenceEntry, Ledger};
use playbook::{Playbook, ShownContext};
use settings::{ConfigScope, Settings};
use time::OffsetDateTime;

use self::{
    case_text::{CaseText, case_text},
    known_names::{GivenNames, KnownNames},
    placeholders::Placeholders,
    shown::{asked_inference, shown_context},
};
use super::cases::EvalCase;
use crate::{operator, print, times};

#[derive(Args)]
pub struct CaseOptions {
    /// The event's key or id.
    #[arg(required_unless_present = "from")]
    event: Option<String>,
    /// Make a case of each answer of which people changed values, after they were written or in a review; it expects theirs.
    #[arg(long, conflicts_with_all = ["event", "record"])]
    from: Option<CaseSource>,
    /// With `--from`: of values that were seen to be changed at this time or later: 2026-11-24T10:00:00Z, 2026-11-24, or how long ago,
    /// like 6h. By default 30 days.
    #[arg(long, requires = "from", value_parser = times::parse, value_name = "TIME")]
    since: Option<OffsetDateTime>,
    /// With `--from`: at most so many, the newest.
    #[arg(long, requires = "from", value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    limit: u32,
    /// Write the case to this new file, or the cases into this folder; without it, they are printed.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// The playbook file; by default the one of that name in the folder of the settings.
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Of an event with questions of several playbooks, this one. With `--from`: only of this one.
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

/// What cases are made of, beside one event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum CaseSource {
    /// What people changed of the values that were written or proposed.
    Overrides,
}

/// A case, and what a person should know about it.
struct MadeCase {
    text: String,
    placeholders: Placeholders,
    shown: ShownContext,
    notes: Vec<String>,
    /// How many of the corrections it expects.
    corrections: usize,
}

/// Runs the command with the settings in `config` and the environment.
pub async fn run(config: Option<&Path>, options: &CaseOptions) -> anyhow::Result<ExitCode> {
    let settings = Settings::load(config, ConfigScope::LedgerOnly).context("settings")?;
    let ledger = operator::ledger(&settings)?;
    let Some(event) = &options.event else {
        return overrides::run(&settings, &ledger, options).await;
    };
    let Some(story) = ledger.event_story(event).await? else {
        bail!("the ledger has no event `{event}`");
    };
    let inference = asked_inference(&story, options.playbook.as_deref(), options.record.as_deref())?;
    let case = make((&settings, &ledger, options), &story, inference, &[]).await?;
    match &options.out {
        Some(file) => write_new(file, &case.text)?,
        None => print::text(&case.text),
    }
    say_what_to_look_at(&case);
    print::error(READ_IT);
    Ok(ExitCode::SUCCESS)
}

/// Makes a case of what was asked, which expects what was answered, or what people have set in its place.
async fn make(
    (settings, ledger, options): (&Settings, &Ledger, &CaseOptions),
    story: &EventStory,
    inference: &InferenceEntry,
    corrected: &[CorrectedValue],
) -> anyhow::Result<MadeCase> {
    let mut shown = shown_context(ledger, story, inference).await?;
    let playbook = playbook_of(settings, inference, options.file.as_deref())?;
    masked::replace_masks(&mut shown, &playbook);

    let given = GivenNames { persons: &options.persons, companies: &options.companies };
    let mut placeholders = Placeholders::new(KnownNames::of(&shown, given)?);
    placeholders.replace_in(&mut shown);
    let (mut case, mut notes) = CaseText::of(&shown, &playbook, story.occurred_at.date())?;
    notes.extend(shown.left_out.iter().map(|what| format!("the model did not see all of it: {what}")));
    let mut fields = expected::fields(&playbook, inference);
    let mut by_people = Vec::new();
    if let Some(fields) = &mut fields {
        let not_expected;
        (by_people, not_expected) = expected::correct(&playbook, fields, corrected);
        notes.extend(not_expected);
        if !by_people.is_empty() {
            case.what = format!("{}, corrected by a person: {}", case.what, by_people.join(", "));
        }
        case.expect = expected::expectations(&playbook, fields);
        let without = EvalCase::parse("case.toml", &case_text(&case), &playbook).context(NOT_A_CASE)?;
        case.actions = expected::actions(&playbook, &without, fields, &inference.model);
    } else {
        notes.push("the answer could not be used, so the case expects nothing yet".to_owned());
    }
    let text = case_text(&case);
    EvalCase::parse("case.toml", &text, &playbook).context(NOT_A_CASE)?;
    if inference.playbook_version != playbook.version {
        notes.push(format!("the playbook was {} then and is {} now", inference.playbook_version, playbook.version));
    }
    Ok(MadeCase { text, placeholders, shown, notes, corrections: by_people.len() })
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
fn say_what_to_look_at(MadeCase { placeholders, shown, notes, .. }: &MadeCase) {
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
}

/// What everybody who makes cases has to know.
const READ_IT: &str = "A person must read every line before this is committed: names are found by rules, and addresses, numbers and \
    what else tells who somebody is stay as they are. Correct the expectations, too: they are what the model said.";
