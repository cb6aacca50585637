//! Replays and discards parked items: first in the ledger, then in the stage's queue, then in the parking lot.
//!
//! When the command dies in between, a second run continues where the first one ended, and the reconciler finds an event
//! that waits without a message.

use std::{process::ExitCode, time::Duration};

use anyhow::bail;
use broker::{Message, Route, Stage};
use domain::{CommandState, Event, EventState, WriteCommandId};
use ledger::ParkedEntry;
use maintenance::UnreadablePayload;
use serde_json::Value;
use tokio::time::MissedTickBehavior;
use uuid::Uuid;

use super::{dead_letters, filter::ParkedFilter, item::ParkedItem, print_items};
use crate::{
    operator::Operator,
    print::{Format, Progress, say},
};

/// What an operator decides about parked items.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ParkedAction {
    /// The items continue at the stage in which they failed.
    Replay,
    /// The items are dropped.
    Discard,
}

/// How many items, and how fast.
#[derive(clap::Args, Clone, Copy)]
pub struct ApplyOptions {
    /// Do it. Without it, the command only lists the items.
    #[arg(long)]
    yes: bool,
    /// Allow a command without a filter, for all items.
    #[arg(long)]
    all: bool,
    /// At most so many items per second, so that they do not flood the fleet or HubSpot.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    per_second: u32,
}

/// The result for one item.
enum ItemResult {
    /// The item was replayed or discarded.
    Applied,
    /// The item is no longer parked in the ledger; only its message was left in the parking lot.
    NotParked,
    /// The item cannot be replayed, for this reason, and stays parked.
    StaysParked(String),
}

