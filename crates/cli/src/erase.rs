//! `leadline erase`: takes a person's data out of the ledger and the parking lots; counts, costs and times stay.

use std::{path::Path, process::ExitCode};

use anyhow::bail;
use broker::{ParkingLot, Stage};
use domain::{Event, RecordRef, WriteCommand};

use crate::{operator::Operator, record};

pub async fn run(file: Option<&Path>, record: &str, yes: bool) -> anyhow::Result<ExitCode> {
    let operator = Operator::connect(file).await?;
    let record = record::parse(record, &operator.settings)?;
    let unfinished = operator.ledger.unfinished_about(&record).await?;
    if unfinished > 0 {
        bail!(
            "{unfinished} events about {record} are unfinished or parked: wait for them, or `leadline parked discard` \
             them, or they would write it down again"
        );
    }
    if !yes {
        println!(
            "would take out what was read, asked, answered and written about {record}; --yes does it, for good. HubSpot \
             keeps what was written there"
        );
        return Ok(ExitCode::SUCCESS);
    }
    let messages = parked_about(&operator, &record).await?;
    let erased = operator.ledger.erase(&record).await?;
    println!(
        "erased {record}: {} events, {} inferences, {} write commands, {} values, {} actions, {messages} parked messages",
        erased.events, erased.inferences, erased.write_commands, erased.values, erased.actions
    );
    Ok(ExitCode::SUCCESS)
}

/// Takes messages about the record out of the parking lots, which keep their bodies.
async fn parked_about(operator: &Operator, record: &RecordRef) -> anyhow::Result<usize> {
    let mut taken = 0;
    for stage in Stage::ALL {
        let lot = ParkingLot::open(&operator.link, stage).await?;
        while let Some(parked) = lot.next().await? {
            let body = &parked.message.body;
            let of_event = serde_json::from_slice::<Event>(body).ok().and_then(|event| event.record());
            let of_command = serde_json::from_slice::<WriteCommand>(body).ok().map(|command| command.record);
            if of_event.or(of_command).as_ref() == Some(record) {
                lot.remove(&parked).await?;
                taken += 1;
            }
        }
        lot.close().await;
    }
    Ok(taken)
}
