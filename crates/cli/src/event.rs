//! `leadline event`: the history of one event.

use std::fmt::Display;

use domain::ObjectType;
use ledger::{
    ActionEntry, EventCost, EventStory, HistoryEntry, InferenceEntry, MergeEntry, SkippedWriteEntry, WriteEntry,
};
use serde_json::Value;

use crate::{
    print::{self, Table, say, section, table},
    times::utc,
};

/// Prints everything that the ledger knows about an event. Prompts and answers, which contain what people wrote, are
/// printed only with `prompts`.
pub fn print(story: &EventStory, prompts: bool) {
    print_summary(story);
    section("history", &history_table(&story.history));
    let sections = [
        ("merged since the decision", merges_table(&story.merges)),
        ("inferences", inferences_table(&story.inferences)),
        ("written", writes_table(&story.writes)),
        ("not written (by the write policies)", skipped_writes_table(&story.skipped_writes)),
        ("actions", actions_table(&story.actions)),
    ];
    for (title, table) in sections.iter().filter(|(_, table)| !table.is_empty()) {
        section(title, table);
    }
    if prompts {
        for inference in &story.inferences {
            print::blank();
            say!("prompt of {}", inference.playbook);
            print::text(&inference.prompt.as_ref().map(messages).unwrap_or_default());
            say!("--- answer");
            print::text(&print::indented(inference.answer.as_deref().unwrap_or("(deleted)")));
        }
    }
}

fn print_summary(story: &EventStory) {
    say!("event     {}", story.key);
    say!("id        {}", story.id);
    say!("happened  {} at {} UTC", story.subscription_type, utc(story.occurred_at));
    let reason = story.reason.map(|reason| format!(" ({reason})")).unwrap_or_default();
    say!("state     {}{reason}", story.state);
    if let Some(detail) = &story.detail {
        say!("detail    {detail}");
    }
    let EventCost { requests, micro_dollars, estimated_micro_dollars } = story.cost;
    if requests > 0 {
        let estimated = match estimated_micro_dollars {
            0 => String::new(),
            micro_dollars => format!(", {micro_dollars} µ$ of it estimated because an answer does not say it"),
        };
        let micro_dollars = micro_dollars.map_or_else(|| "unknown".to_owned(), |cost| format!("{cost} µ$"));
        say!("cost      {micro_dollars} for {requests} requests to the model{estimated}");
    }
    if let Some(trace) = &story.trace_id {
        say!("trace     {trace}");
    }
}

fn history_table(entries: &[HistoryEntry]) -> Table {
    let mut history = table(&["at", "from", "to", "attempt", "reason", "worker"]);
    for entry in entries {
        history.add_row([
            utc(entry.at),
            or_empty(entry.from_state),
            entry.state.to_string(),
            entry.attempt.to_string(),
            or_empty(entry.reason),
            entry.worker.clone(),
        ]);
    }
    history
}

fn merges_table(entries: &[MergeEntry]) -> Table {
    let mut merges = table(&["record", "was merged into"]);
    for MergeEntry { object_type, merged_from, object_id } in entries {
        merges.add_row([record(object_type, *merged_from), record(object_type, *object_id)]);
    }
    merges
}

fn inferences_table(entries: &[InferenceEntry]) -> Table {
    let header = ["answered", "playbook", "record", "model", "tier", "outcome", "tokens in", "tokens out", "µ$", "ms"];
    let mut inferences = table(&header);
    for inference in entries {
        inferences.add_row([
            utc(inference.created_at),
            format!("{}@{}", inference.playbook, inference.playbook_version),
            record(&inference.object_type, inference.object_id),
            inference.model.clone(),
            or_empty(inference.service_tier),
            outcome(inference),
            inference.prompt_tokens.to_string(),
            inference.completion_tokens.to_string(),
            inference.cost_micro_dollars.map_or_else(|| "unknown".to_owned(), |cost| cost.to_string()),
            inference.latency_ms.to_string(),
        ]);
    }
    inferences
}

fn writes_table(entries: &[WriteEntry]) -> Table {
    let mut writes = table(&["at", "record", "property", "before", "after"]);
    for write in entries {
        writes.add_row([
            utc(write.written_at),
            record(&write.object_type, write.object_id),
            write.property.clone(),
            value(write.before.as_ref()),
            write.after.clone(),
        ]);
    }
    writes
}

fn skipped_writes_table(entries: &[SkippedWriteEntry]) -> Table {
    let mut skipped_writes = table(&["record", "property", "reason", "current value", "proposed value"]);
    for skipped in entries {
        skipped_writes.add_row([
            record(&skipped.object_type, skipped.object_id),
            skipped.property.clone(),
            skipped.reason.to_string(),
            value(skipped.current_value.as_ref()),
            skipped.proposed_value.clone(),
        ]);
    }
    skipped_writes
}

fn actions_table(entries: &[ActionEntry]) -> Table {
    let mut actions = table(&["action", "kind", "state", "reason", "HubSpot id", "action id"]);
    for action in entries {
        actions.add_row([
            action.name.clone(),
            action.kind.to_string(),
            action.state.to_string(),
            or_empty(action.reason),
            or_empty(action.hubspot_id),
            action.id.to_string(),
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

fn record(object_type: &str, id: i64) -> String {
    format!("{}/{id}", ObjectType::from(object_type))
}

fn or_empty(value: Option<impl Display>) -> String {
    value.map(|value| value.to_string()).unwrap_or_default()
}

fn value(value: Option<&String>) -> String {
    value.cloned().unwrap_or_else(|| "(empty)".to_owned())
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
        let shown = skipped_writes_table(&[skipped]).to_string();
        for part in ["current value", "contact/1", "lead_score", "kept_human_value", "(empty)", "85"] {
            assert!(shown.contains(part), "{part} in\n{shown}");
        }
    }
}
