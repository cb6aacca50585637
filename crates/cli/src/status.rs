//! `leadline status`: what the fleet has to do, what it uses of its limits, and what is wrong.

use std::{collections::BTreeMap, path::Path, process::ExitCode, time::Duration};

use comfy_table::Table;
use domain::CircuitBreakerState;
use ledger::{Ledger, RateLimitEntry};
use time::OffsetDateTime;

use crate::{
    operator::Operator,
    print::{section, table},
    times,
};

/// How the names of spend limits begin in the table of rate limits; their amounts are in µ$.
const SPEND_LIMITS: &str = "openai/money/";

/// Prints queues, unfinished work by state and age, what is parked, limits, and circuit breakers that are not closed.
pub async fn run(file: Option<&Path>) -> anyhow::Result<ExitCode> {
    let operator = Operator::connect(file).await?;
    let ledger = &operator.ledger;
    match ledger.oldest_unfinished().await? {
        Duration::ZERO => println!("no event is unfinished"),
        age => println!("the oldest unfinished event is {} old", times::duration(age)),
    }
    print_queues(&operator).await?;
    print_unfinished(ledger).await?;
    print_parked(ledger).await?;
    let (spend_limits, rate_limits): (Vec<_>, Vec<_>) =
        ledger.rate_limits().await?.into_iter().partition(|limit| limit.name.starts_with(SPEND_LIMITS));
    print_rate_limits(&rate_limits);
    print_spend_limits(&spend_limits);
    print_circuit_breakers(ledger).await?;
    Ok(ExitCode::SUCCESS)
}

async fn print_queues(operator: &Operator) -> anyhow::Result<()> {
    let depths = operator.connection.queue_depths().await?;
    let mut queues = table(&["queue", "messages"]);
    for (route, depth) in depths.iter().filter(|(_, depth)| *depth > 0) {
        queues.add_row([route.to_string(), depth.to_string()]);
    }
    section("queues that hold messages (without those in progress)", &queues);
    Ok(())
}

async fn print_unfinished(ledger: &Ledger) -> anyhow::Result<()> {
    let mut events = table(&["state", "reason", "events", "oldest", "key of the oldest"]);
    for row in ledger.unfinished().await? {
        let reason = row.reason.unwrap_or_default();
        events.add_row([row.state, reason, row.events.to_string(), times::age(row.oldest), row.oldest_key]);
    }
    section("unfinished events", &events);

    let mut commands = table(&["state", "write commands", "oldest"]);
    for row in ledger.unfinished_commands().await? {
        commands.add_row([row.state, row.commands.to_string(), times::age(row.oldest)]);
    }
    section("unfinished write commands", &commands);
    Ok(())
}

async fn print_parked(ledger: &Ledger) -> anyhow::Result<()> {
    let mut reasons: BTreeMap<(String, String), (usize, Option<OffsetDateTime>)> = BTreeMap::new();
    for entry in ledger.parked().await? {
        let (count, newest) = reasons.entry((entry.stage, entry.reason.unwrap_or_default())).or_default();
        *count += 1;
        *newest = (*newest).max(entry.parked_at);
    }
    let mut parked = table(&["stage", "reason", "parked", "newest"]);
    for ((stage, reason), (count, newest)) in reasons {
        parked.add_row([stage, reason, count.to_string(), newest.map(times::utc).unwrap_or_default()]);
    }
    section("parked in the ledger (`leadline parked list` adds messages that the ledger does not know)", &parked);
    Ok(())
}

fn print_rate_limits(limits: &[RateLimitEntry]) {
    let mut rate_limits = table(&["rate limit", "used", "allowed", "quota", "rejected calls", "paused until"]);
    for limit in limits {
        let [used, allowed, quota, rejections] =
            [limit.used, limit.allowed, limit.quota, limit.rejections].map(|number| number.to_string());
        let paused_until = limit.held_until.map(times::utc).unwrap_or_default();
        rate_limits.add_row([limit.name.clone(), used, allowed, quota, rejections, paused_until]);
    }
    section("rate limits (used within the window; allowed for the fleet; quota of the account)", &rate_limits);
}

fn print_spend_limits(limits: &[RateLimitEntry]) {
    let mut spend_limits: Table = table(&["spend limit", "spent today", "limit", ""]);
    for limit in limits {
        let is_reached = limit.used >= limit.allowed;
        let note = if is_reached { "reached: the work waits until midnight UTC" } else { "" };
        spend_limits.add_row([limit.name.clone(), dollars(limit.used), dollars(limit.allowed), note.to_owned()]);
    }
    section("spend limits", &spend_limits);
}

async fn print_circuit_breakers(ledger: &Ledger) -> anyhow::Result<()> {
    let mut breakers = table(&["circuit breaker", "state", "for", "reason", "detail", "failed probes"]);
    for breaker in ledger.circuit_breakers().await? {
        if breaker.state == CircuitBreakerState::Closed {
            continue;
        }
        breakers.add_row([
            breaker.dependency.to_string(),
            breaker.state.to_string(),
            breaker.opened_at.map(times::age).unwrap_or_default(),
            breaker.reason.unwrap_or_default(),
            breaker.detail.unwrap_or_default(),
            breaker.probes.to_string(),
        ]);
    }
    section("circuit breakers that are not closed", &breakers);
    Ok(())
}

/// An amount of 10⁻⁶ $ in dollars, to a hundredth of a cent.
fn dollars(micro_dollars: i64) -> String {
    let hundredths_of_a_cent = micro_dollars / 100;
    format!("${}.{:04}", hundredths_of_a_cent / 10_000, hundredths_of_a_cent % 10_000)
}

#[cfg(test)]
mod tests {
    use super::dollars;

    #[test]
    fn an_amount_is_printed_in_dollars() {
        assert_eq!(dollars(0), "$0.0000");
        assert_eq!(dollars(1_234_567), "$1.2345");
        assert_eq!(dollars(25_000_000), "$25.0000");
    }
}
