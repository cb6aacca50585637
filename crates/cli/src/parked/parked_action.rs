//! Replaying and discarding: first the ledger, then the queue, then the parking dead_letters. Whatever dies in between, a second
//! run goes on where the first one ended, and the reconciler finds what waits without a message.

use std::{process::ExitCode, time::Duration};

use anyhow::bail;
use broker::{Message, Route, Stage};
use domain::{Event, EventState, WriteCommand};
use serde_json::Value;
use tokio::time::MissedTickBehavior;
use uuid::Uuid;

use super::{ApplyOptions, dead_letters, dead_letters::Item, filter::Filter, print};
use crate::operator::Operator;

/// What becomes of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ParkedAction {
    Replay,
    Discard,
}

/// What was done about one item.
enum Done {
    /// It goes on, or is given up.
    Decided,
    /// It had gone on already; only the message was left.
    Stale,
    /// It stays, for this reason.
    Stays(String),
}

pub async fn decide(
    operator: &Operator,
    filter: &Filter,
    apply_options: ApplyOptions,
    parked_action: ParkedAction,
) -> anyhow::Result<ExitCode> {
    if filter.is_everything() && !apply_options.all {
        bail!("which ones? Give a filter (--reason, --playbook, --since, --until, --id, --stage) or --all");
    }
    let dead_letters = dead_letters::scan(operator, &filter.parse()?).await?;
    print(&dead_letters.items);
    let verb = if parked_action == ParkedAction::Replay { "replayed" } else { "discarded" };
    if !apply_options.yes {
        let them = if dead_letters.items.is_empty() { "" } else { "; --yes does it" };
        println!("nothing was {verb}{them}");
        dead_letters.close().await;
        return Ok(ExitCode::SUCCESS);
    }
    let mut pace = tokio::time::interval(Duration::from_secs(1) / apply_options.per_second);
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut decided, mut stale, mut stays) = (0, 0, 0);
    for item in &dead_letters.items {
        pace.tick().await;
        let done = match parked_action {
            ParkedAction::Replay => replay(operator, item).await?,
            ParkedAction::Discard => discard(operator, item).await?,
        };
        match done {
            Done::Decided => decided += 1,
            Done::Stale => stale += 1,
            Done::Stays(why) => {
                println!("stays     {}: {why}", item.id);
                stays += 1;
                continue;
            }
        }
        if let (Some(parked), Some(dead_letters)) = (&item.message, dead_letters.of(item.stage)) {
            dead_letters.remove(parked).await?;
        }
    }
    dead_letters.close().await;
    println!("{decided} {verb}, {stale} had gone on already, {stays} stay");
    Ok(if stays == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn replay(operator: &Operator, item: &Item) -> anyhow::Result<Done> {
    match item.stage {
        Stage::Events | Stage::Backfill => replay_event(operator, item).await,
        Stage::Writes => replay_command(operator, item).await,
    }
}

async fn replay_event(operator: &Operator, item: &Item) -> anyhow::Result<Done> {
    let message = match event_message(operator, item).await? {
        Ok(message) => message,
        Err(why) => return Ok(Done::Stays(why)),
    };
    if !operator.ledger.replay_event(&message.id).await? {
        // Not parked in the ledger: it has gone on, or never got so far (its workers died, nobody understood it).
        let known = operator.ledger.event_to_requeue(&message.id).await?;
        if known.is_some_and(|known| !matches!(known.state, EventState::Claimed | EventState::Waiting)) {
            return Ok(Done::Stale);
        }
    }
    operator.publisher.publish(Route::Queue(item.stage), &message).await?;
    Ok(Done::Decided)
}

/// A fresh message, without the failures before: of the event in the message, of what HubSpot sent if nobody understood it
/// then, or of what the ledger has.
async fn event_message(operator: &Operator, item: &Item) -> anyhow::Result<Result<Message, String>> {
    let payload: Value = match (&item.message, &item.entry) {
        (Some(parked), _) => {
            if let Ok(event) = serde_json::from_slice::<Event>(&parked.message.body) {
                return Ok(Ok(maintenance::event_message(&event)?));
            }
            match serde_json::from_slice(&parked.message.body) {
                Ok(payload) => payload,
                Err(error) => return Ok(Err(format!("it is no JSON: {error}"))),
            }
        }
        (None, Some(entry)) => match operator.ledger.event_to_requeue(&entry.event_key).await? {
            Some(known) => known.payload,
            None => return Ok(Err("the ledger does not know it any more".to_owned())),
        },
        (None, None) => return Ok(Err("there is neither a message nor an entry".to_owned())),
    };
    Ok(maintenance::payload_message(&payload).map_err(|error| error.to_string()))
}

async fn replay_command(operator: &Operator, item: &Item) -> anyhow::Result<Done> {
    let Ok(id) = Uuid::parse_str(&item.id) else { return Ok(Done::Stays("it is no write command".to_owned())) };
    let command = match &item.message {
        Some(parked) => serde_json::from_slice::<WriteCommand>(&parked.message.body).ok(),
        None => None,
    };
    let command = match command {
        Some(command) => Some(command),
        None => operator.ledger.commands(&[id]).await?.pop(),
    };
    let Some(command) = command else { return Ok(Done::Stays("the ledger has no such write command".to_owned())) };
    if !operator.ledger.replay_command(id).await? {
        let known = operator.ledger.event_to_requeue(&command.event_id.to_string()).await?;
        let is_unfinished = known.is_some_and(|known| known.commands.iter().any(|known| known.id == command.id));
        if !is_unfinished {
            return Ok(Done::Stale);
        }
    }
    operator.publisher.publish(Route::Queue(Stage::Writes), &maintenance::command_message(&command)?).await?;
    Ok(Done::Decided)
}

async fn discard(operator: &Operator, item: &Item) -> anyhow::Result<Done> {
    let discarded = match (&item.entry, item.stage) {
        (Some(entry), Stage::Events | Stage::Backfill) => operator.ledger.discard_event(&entry.event_key).await?,
        (Some(ledger::ParkedEntry { write_command_id: Some(id), .. }), Stage::Writes) => {
            operator.ledger.discard_command(*id).await?
        }
        // Nobody knows it but the parking dead_letters.
        _ => item.message.is_some(),
    };
    Ok(if discarded { Done::Decided } else { Done::Stale })
}
