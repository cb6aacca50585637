//! `leadline erase`: removes a record's data from the ledger, the parking lots and the retry queues. Counts, costs and times
//! remain.

use std::{path::Path, process::ExitCode};

use domain::inference::ErasureCause;
use ledger::Erased;
use maintenance::Eraser;

use crate::{operator::Operator, print::say, record, times::utc};

pub async fn run(file: Option<&Path>, record: &str, yes: bool) -> anyhow::Result<ExitCode> {
    let operator = Operator::connect(file).await?;
    let record = record::parse(record, &operator.settings)?;
    if let Some(receipt) = operator.ledger.erasure_receipt(&record).await? {
        let state = receipt.erased_at.map_or_else(|| "under way".to_owned(), |at| format!("done at {}", utc(at)));
        say!(
            "{record} was erased before ({}, asked for at {}): {state}, {} events, {} inferences",
            receipt.cause,
            utc(receipt.requested_at),
            receipt.erased.events,
            receipt.erased.inferences
        );
    }
    if !yes {
        say!(
            "would erase what was read, prompted, answered and written about {record}, and drop what waits or is parked. This \
             cannot be undone; run it with --yes to do it. What was written to HubSpot stays there"
        );
        return Ok(ExitCode::SUCCESS);
    }
    let Operator { settings, ledger, connection, publisher } = &operator;
    let eraser = Eraser::new(ledger.clone(), connection.clone(), publisher.clone(), settings);
    // The record under all ids by which it was known before merges.
    let mut ledger = Erased::default();
    let mut messages = 0;
    for record in operator.ledger.request_erasure(&record, ErasureCause::Operator).await? {
        let counts = eraser.erase(&record).await?;
        ledger += counts.ledger;
        messages += counts.messages;
    }
    say!(
        "erased {record}: {} events, {} inferences, {} write commands, {} values, {} actions, {messages} parked messages",
        ledger.events,
        ledger.inferences,
        ledger.write_commands,
        ledger.values,
        ledger.actions
    );
    Ok(ExitCode::SUCCESS)
}
