//! `leadline event`: the history of one event.

use std::{path::Path, process::ExitCode};

use domain::ObjectType;
use ledger::{
    ActionEntry, EventCost, EventStory, HistoryEntry, InferenceEntry, MergeEntry, SkippedWriteEntry, WriteEntry,
};
use serde_json::{Value, json};

use crate::{
    operator,
    print::{self, Cell, Format, Page, Table, column, say},
    times::utc,
};

/// Prints everything that the ledger knows about an event. Prompts and answers, which contain what people wrote, are
/// printed only with `prompts`.
pub async fn run(file: Option<&Path>, key_or_id: &str, prompts: bool, format: Format) -> anyhow::Result<ExitCode> {
    let Some(story) = operator::ledger_only(file)?.event_story(key_or_id).await? else {
        print::error(format_args!("the ledger has no event `{key_or_id}`"));
        return Ok(ExitCode::FAILURE);
    };
    if format.json {
        print::json(&story_json(&story, prompts))?;
        return Ok(ExitCode::SUCCESS);
    }
    print_story(&story, format)?;
    if prompts {
        print_prompts(&story.inferences);
    }
    Ok(ExitCode::SUCCESS)
}

/// Prints an event with its history, its answers and what followed from them.
pub fn print_story(story: &EventStory, format: Format) -> serde_json::Result<()> {
    page(story).print(format)
}

/// The same as JSON, with `prompts` also what the model was asked and said.
pub fn story_json(story: &EventStory, prompts: bool) -> Value {
    let mut json = page(story).json();
    if prompts {
        let texts = |inference: &InferenceEntry| json!({"playbook": inference.playbook, "prompt": inference.prompt, "answer": inference.answer});
        json["prompts"] = story.inferences.iter().map(texts).collect();
    }
    json
}

fn print_prompts(inferences: &[InferenceEntry]) {
    for inference in inferences {
        print::blank();
        say!("prompt of {}", inference.playbook);
        print::text(&inference.prompt.as_ref().map(messages).unwrap_or_default());
        say!("--- answer");
        print::text(&print::indented(inference.answer.as_deref().unwrap_or("(deleted)")));
    }
}

fn page(story: &EventStory) -> Page {
    let reason = story.reason.map(|reason| format!(" ({reason})")).unwrap_or_default();
    let labelled =
        |label: &str, value: Option<&String>| value.map(|value| format!("{label:<9} {value}")).unwrap_or_default();
    Page::default()
        .fact("key", story.key.clone(), format!("event     {}", story.key))
        .fact("id", story.id.to_string(), format!("id        {}", story.id))
        .fact("subscription_type", story.subscription_type.clone(), "")
        .fact(
            "occurred_at",
            story.occurred_at,
            format!("happened  {} at {} UTC", story.subscription_type, utc(story.occurred_at)),
        )
        .fact("state", story.state, format!("state     {}{reason}", story.state))
        .fact("reason", story.reason, "")
        .fact("detail", story.detail.clone(), labelled("detail", story.detail.as_ref()))
        .fact("requests", story.cost.requests, cost_sentence(&story.cost))
        .fact("cost_micro_dollars", story.cost.micro_dollars.map(Cell::MicroDollars), "")
        .fact("estimated_micro_dollars", Cell::MicroDollars(story.cost.estimated_micro_dollars), "")
        .fact("trace_id", story.trace_id.clone(), labelled("trace", story.trace_id.as_ref()))
        .section("history", "history", history_table(&story.history))
        .optional_section("merges", "merged since the decision", merges_table(&story.merges))
        .optional_section("inferences", "inferences", inferences_table(&story.inferences))
        .optional_section("writes", "written", writes_table(&story.writes))
        .optional_section(
            "skipped_writes",
            "not written (by the write policies)",
            skipped_writes_table(&story.skipped_writes),
        )
        .optional_section("actions", "actions", actions_table(&story.actions))
}

fn cost_sentence(cost: &EventCost) -> String {
    let EventCost { requests, micro_dollars, estimated_micro_dollars } = cost;
    if *requests == 0 {
        return String::new();
    }
    let estimated = match estimated_micro_dollars {
        0 => String::new(),
        micro_dollars => format!(", {micro_dollars} µ$ of it estimated because an answer does not say it"),
    };
    let micro_dollars = micro_dollars.map_or_else(|| "unknown".to_owned(), |cost| format!("{cost} µ$"));
    format!("cost      {micro_dollars} for {requests} requests to the model{estimated}")
}

fn history_table(entries: &[HistoryEntry]) -> Table {
    let mut history = Table::new([
        column("at", "at"),
        column("from", "from_state"),
        column("to", "state"),
        column("attempt", "attempt"),
        column("reason", "reason"),
        column("worker", "worker"),
    ]);
    for entry in entries {
        history.add([
            entry.at.into(),
            entry.from_state.into(),
            entry.state.into(),
            entry.attempt.into(),
            entry.reason.into(),
            entry.worker.clone().into(),
        ]);
    }
    history
}

