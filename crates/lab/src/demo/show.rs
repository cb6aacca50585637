//! Prints what happens in the demo.

use std::time::Duration;

use anyhow::Result;
use comfy_table::{ContentArrangement, Table, presets::UTF8_HORIZONTAL_ONLY};
use lab::{Fleet, cases::Case};
use ledger::EventStory;
use simulator::{WebhookDelivery, admin::ObjectView};

/// Runs `leadline` with these arguments and prints its output.
pub async fn command(fleet: &Fleet, arguments: &[&str]) -> Result<()> {
    let output = fleet.leadline(arguments).await?;
    println!("\nleadline {}\n{}", arguments.join(" "), indented(&String::from_utf8_lossy(&output.stdout)));
    Ok(())
}

fn indented(text: &str) -> String {
    text.lines().map(|line| format!("  {line}\n")).collect()
}

pub fn delivery(what: &str, delivery: &WebhookDelivery) {
    let verdict = match delivery.status {
        200 => "accepted",
        0 => "NO ANSWER",
        _ => "refused",
    };
    println!(
        "  {verdict:<9} {} in {:>5.1} ms  {what} ({} events)  {}",
        delivery.status, delivery.latency_ms, delivery.events, delivery.answer
    );
}

pub fn outcome(case: &Case, story: Option<&EventStory>, result: &Result<()>) {
    let sign = if result.is_ok() { "✓" } else { "✗" };
    let Some(story) = story else {
        println!("  {sign} {:<42} no outcome", case.what);
        return;
    };
    let after =
        |property: &str| story.writes.iter().find(|write| write.property == property).map(|write| write.after.clone());
    let took = story
        .history
        .first()
        .zip(story.history.last())
        .map_or(0.0, |(first, last)| (last.at - first.at).as_seconds_f64());
    let what = match after("lead_score") {
        Some(score) => {
            format!("score {score:>3}  budget {:>7}", after("ai_budget_estimate").unwrap_or_else(|| "-".to_owned()))
        }
        None => story.reason.map(|reason| reason.to_string()).unwrap_or_default(),
    };
    println!("  {sign} {:<38} {:<9} {took:>6.2} s  {what}", case.what, story.state);
}

/// How an event ended, property by property and action by action.
pub fn story(playbook: &str, story: &EventStory) {
    let parts = story.inferences.iter().filter(|inference| inference.part.is_some()).count();
    let condensed = if parts > 0 { format!(", {parts} parts condensed") } else { String::new() };
    println!("  {playbook}: {} ({} inferences{condensed})", story.state, story.inferences.len());
    let record = |object_type: &str, id: i64| format!("{}/{id}", domain::ObjectType::from(object_type));
    for write in &story.writes {
        let after: String = write.after.lines().next().unwrap_or_default().chars().take(60).collect();
        println!("    wrote {}.{} = {after}", record(&write.object_type, write.object_id), write.property);
    }
    for skipped in &story.skipped_writes {
        let current = skipped.current_value.as_deref().unwrap_or("nothing");
        println!(
            "    kept  {}.{} = {current}, not {}: {}",
            record(&skipped.object_type, skipped.object_id),
            skipped.property,
            skipped.proposed_value,
            skipped.reason
        );
    }
    for action in &story.actions {
        println!("    {:<5} {} {}", action.state, action.name, action.reason.map_or("", domain::Reason::as_str));
    }
}

pub fn before_and_after(id: i64, before: &ObjectView, after: &ObjectView) {
    let mut table = Table::new();
    table.load_style(UTF8_HORIZONTAL_ONLY).set_content_arrangement(ContentArrangement::Dynamic).set_width(110);
    table.set_header(["property", "before", "after"]);
    for (property, value) in &after.properties {
        let old = before.properties.get(property).map_or("", String::as_str);
        table.add_row([property.as_str(), old, if old == value { "(unchanged)" } else { value }]);
    }
    println!("\ncontact {id} in HubSpot, before and after\n{table}");
}

/// Queries the ledger as an operator would.
pub async fn by_sql(fleet: &Fleet, key: &str) -> Result<()> {
    println!("\nthe same event by SQL");
    for sql in [
        format!(
            "select state, playbook, playbook_version, model, cost_micro_dollars, properties_written, took from event_status where event_key = '{key}'"
        ),
        format!(
            "select h.at, h.from_state, h.state, h.attempt, h.worker from event_history h join event e on e.id = h.event_id where e.event_key = '{key}' order by h.id"
        ),
        "select state, reason, events, newest_event from failures_by_reason".to_owned(),
        "select minute, finished, written, parked, p50, p99 from throughput_by_minute".to_owned(),
        "select day, playbook, model, inferences, not_valid, prompt_tokens, completion_tokens, cost_micro_dollars from cost_by_playbook_and_day".to_owned(),
    ] {
        println!("  {sql}");
        let output = tokio::process::Command::new("psql").args([&fleet.namespace.postgres_url, "-c", &sql]).output().await;
        match output {
            Ok(output) if output.status.success() => print!("{}", indented(&String::from_utf8_lossy(&output.stdout))),
            Ok(output) => anyhow::bail!("psql: {}", String::from_utf8_lossy(&output.stderr)),
            Err(_) => println!("  (psql is not installed)"),
        }
    }
    Ok(())
}

/// Every queue from the management API. Its numbers are some seconds old, so this waits until they have settled.
pub async fn queues(fleet: &Fleet) -> Result<()> {
    println!("\nthe queues, from RabbitMQ's management API");
    let mut queues = fleet.namespace.queues().await?;
    for _ in 0..20 {
        tokio::time::sleep(Duration::from_millis(500)).await;
        queues = fleet.namespace.queues().await?;
        let total = |parked: bool| -> u64 {
            queues.iter().filter(|queue| queue.name.ends_with(".parked") == parked).map(|queue| queue.messages).sum()
        };
        if total(true) > 0 && total(false) == 0 {
            break;
        }
    }
    for queue in queues {
        println!(
            "  {:<30} {:>4} messages, {} unacknowledged",
            queue.name, queue.messages, queue.messages_unacknowledged
        );
    }
    Ok(())
}
