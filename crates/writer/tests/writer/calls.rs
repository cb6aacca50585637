//! How many calls a batch costs: histories, of which HubSpot gives half as many in a call, are read only where they can tell
//! something, and what a person set or cleared is found all the same.

use std::time::Duration;

use broker::Disposition;
use domain::{EventState, Reason, RecordRef, WriteCommand, write_command::PropertyChange};
use futures_util::future::join_all;
use simulator::{Call, admin::Quirks};

use crate::fixtures::{TestWriter, WriterOptions, set};

/// Two full batches.
const CONTACTS: i64 = 200;

async fn slow_batches() -> TestWriter {
    let linger = Duration::from_secs(1);
    TestWriter::with(WriterOptions { linger, call_timeout: Duration::from_secs(20), ..WriterOptions::default() }).await
}

async fn contacts(writer: &TestWriter, count: i64) -> Vec<RecordRef> {
    let mut records = Vec::new();
    for id in 1..=count {
        records.push(writer.contact(id).await);
    }
    records
}

/// Decides the same about every record, and carries it out.
async fn write(
    writer: &TestWriter,
    records: &[RecordRef],
    second: i64,
    changes: &[PropertyChange],
) -> Vec<WriteCommand> {
    let mut commands = Vec::new();
    for record in records {
        commands.push(writer.decide(record, second, changes, Vec::new()).await);
    }
    let dispositions = join_all(commands.iter().map(|command| writer.handle(command))).await;
    assert!(dispositions.iter().all(|disposition| *disposition == Disposition::Done), "{dispositions:?}");
    commands
}

/// The number of calls by kind: reads without and with histories, updates, and others.
fn count(calls: &[Call]) -> [usize; 4] {
    let kind = |call: &Call| match call.path.rsplit_once("/batch/").map(|(_, kind)| kind) {
        Some("read") if call.request["propertiesWithHistory"].as_array().is_some_and(Vec::is_empty) => 0,
        Some("read") => 1,
        Some("update") => 2,
        _ => 3,
    };
    let mut counts = [0; 4];
    calls.iter().for_each(|call| counts[kind(call)] += 1);
    counts
}

#[tokio::test]
async fn two_hundred_contacts_cost_a_read_and_an_update_for_each_hundred() {
    let writer = slow_batches().await;
    let records = contacts(&writer, CONTACTS).await;
    // Nothing was ever there.
    write(&writer, &records, 1, &[set("lead_score", "50"), set("ai_lead_summary", "first")]).await;
    assert_eq!(count(&writer.calls().await), [2, 0, 2, 0]);

    // What the fleet wrote is still there.
    let before = writer.calls().await.len();
    write(&writer, &records, 2, &[set("lead_score", "60"), set("ai_lead_summary", "second")]).await;
    assert_eq!(count(&writer.calls().await[before..]), [2, 0, 2, 0]);

    // People changed, cleared and confirmed something, and a program changed something.
    for (id, value, source) in [(7, "12", "CRM_UI"), (8, "", "CRM_UI"), (150, "13", "IMPORT"), (151, "14", "WORKFLOWS")]
    {
        writer.edit(id, "lead_score", value, source).await;
    }
    let before = writer.calls().await.len();
    let commands = write(&writer, &records, 3, &[set("lead_score", "70"), set("ai_lead_summary", "third")]).await;
    assert_eq!(count(&writer.calls().await[before..]), [2, 2, 2, 0], "the histories of what others have set");
    for (id, held, proposed) in [(7, Some("12"), "70"), (8, None, "70"), (150, Some("13"), "70")] {
        let command = &commands[usize::try_from(id - 1).expect("small")];
        let story = writer.ended_as(command, EventState::Written, None).await;
        let [kept] = &story.skipped_writes[..] else { panic!("{id}: {:?}", story.skipped_writes) };
        assert_eq!(
            (kept.reason, kept.current_value.as_deref(), kept.proposed_value.as_str()),
            (Reason::KeptHumanValue, held, proposed)
        );
    }
    for (id, before) in [(1, "60"), (151, "14")] {
        let command = &commands[usize::try_from(id - 1).expect("small")];
        let story = writer.ended_as(command, EventState::Written, None).await;
        let score = story.writes.iter().find(|write| write.property == "lead_score").expect("written");
        assert_eq!((score.before.as_deref(), score.after.as_str()), (Some(before), "70"), "an undo restores it");
        assert_eq!(writer.property(id, "lead_score").await.as_deref(), Some("70"));
    }
    let summaries = "select count(*) from write where property = 'ai_lead_summary' and after = 'third'";
    assert_eq!(writer.query::<i64>(summaries).await, CONTACTS);
}

/// So few cost the same with their histories, and with these nothing is left to guess.
#[tokio::test]
async fn a_small_batch_is_read_with_its_histories_at_once() {
    let writer = slow_batches().await;
    let records = contacts(&writer, 10).await;
    write(&writer, &records, 1, &[set("lead_score", "50")]).await;
    assert_eq!(count(&writer.calls().await), [0, 1, 1, 0]);
    // A person wants the very value that the fleet had written.
    writer.edit(3, "lead_score", "50", "CRM_UI").await;
    let commands = write(&writer, &records, 2, &[set("lead_score", "60")]).await;
    writer.ended_as(&commands[2], EventState::Skipped, Some(Reason::KeptHumanValue)).await;
}

/// HubSpot shows nothing for a property that was never set, and an empty text for one that was cleared. If it ever stops making
/// this difference, what people cleared is not filled again all the same.
#[tokio::test]
async fn a_portal_that_shows_cleared_properties_as_never_set_is_found_out() {
    let writer = slow_batches().await;
    writer.quirks(&Quirks { null_for_cleared: true, ..Quirks::default() }).await;
    let records = contacts(&writer, 60).await;
    let (known, new) = records.split_at(55);
    write(&writer, known, 1, &[set("lead_score", "50")]).await;
    writer.edit(5, "lead_score", "", "CRM_UI").await;
    writer.edit(58, "lead_score", "33", "CRM_UI").await;
    writer.edit(58, "lead_score", "", "CRM_UI").await;
    assert!(new.iter().any(|record| record.object_id.0 == 58));
    let commands = write(&writer, &records, 2, &[set("lead_score", "60")]).await;
    for id in [5, 58] {
        writer.ended_as(&commands[id - 1], EventState::Skipped, Some(Reason::KeptHumanValue)).await;
    }
}
