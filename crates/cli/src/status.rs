//! `leadline status`: what the fleet has to do, what it uses of its limits, and what is wrong.

use std::{collections::BTreeMap, path::Path, process::ExitCode, time::Duration};

use domain::{Circuit, CircuitBreakerState, PlaybookModel, Reason};
use ledger::{Ledger, ParkedStage};
use time::OffsetDateTime;

use crate::{
    operator::Operator,
    print::{say, section, table},
    times,
};

/// Prints queues, unfinished work by state and age, what is parked, limits, and circuit breakers that are not closed.
pub async fn run(file: Option<&Path>) -> anyhow::Result<ExitCode> {
    let operator = Operator::connect(file).await?;
    let ledger = &operator.ledger;
    match ledger.oldest_unfinished().await? {
        Duration::ZERO => say!("no event is unfinished"),
        age => say!("the oldest unfinished event is {} old", times::duration(age)),
    }
    print_queues(&operator).await?;
    print_unfinished(ledger).await?;
    print_parked(ledger).await?;
    print_rate_limits(ledger).await?;
    print_spend_limits(ledger).await?;
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
    for row in ledger.unfinished_events().await? {
        let reason = row.reason.map_or("", Reason::as_str).to_owned();
        events.add_row([row.state.to_string(), reason, row.events.to_string(), times::age(row.oldest), row.oldest_key]);
    }
    section("unfinished events", &events);

    let mut commands = table(&["state", "write commands", "oldest"]);
    for row in ledger.unfinished_commands().await? {
        commands.add_row([row.state.to_string(), row.commands.to_string(), times::age(row.oldest)]);
    }
    section("unfinished write commands", &commands);
    Ok(())
}

async fn print_parked(ledger: &Ledger) -> anyhow::Result<()> {
    let mut reasons: BTreeMap<(ParkedStage, &str), (usize, Option<OffsetDateTime>)> = BTreeMap::new();
    for entry in ledger.parked().await? {
        let (count, newest) = reasons.entry((entry.stage, entry.reason.map_or("", Reason::as_str))).or_default();
        *count += 1;
        *newest = (*newest).max(entry.parked_at);
    }
    let mut parked = table(&["stage", "reason", "parked", "newest"]);
    for ((stage, reason), (count, newest)) in reasons {
        let newest = newest.map(times::utc).unwrap_or_default();
        parked.add_row([stage.as_str(), reason, &count.to_string(), &newest]);
    }
    section("parked in the ledger (`leadline parked list` adds messages that the ledger does not know)", &parked);
    Ok(())
}

async fn print_rate_limits(ledger: &Ledger) -> anyhow::Result<()> {
    let mut rate_limits = table(&["rate limit", "used", "allowed", "quota", "rejected calls", "paused until"]);
    for limit in ledger.rate_limits().await? {
        let [used, allowed, quota, rejections] =
            [limit.used, limit.allowed, limit.quota, limit.rejections].map(|number| number.to_string());
        let paused_until = limit.held_until.map(times::utc).unwrap_or_default();
        rate_limits.add_row([limit.name, used, allowed, quota, rejections, paused_until]);
    }
    section("rate limits (used within the window; allowed for the fleet; quota of the account)", &rate_limits);
    Ok(())
}

async fn print_spend_limits(ledger: &Ledger) -> anyhow::Result<()> {
    let mut spend_limits = table(&["spend limit", "spent or reserved", "a day", ""]);
    for limit in ledger.spend_limits().await? {
        let (spent, limit_per_day) = (limit.micro_dollars_spent, limit.micro_dollars_per_day);
        let is_reached = spent >= limit_per_day;
        let note = if is_reached { "reached: the work waits until midnight UTC" } else { "" };
        spend_limits.add_row([limit.name, dollars(spent), dollars(limit_per_day), note.to_owned()]);
    }
    section("spend limits (today, in UTC)", &spend_limits);
    Ok(())
}

async fn print_circuit_breakers(ledger: &Ledger) -> anyhow::Result<()> {
    let mut breakers = table(&["circuit breaker", "state", "for", "reason", "detail", "failed probes"]);
    let mut rejected = table(&["credential", "workers", "reason", "detail"]);
    let mut paused = table(&["playbook", "version", "model", "state", "for", "reason", "detail"]);
    for breaker in ledger.circuit_breakers().await? {
        let state = breaker.state;
        let since = breaker.opened_at.map(times::age).unwrap_or_default();
        let reason = breaker.reason.map_or("", Reason::as_str).to_owned();
        let detail = breaker.detail.unwrap_or_default();
        if !breaker.rejected_by.is_empty() && state != CircuitBreakerState::Open {
            rejected.add_row([
                breaker.circuit.to_string(),
                breaker.rejected_by.join(", "),
                reason.clone(),
                detail.clone(),
            ]);
        }
        if state == CircuitBreakerState::Closed {
            continue;
        }
        match breaker.circuit {
            circuit @ (Circuit::Dependency(_) | Circuit::Credential(..)) => {
                let probes = breaker.probes.to_string();
                breakers.add_row([circuit.to_string(), state.to_string(), since, reason, detail, probes]);
            }
            Circuit::Model(PlaybookModel { playbook, version, model }) => {
                paused.add_row([playbook, version, model, state.to_string(), since, reason, detail]);
            }
        }
    }
    section("circuit breakers that are not closed", &breakers);
    section("workers that pause because their credential is rejected (and not for others)", &rejected);
    section("models that do not answer a playbook (a fallback does, or its events wait)", &paused);
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
