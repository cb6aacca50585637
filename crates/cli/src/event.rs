//! `leadline event`: the history of one event.

use domain::ObjectType;
use ledger::{EventStory, InferenceEntry};
use serde_json::Value;

use crate::operator::{clock, table};

/// Prints everything the ledger knows about an event; prompts and answers only when asked for.
pub fn print(story: &EventStory, prompts: bool) {
    println!("event     {}", story.key);
    println!("id        {}", story.id);
    println!("happened  {} at {}", story.subscription_type, clock(story.occurred_at));
    let reason = story.reason.map(|reason| format!(" ({reason})")).unwrap_or_default();
    println!("state     {}{reason}", story.state);
    if let Some(detail) = &story.detail {
        println!("          {detail}");
    }
    if let Some(trace) = &story.trace_id {
        println!("trace     {trace}");
    }

    let mut history = table(&["at", "from", "to", "attempt", "reason", "worker"]);
    for entry in &story.history {
        history.add_row([
            clock(entry.at),
            entry.from_state.map(|state| state.to_string()).unwrap_or_default(),
            entry.state.to_string(),
            entry.attempt.to_string(),
            entry.reason.map(|reason| reason.to_string()).unwrap_or_default(),
            entry.worker.clone(),
        ]);
    }
    println!("\nhistory\n{history}");

    if !story.inferences.is_empty() {
        let mut inferences =
            table(&["answered", "playbook", "about", "model", "outcome", "tokens in", "out", "µ$", "ms"]);
        for inference in &story.inferences {
            inferences.add_row([
                clock(inference.created_at),
                format!("{}@{}", inference.playbook, inference.playbook_version),
                record(&inference.object_type, inference.object_id),
                inference.model.clone(),
                outcome(inference),
                inference.prompt_tokens.to_string(),
                inference.completion_tokens.to_string(),
                inference.cost_micro_dollars.map_or_else(|| "?".to_owned(), |cost| cost.to_string()),
                inference.latency_ms.to_string(),
            ]);
        }
        println!("\ninferences\n{inferences}");
    }
    if !story.writes.is_empty() {
        let mut writes = table(&["written", "record", "property", "before", "after"]);
        for write in &story.writes {
            writes.add_row([
                clock(write.written_at),
                record(&write.object_type, write.object_id),
                write.property.clone(),
                value(write.before.as_ref()),
                write.after.clone(),
            ]);
        }
        println!("\nwrites\n{writes}");
    }
    if !story.skipped_writes.is_empty() {
        let mut kept = table(&["record", "property", "reason", "leased_elsewhere", "wanted"]);
        for item in &story.skipped_writes {
            kept.add_row([
                record(&item.object_type, item.object_id),
                item.property.clone(),
                item.reason.to_string(),
                value(item.current_value.as_ref()),
                item.proposed_value.clone(),
            ]);
        }
        println!("\nkept\n{kept}");
    }
    if !story.actions.is_empty() {
        let mut actions = table(&["action", "kind", "state", "reason", "in HubSpot", "id"]);
        for action in &story.actions {
            actions.add_row([
                action.name.clone(),
                action.kind.to_string(),
                action.state.to_string(),
                action.reason.map(|reason| reason.to_string()).unwrap_or_default(),
                action.hubspot_id.map(|id| id.to_string()).unwrap_or_default(),
                action.id.to_string(),
            ]);
        }
        println!("\nactions\n{actions}");
    }
    if prompts {
        for inference in &story.inferences {
            println!("\nprompt of {}", inference.playbook);
            print!("{}", inference.prompt.as_ref().map(messages).unwrap_or_default());
            println!("--- answer\n{}", inference.answer.as_deref().unwrap_or("(gone)"));
        }
    }
}

/// The messages of a prompt, each after who says it.
pub fn messages(prompt: &Value) -> String {
    let message = |message: &Value| {
        let text = |name: &str| message[name].as_str().unwrap_or_default();
        format!("--- {}\n{}\n", text("role"), text("content"))
    };
    prompt.as_array().into_iter().flatten().map(message).collect()
}

fn record(object_type: &str, id: i64) -> String {
    format!("{}/{id}", ObjectType::from(object_type))
}

fn value(held: Option<&String>) -> String {
    held.cloned().unwrap_or_else(|| "(empty)".to_owned())
}

fn outcome(inference: &InferenceEntry) -> String {
    let part = if inference.part.is_some() { " (a part)" } else { "" };
    let unverified = if inference.unverified.is_empty() {
        String::new()
    } else {
        format!(", unverified: {}", inference.unverified.join(" "))
    };
    format!("{}{part}{unverified}", inference.outcome)
}
