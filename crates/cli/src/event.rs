//! `leadline event`: the history of one event.

use comfy_table::{Table, presets::UTF8_HORIZONTAL_ONLY};
use ledger::EventStory;
use time::{OffsetDateTime, macros::format_description};

/// Prints everything the ledger knows about an event; prompts and answers only when asked for.
pub fn print(story: &EventStory, prompts: bool) {
    println!("event     {}", story.key);
    println!("id        {}", story.id);
    println!("happened  {} at {}", story.subscription_type, clock(story.occurred_at));
    let reason = story.reason.as_deref().map(|reason| format!(" ({reason})")).unwrap_or_default();
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
            entry.from_state.clone().unwrap_or_default(),
            entry.state.clone(),
            entry.attempt.to_string(),
            entry.reason.clone().unwrap_or_default(),
            entry.worker.clone(),
        ]);
    }
    println!("\nhistory\n{history}");

    if !story.inferences.is_empty() {
        let mut inferences = table(&["answered", "playbook", "model", "outcome", "tokens in", "out", "µ$", "ms"]);
        for inference in &story.inferences {
            inferences.add_row([
                clock(inference.created_at),
                format!("{}@{}", inference.playbook, inference.playbook_version),
                inference.model.clone(),
                inference.outcome.clone(),
                inference.prompt_tokens.to_string(),
                inference.completion_tokens.to_string(),
                inference.cost_micro_dollars.map_or_else(|| "?".to_owned(), |cost| cost.to_string()),
                inference.latency_ms.to_string(),
            ]);
        }
        println!("\ninferences\n{inferences}");
    }
    if !story.writes.is_empty() {
        let mut writes = table(&["written", "property", "before", "after"]);
        for write in &story.writes {
            let before = write.before.clone().unwrap_or_else(|| "(empty)".to_owned());
            writes.add_row([clock(write.written_at), write.property.clone(), before, write.after.clone()]);
        }
        println!("\nwrites\n{writes}");
    }
    if prompts {
        for inference in &story.inferences {
            println!("\nprompt of {}", inference.playbook);
            for message in inference.prompt.as_array().into_iter().flatten() {
                let text = |name: &str| message[name].as_str().unwrap_or_default();
                println!("--- {}\n{}", text("role"), text("content"));
            }
            println!("--- answer\n{}", inference.answer);
        }
    }
}

fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(UTF8_HORIZONTAL_ONLY).set_header(header.iter().copied());
    table
}

fn clock(at: OffsetDateTime) -> String {
    at.format(format_description!("[year]-[month]-[day] [hour]:[minute]:[second].[subsecond digits:3]"))
        .unwrap_or_default()
}