/// Why no message can be made of a parked event.
#[derive(Debug, thiserror::Error)]
enum MessageError {
    #[error("its message is not JSON: {0}")]
    NotJson(serde_json::Error),
    #[error("it has version {0}, which this version of Leadline does not know: replay it with a newer one")]
    NewerVersion(u16),
    #[error("the ledger no longer has the event")]
    NotInLedger,
    #[error(transparent)]
    Unreadable(#[from] UnreadablePayload),
}

/// Lists the items that match the filter and, with `--yes`, replays or discards them. Fails when an item stays parked.
pub async fn run(
    operator: &Operator,
    filter: &ParkedFilter,
    options: ApplyOptions,
    action: ParkedAction,
) -> anyhow::Result<ExitCode> {
    if filter.is_empty() && !options.all {
        bail!("give a filter (--reason, --playbook, --since, --until, --id, --stage), or --all for all items");
    }
    let dead_letters = dead_letters::scan(operator, filter).await?;
    print_items(&dead_letters.items, Format::default())?;
    let verb = match action {
        ParkedAction::Replay => "replayed",
        ParkedAction::Discard => "discarded",
    };
    if !options.yes {
        let hint = if dead_letters.items.is_empty() { "" } else { "; run it with --yes to do it" };
        say!("nothing was {verb}{hint}");
        dead_letters.close().await;
        return Ok(ExitCode::SUCCESS);
    }
    let mut pace = tokio::time::interval(Duration::from_secs(1) / options.per_second);
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut applied, mut not_parked, mut staying) = (0, 0, 0);
    let progress = Progress::start(verb, dead_letters.items.len());
    for (done, item) in dead_letters.items.iter().enumerate() {
        progress.tell(done);
        pace.tick().await;
        let result = match action {
            ParkedAction::Replay => replay(operator, item).await?,
            ParkedAction::Discard => discard(operator, item).await?,
        };
        match result {
            ItemResult::Applied => applied += 1,
            ItemResult::NotParked => not_parked += 1,
            ItemResult::StaysParked(why) => {
                say!("stays parked: {}: {why}", item.id);
                staying += 1;
                continue;
            }
        }
        if let (Some(parked), Some(parking_lot)) = (&item.message, dead_letters.parking_lot(item.stage)) {
            parking_lot.remove(parked).await?;
        }
    }
    dead_letters.close().await;
    drop(progress);
    say!("{applied} {verb}, {not_parked} were no longer parked, {staying} stay parked");
    Ok(if staying == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn replay(operator: &Operator, item: &ParkedItem) -> anyhow::Result<ItemResult> {
    match item.stage {
        Stage::Events | Stage::Backfill | Stage::Erasures => replay_event(operator, item).await,
        Stage::Writes => replay_command(operator, item).await,
    }
}

async fn replay_event(operator: &Operator, item: &ParkedItem) -> anyhow::Result<ItemResult> {
    let message = match event_message(operator, item).await? {
        Ok(message) => message,
        Err(error) => return Ok(ItemResult::StaysParked(error.to_string())),
    };
    if !operator.ledger.replay_event(&message.id).await? {
        // Not parked in the ledger. Either the event has continued since, or the ledger never got as far as parking it: its
        // workers died each time, or its message could not be read.
        let known = operator.ledger.event_to_requeue(&message.id).await?;
        if known.is_some_and(|event| !matches!(event.state, EventState::Claimed | EventState::Waiting)) {
            return Ok(ItemResult::NotParked);
        }
    }
    operator.publisher.publish(Route::Queue(item.stage), &message).await?;
    Ok(ItemResult::Applied)
}

/// A fresh message without the earlier attempts. It is made of the event in the parked message; of HubSpot's payload, when
/// the receiver could not read it then; or, without a message, of the ledger's copy.
async fn event_message(operator: &Operator, item: &ParkedItem) -> anyhow::Result<Result<Message, MessageError>> {
    let payload: Value = match (&item.message, &item.entry) {
        (Some(parked), _) => {
            // Read as this version knows it, it would lose what is new in it.
            if let Some(version) = parked.message.version.filter(|_| parked.message.is_newer_than_known(item.stage)) {
                return Ok(Err(MessageError::NewerVersion(version)));
            }
            if let Ok(event) = serde_json::from_slice::<Event>(&parked.message.body) {
                return Ok(Ok(maintenance::event_message(&event)?));
            }
            match serde_json::from_slice(&parked.message.body) {
                Ok(payload) => payload,
                Err(error) => return Ok(Err(MessageError::NotJson(error))),
            }
        }
        (None, Some(entry)) => match operator.ledger.event_to_requeue(&entry.event_key).await? {
            Some(event) => event.payload,
            None => return Ok(Err(MessageError::NotInLedger)),
        },
        (None, None) => return Ok(Err(MessageError::NotInLedger)),
    };
    Ok(maintenance::payload_message(&payload).map_err(MessageError::Unreadable))
}

async fn replay_command(operator: &Operator, item: &ParkedItem) -> anyhow::Result<ItemResult> {
    let Ok(id) = Uuid::parse_str(&item.id) else {
        return Ok(ItemResult::StaysParked("its id is not that of a write command".to_owned()));
    };
    // By its id alone: what the command does is in the ledger, whatever the parked message says.
    let id = WriteCommandId(id);
    if !operator.ledger.replay_command(id).await? {
        match operator.ledger.command_state(id).await? {
            None => return Ok(ItemResult::StaysParked("the ledger has no such write command".to_owned())),
            Some(state) if CommandState::is_final(state) => return Ok(ItemResult::NotParked),
            Some(_) => {}
        }
    }
    operator.publisher.publish(Route::Queue(Stage::Writes), &maintenance::command_message(id)).await?;
    Ok(ItemResult::Applied)
}

async fn discard(operator: &Operator, item: &ParkedItem) -> anyhow::Result<ItemResult> {
    let discarded = match (&item.entry, item.stage) {
        (Some(entry), Stage::Events | Stage::Backfill | Stage::Erasures) => {
            operator.ledger.discard_event(&entry.event_key).await?
        }
        (Some(ParkedEntry { write_command_id: Some(id), .. }), Stage::Writes) => {
            operator.ledger.discard_command(WriteCommandId(*id)).await?
        }
        // Only the parking lot has it: taking the message out discards it.
        _ => item.message.is_some(),
    };
    Ok(if discarded { ItemResult::Applied } else { ItemResult::NotParked })
}
