//! What the model was shown about an event.

use anyhow::{Context as _, bail};
use domain::ObjectType;
use ledger::{EventStory, InferenceEntry, Ledger};
use playbook::{ShownContext, TextFormat, plain_text};
use serde_json::Value;

/// The last question about the event of this playbook and record, as far as they are given.
///
/// # Errors
/// There is none, or questions of several playbooks or about several records.
pub fn asked_inference<'a>(
    story: &'a EventStory,
    playbook: Option<&str>,
    record: Option<&str>,
) -> anyhow::Result<&'a InferenceEntry> {
    let questions = story.inferences.iter().filter(|inference| inference.part.is_none());
    let mut wanted: Vec<&InferenceEntry> = Vec::new();
    for inference in questions {
        let is_other = playbook.is_some_and(|name| name != inference.playbook)
            || record.is_some_and(|record| record != record_of(inference));
        if is_other {
            continue;
        }
        // A later question about the same takes the place of an earlier one.
        wanted.retain(|other| (&other.playbook, record_of(other)) != (&inference.playbook, record_of(inference)));
        wanted.push(inference);
    }
    match wanted[..] {
        [one] => Ok(one),
        [] => {
            let reason = story.reason.map(|reason| format!(", {reason}")).unwrap_or_default();
            bail!("no answer about this event is in the ledger (state {}{reason}), so there is no context", story.state)
        }
        _ => {
            let all = wanted.iter().map(|one| format!("--playbook {} --record {}", one.playbook, record_of(one)));
            bail!("the event has several questions; choose one:\n  {}", all.collect::<Vec<_>>().join("\n  "))
        }
    }
}

fn record_of(inference: &InferenceEntry) -> String {
    format!("{}/{}", ObjectType::from(inference.object_type.as_str()), inference.object_id)
}

/// The most parts of a record in the ledger among which those of a context are looked for.
const MAX_PARTS: i64 = 1_000;

/// What the prompt of an inference showed, with the texts of the parts that it showed as summaries.
///
/// # Errors
/// The prompt, or that of a part, was deleted.
pub async fn shown_context(
    ledger: &Ledger,
    story: &EventStory,
    inference: &InferenceEntry,
) -> anyhow::Result<ShownContext> {
    let prompt = inference.prompt.as_ref().context(GONE)?;
    let mut shown = read_back(prompt)?;
    let summaries = std::mem::take(&mut shown.summaries);
    if summaries.is_empty() {
        return Ok(shown);
    }
    let record = (inference.object_type.as_str(), inference.object_id);
    // A part that was condensed for an earlier event of the record is not condensed again.
    let parts = ledger.condensed_part_texts(story.id, &inference.playbook, record, MAX_PARTS).await?;
    for summary in summaries {
        let part = parts.iter().find(|part| plain_text(&part.answer, TextFormat::Plain) == summary).context(GONE)?;
        shown.entries.extend(read_back(&part.prompt)?.entries);
    }
    Ok(shown)
}

const GONE: &str = "the event's prompts and answers are gone: they are deleted after retention.raw_days, and when a record is \
    erased. A case needs them; take a younger event";

fn read_back(prompt: &Value) -> anyhow::Result<ShownContext> {
    let messages = prompt.as_array().into_iter().flatten();
    let mut users =
        messages.filter(|message| message["role"] == "user").filter_map(|message| message["content"].as_str());
    users.find_map(ShownContext::of).context("the prompt in the ledger is of a form that this version does not read")
}
