//! `leadline erase`: removes a record's data from the ledger, the parking lots and the retry queues. Counts, costs and times
//! remain.

use std::{path::Path, process::ExitCode};

use anyhow::Context;
use domain::{RecordRef, inference::ErasureCause};
use ledger::{Erased, Ledger};
use maintenance::Eraser;
use settings::{ConfigScope, Settings};

use crate::{
    operator,
    print::{Progress, say},
    record,
    times::utc,
};

pub async fn run(file: Option<&Path>, record: &str, yes: bool) -> anyhow::Result<ExitCode> {
    let settings = Settings::load(file, ConfigScope::LedgerAndBroker)?;
    let ledger = operator::ledger(&settings)?;
    ledger.verify_sessions().await?;
    let record = record::parse(record, &settings)?;
    if let Some(receipt) = ledger.erasure_receipt(&record).await? {
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
    let (erased, records) = erase_from_ledger(&ledger, &record).await?;
    let messages = erase_messages(&settings, ledger, records).await.context(
        "the ledger is erased, and the queues are not yet: the fleet does it as soon as it can, or run this again",
    )?;
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

/// Erases a record under all ids by which it was known before merges. Returns each with its engagements.
async fn erase_from_ledger(
    ledger: &Ledger,
    record: &RecordRef,
) -> anyhow::Result<(Erased, Vec<(RecordRef, Vec<RecordRef>)>)> {
    let ids = ledger.request_erasure(record, ErasureCause::Operator).await?;
    let mut size = 0;
    for record in &ids {
        size += ledger.erasure_size(record).await?;
    }
    // Other records' answers that read this one come last, and how many they are is not known before.
    let (mut all, mut records, progress) = (Erased::default(), Vec::new(), Progress::start("rows erased", size));
    for record in ids {
        let before = all.rows();
        let tell = |erased: &Erased| progress.tell(before + erased.rows());
        let (erased, found) = ledger.erase_telling(&record, tell).await.context(
            "the erasure is not complete: run this again, and it goes on where it ended; the fleet does so by itself, too",
        )?;
        all += erased;
        records.push((record, found));
    }
    Ok((all, records))
}

async fn erase_messages(
    settings: &Settings,
    ledger: Ledger,
    records: Vec<(RecordRef, Vec<RecordRef>)>,
) -> anyhow::Result<usize> {
    let (connection, publisher) = operator::broker(settings).await?;
    let _progress = Progress::start("looks through the parking lots and the retry queues", 0);
    Ok(Eraser::new(ledger, connection, publisher, settings).erase_messages(records).await?)
}
