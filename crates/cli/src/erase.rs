//! `leadline erase`: removes a record's data from the ledger and the parking lots. Counts, costs and times remain.

use std::{path::Path, process::ExitCode};

use anyhow::bail;
use broker::{ParkedMessage, ParkingLot, Stage};
use domain::{Event, RecordRef, WriteCommandId, write_command::CommandMessage};

use crate::{operator::Operator, print::say, record};

pub async fn run(file: Option<&Path>, record: &str, yes: bool) -> anyhow::Result<ExitCode> {
    let operator = Operator::connect(file).await?;
    let record = record::parse(record, &operator.settings)?;
    let known_as = operator.ledger.known_as(&record).await?;
    let mut unfinished = 0;
    for record in &known_as {
        unfinished += operator.ledger.unfinished_about(record).await?;
    }
    if unfinished > 0 {
        bail!(
            "{unfinished} events about {record} are unfinished or parked and would store its data again: wait until they \
             end, or discard them with `leadline parked discard`"
        );
    }
    if !yes {
        say!(
            "would erase from the ledger what was read, prompted, answered and written about {record}. This cannot be \
             undone; run it with --yes to do it. What was written to HubSpot stays there"
        );
        return Ok(ExitCode::SUCCESS);
    }
    let mut messages = 0;
    for record in &known_as {
        messages += remove_parked_messages(&operator, record).await?;
    }
    let erased = operator.ledger.erase(&record).await?;
    say!(
        "erased {record}: {} events, {} inferences, {} write commands, {} values, {} actions, {messages} parked messages",
        erased.events,
        erased.inferences,
        erased.write_commands,
        erased.values,
        erased.actions
    );
    Ok(ExitCode::SUCCESS)
}

/// Removes the messages about the record from the parking lots and returns how many there were.
async fn remove_parked_messages(operator: &Operator, record: &RecordRef) -> anyhow::Result<usize> {
    let mut removed = 0;
    for stage in Stage::ALL {
        let parking_lot = ParkingLot::open(&operator.connection, stage).await?;
        let mut parked = Vec::new();
        while let Some(message) = parking_lot.next().await? {
            parked.push(message);
        }
        // Of a write command, the message says only the id.
        let ids: Vec<_> = parked.iter().filter_map(command_of).collect();
        let commands = operator.ledger.commands_about(&ids, record).await?;
        for message in &parked {
            let is_about = command_of(message).is_some_and(|id| commands.contains(&id))
                || event_of(message).and_then(|event| event.record()).as_ref() == Some(record);
            if is_about {
                parking_lot.remove(message).await?;
                removed += 1;
            }
        }
        parking_lot.close().await;
    }
    Ok(removed)
}

fn event_of(parked: &ParkedMessage) -> Option<Event> {
    serde_json::from_slice(&parked.message.body).ok()
}

fn command_of(parked: &ParkedMessage) -> Option<WriteCommandId> {
    Some(serde_json::from_slice::<CommandMessage>(&parked.message.body).ok()?.id)
}