fn merges_table(entries: &[MergeEntry]) -> Table {
    let mut merges = Table::new([column("record", "record"), column("was merged into", "survivor")]);
    for MergeEntry { object_type, merged_from, object_id } in entries {
        merges.add([record(object_type, *merged_from), record(object_type, *object_id)]);
    }
    merges
}

fn inferences_table(entries: &[InferenceEntry]) -> Table {
    let mut inferences = Table::new([
        column("answered", "answered_at"),
        column("playbook", "playbook"),
        column("record", "record"),
        column("model", "model"),
        column("tier", "service_tier"),
        column("outcome", "outcome"),
        column("tokens in", "prompt_tokens"),
        column("tokens out", "completion_tokens"),
        column("µ$", "cost_micro_dollars"),
        column("ms", "latency_ms"),
    ]);
    for inference in entries {
        inferences.add([
            inference.created_at.into(),
            format!("{}@{}", inference.playbook, inference.playbook_version).into(),
            record(&inference.object_type, inference.object_id),
            inference.model.clone().into(),
            inference.service_tier.map(|tier| tier.to_string()).into(),
            outcome(inference).into(),
            inference.prompt_tokens.into(),
            inference.completion_tokens.into(),
            inference.cost_micro_dollars.map_or(Cell::Unknown, Cell::Number),
            inference.latency_ms.into(),
        ]);
    }
    inferences
}

fn writes_table(entries: &[WriteEntry]) -> Table {
    let mut writes = Table::new([
        column("written", "written_at"),
        column("record", "record"),
        column("property", "property"),
        column("before", "before"),
        column("after", "after"),
    ]);
    for write in entries {
        writes.add([
            write.written_at.into(),
            record(&write.object_type, write.object_id),
            write.property.clone().into(),
            value(write.before.as_ref()),
            write.after.clone().into(),
        ]);
    }
    writes
}

fn skipped_writes_table(entries: &[SkippedWriteEntry]) -> Table {
    let mut skipped_writes = Table::new([
        column("record", "record"),
        column("property", "property"),
        column("reason", "reason"),
        column("current value", "current_value"),
        column("proposed value", "proposed_value"),
    ]);
    for skipped in entries {
        skipped_writes.add([
            record(&skipped.object_type, skipped.object_id),
            skipped.property.clone().into(),
            skipped.reason.into(),
            value(skipped.current_value.as_ref()),
            skipped.proposed_value.clone().into(),
        ]);
    }
    skipped_writes
}

fn actions_table(entries: &[ActionEntry]) -> Table {
    let mut actions = Table::new([
        column("action", "name"),
        column("kind", "kind"),
        column("state", "state"),
        column("reason", "reason"),
        column("HubSpot id", "hubspot_id"),
        column("action id", "id").whole(),
    ]);
    for action in entries {
        actions.add([
            action.name.clone().into(),
            action.kind.to_string().into(),
            action.state.into(),
            action.reason.into(),
            action.hubspot_id.map(|id| id.to_string()).into(),
            action.id.to_string().into(),
        ]);
    }
    actions
}

/// The messages of a prompt, each under its role, and indented: no line of them looks like one of ours.
pub fn messages(prompt: &Value) -> String {
    let message = |message: &Value| {
        let text = |name: &str| message[name].as_str().unwrap_or_default();
        format!("--- {}\n{}", text("role"), print::indented(text("content")))
    };
    prompt.as_array().into_iter().flatten().map(message).collect()
}

/// A record as operators name it.
pub fn record(object_type: &str, id: i64) -> Cell {
    format!("{}/{id}", ObjectType::from(object_type)).into()
}

/// A property's value; people see that it was empty.
fn value(value: Option<&String>) -> Cell {
    value.map_or(Cell::EmptyValue, |value| value.as_str().into())
}

fn outcome(inference: &InferenceEntry) -> String {
    let part = if inference.part.is_some() { " (summary of a part)" } else { "" };
    let unverified = if inference.unverified.is_empty() {
        String::new()
    } else {
        format!(", quotation not found: {}", inference.unverified.join(", "))
    };
    format!("{}{part}{unverified}", inference.outcome)
}

#[cfg(test)]
mod tests {
    use domain::Reason;
    use ledger::SkippedWriteEntry;

    use super::skipped_writes_table;

    #[test]
    fn a_value_that_was_not_written_is_shown_with_its_reason() {
        let skipped = SkippedWriteEntry {
            object_type: "0-1".to_owned(),
            object_id: 1,
            property: "lead_score".to_owned(),
            reason: Reason::KeptHumanValue,
            current_value: None,
            proposed_value: "85".to_owned(),
        };
        let table = skipped_writes_table(&[skipped]);
        let shown = table.whole_text();
        for part in ["CURRENT VALUE", "contact/1", "lead_score", "kept_human_value", "(empty)", "85"] {
            assert!(shown.contains(part), "{part} in\n{shown}");
        }
        assert_eq!(table.json()[0]["current_value"], serde_json::Value::Null);
    }
}
