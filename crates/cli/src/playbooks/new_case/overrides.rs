//! `leadline playbook case --from overrides`: a case of each answer of which people changed values, after they were written or when
//! they were proposed. Of a rejected proposal the right values are not known: it is told, with the reason.

use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Context as _;
use domain::InferenceId;
use ledger::{CorrectedAnswer, Ledger, RejectedAnswer};
use settings::Settings;
use time::{Duration, OffsetDateTime};

use super::{CaseOptions, MadeCase, READ_IT, asked_inference, make, say_what_to_look_at, write_new};
use crate::{print, times};

/// How far back it is looked for overrides by itself.
const DEFAULT_SINCE: Duration = Duration::days(30);

/// Makes the cases. An answer of which none can be made is told and left out.
pub async fn run(settings: &Settings, ledger: &Ledger, options: &CaseOptions) -> anyhow::Result<ExitCode> {
    let since = options.since.unwrap_or_else(|| OffsetDateTime::now_utc() - DEFAULT_SINCE);
    let answers = ledger.corrected_answers(options.playbook.as_deref(), since, options.limit.into()).await?;
    if answers.is_empty() {
        print::error(format_args!("no person was seen to change a value since {} UTC", times::utc(since)));
        tell_rejected(ledger, options, since).await?;
        return Ok(ExitCode::SUCCESS);
    }
    if let Some(folder) = &options.out {
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    }
    let (mut made, mut left_out) = (0, 0);
    for answer in &answers {
        let name = file_name(answer);
        let file = options.out.as_deref().map(|folder| folder.join(&name));
        if file.as_deref().is_some_and(Path::exists) {
            print::error(format_args!("{name}: is there already"));
            continue;
        }
        match case_of((settings, ledger, options), answer).await {
            Ok(case) if case.corrections > 0 => {
                put(&name, file, &case)?;
                made += 1;
            }
            Ok(case) => {
                print::error(format_args!("{name}: left out, {}", print::visible(&case.notes.join("; "))));
                left_out += 1;
            }
            Err(error) => {
                print::error(format_args!("{name}: left out, {error:#}"));
                left_out += 1;
            }
        }
    }
    print::error(format_args!("{made} cases made, {left_out} corrected answers left out"));
    tell_rejected(ledger, options, since).await?;
    if made > 0 {
        print::error(READ_IT);
    }
    Ok(if made == 0 && left_out > 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

async fn case_of(from: (&Settings, &Ledger, &CaseOptions), answer: &CorrectedAnswer) -> anyhow::Result<MadeCase> {
    let (_, ledger, _) = from;
    let story = ledger.event_story(&answer.event_id.to_string()).await?.context("its event is gone")?;
    let record = answer.record.to_string();
    let inference = asked_inference(&story, Some(&answer.playbook), Some(&record))?;
    make(from, &story, inference, &answer.values).await
}

/// Tells of rejected proposals, so that a person who knows what is right makes their cases.
async fn tell_rejected(ledger: &Ledger, options: &CaseOptions, since: OffsetDateTime) -> anyhow::Result<()> {
    let rejected = ledger.rejected_answers(options.playbook.as_deref(), since, options.limit.into()).await?;
    if rejected.is_empty() {
        return Ok(());
    }
    let count = rejected.len();
    print::error(format_args!(
        "{count} rejected, without the right values: no case. `leadline playbook case EVENT` makes one to correct:"
    ));
    for RejectedAnswer { event_id, record, proposed, why } in &rejected {
        let values: Vec<_> = proposed.iter().map(|(property, value)| format!("{property} = {value}")).collect();
        let (values, why) = (values.join(", "), why.as_deref().unwrap_or_default());
        let (values, why) = (print::visible(&values), print::visible(why));
        print::error(format_args!("  {event_id} ({record}): {values}; because: {why}"));
    }
    Ok(())
}

/// By the answer's id, so that it is the same whenever it is made, and names nobody.
fn file_name(answer: &CorrectedAnswer) -> String {
    let InferenceId(id) = answer.inference_id;
    let id = id.simple().to_string();
    format!("override-{}-{}.toml", answer.playbook, &id[id.len() - 12..])
}

fn put(name: &str, file: Option<PathBuf>, case: &MadeCase) -> anyhow::Result<()> {
    if let Some(file) = file {
        write_new(&file, &case.text)?;
    } else {
        print::line(format_args!("# {name}"));
        print::text(&case.text);
        print::blank();
    }
    print::error(format_args!("{name}:"));
    say_what_to_look_at(case);
    Ok(())
}
