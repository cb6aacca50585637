//! What a person set stays, and the ledger says so.

use broker::Disposition;
use domain::{
    EventState, Reason,
    write_command::{PropertyChange, WritePolicy},
};

use crate::fixtures::{TestWriter, set};

#[tokio::test]
async fn a_value_that_a_person_changed_is_left_alone_and_is_no_failure() {
    let writer = TestWriter::start().await;
    let record = writer.contact(1).await;
    let first = writer.decide(&record, 1, &[set("lead_score", "85")], Vec::new()).await;
    assert_eq!(writer.handle(&first).await, Disposition::Done);
    assert_eq!(writer.property(1, "lead_score").await.as_deref(), Some("85"));

    writer.edit(1, "lead_score", "12", "CRM_UI").await;
    let changes = [set("lead_score", "100"), set("ai_qualification_summary", "The CTO joins the next call.")];
    let second = writer.decide(&record, 2, &changes, Vec::new()).await;
    assert_eq!(writer.handle(&second).await, Disposition::Done);
    assert_eq!(writer.property(1, "lead_score").await.as_deref(), Some("12"), "the person's value stays");
    let story = writer.ended_as(&second, EventState::Written, None).await;
    let skipped = &story.skipped_writes[..];
    assert!(matches!(skipped, [skipped] if skipped.property == "lead_score"), "{skipped:?}");
    assert_eq!(
        (skipped[0].reason, skipped[0].current_value.as_deref(), skipped[0].proposed_value.as_str()),
        (Reason::KeptHumanValue, Some("12"), "100")
    );
    let written: Vec<_> = story.writes.iter().map(|write| write.property.as_str()).collect();
    assert_eq!(written, ["ai_qualification_summary"], "the rest is written");

    // A change by a workflow is not a person's.
    writer.edit(1, "lead_score", "13", "AUTOMATION_PLATFORM").await;
    let third = writer.decide(&record, 3, &[set("lead_score", "100")], Vec::new()).await;
    assert_eq!(writer.handle(&third).await, Disposition::Done);
    writer.ended_as(&third, EventState::Written, None).await;
    assert_eq!(writer.property(1, "lead_score").await.as_deref(), Some("100"));
}

#[tokio::test]
async fn an_event_whose_every_value_was_kept_ends_as_kept_human_value() {
    let writer = TestWriter::start().await;
    let record = writer.contact(1).await;
    writer.edit(1, "lead_score", "12", "CRM_UI").await;
    let command = writer.decide(&record, 1, &[set("lead_score", "85")], Vec::new()).await;
    assert_eq!(writer.handle(&command).await, Disposition::Done);
    writer.ended_as(&command, EventState::Skipped, Some(Reason::KeptHumanValue)).await;
    assert_eq!(writer.property(1, "lead_score").await.as_deref(), Some("12"));
    assert_eq!(writer.query::<i64>("select count(*) from failures_by_reason").await, 0);
}

#[tokio::test]
async fn a_value_that_hubspot_has_already_is_not_sent_but_counts_as_written() {
    let writer = TestWriter::start().await;
    let record = writer.contact(1).await;
    writer.edit(1, "lead_score", "85", "AUTOMATION_PLATFORM").await;
    let command = writer.decide(&record, 2, &[set("lead_score", "85")], Vec::new()).await;
    assert_eq!(writer.handle(&command).await, Disposition::Done);
    assert!(writer.contact_writes().await.is_empty(), "nothing is sent");
    let story = writer.ended_as(&command, EventState::Written, None).await;
    assert!(matches!(&story.writes[..], [write] if write.after == "85"), "{:?}", story.writes);

    let older = writer.decide(&record, 1, &[set("lead_score", "20")], Vec::new()).await;
    assert_eq!(writer.handle(&older).await, Disposition::Done);
    writer.ended_as(&older, EventState::Superseded, Some(Reason::NewerEventWritten)).await;
    assert_eq!(writer.property(1, "lead_score").await.as_deref(), Some("85"));
}

/// A playbook cannot ask for it; a row of the ledger that somebody changed, or an inference worker with other settings, can.
#[tokio::test]
async fn a_protected_property_is_left_as_it_is_whatever_the_ledger_asks_for() {
    let writer = TestWriter::start().await;
    let record = writer.contact(1).await;
    let mut owner = set("hubspot_owner_id", "666");
    owner.policy = WritePolicy::Always;
    let command = writer.decide(&record, 1, &[owner, set("lead_score", "85")], Vec::new()).await;
    assert_eq!(writer.handle(&command).await, Disposition::Done);
    assert_eq!(writer.property(1, "hubspot_owner_id").await, None);
    assert_eq!(writer.property(1, "lead_score").await.as_deref(), Some("85"), "the rest is written");
    let story = writer.ended_as(&command, EventState::Written, None).await;
    let skipped: Vec<_> =
        story.skipped_writes.iter().map(|skipped| (skipped.property.as_str(), skipped.reason.as_str())).collect();
    assert_eq!(skipped, [("hubspot_owner_id", "protected_property")]);
}

/// A merge, a restore or an undo carries an older value over: it belongs to whoever set it before.
#[tokio::test]
async fn a_value_that_a_merge_carried_over_belongs_to_its_last_real_author() {
    let writer = TestWriter::start().await;
    let record = writer.contact(1).await;
    writer.edit_as_app(1, "lead_score", "85").await;
    writer.edit(1, "lead_score", "85", "MERGE_OBJECTS").await;
    let ours = writer.decide(&record, 1, &[set("lead_score", "40")], Vec::new()).await;
    assert_eq!(writer.handle(&ours).await, Disposition::Done);
    assert_eq!(writer.property(1, "lead_score").await.as_deref(), Some("40"), "the app wrote it");

    writer.edit(1, "lead_score", "12", "CRM_UI").await;
    writer.edit(1, "lead_score", "12", "RECYCLING_BIN").await;
    let theirs = writer.decide(&record, 2, &[set("lead_score", "60")], Vec::new()).await;
    assert_eq!(writer.handle(&theirs).await, Disposition::Done);
    writer.ended_as(&theirs, EventState::Skipped, Some(Reason::KeptHumanValue)).await;

    writer.edit(1, "lead_score", "33", "SALESFORCE").await;
    let synced = writer.decide(&record, 3, &[set("lead_score", "60")], Vec::new()).await;
    assert_eq!(writer.handle(&synced).await, Disposition::Done);
    writer.ended_as(&synced, EventState::Skipped, Some(Reason::KeptHumanValue)).await;
}

#[tokio::test]
async fn a_value_of_another_ai_is_not_a_persons() {
    let writer = TestWriter::start().await;
    let record = writer.contact(1).await;
    for (second, source) in ["SMART_DATA_CAPTURE", "BREEZE_AGENT", "DATA_ENRICHMENT", "TASK"].into_iter().enumerate() {
        let second = i64::try_from(second).expect("small");
        writer.edit(1, "lead_score", &second.to_string(), source).await;
        let proposed = (50 + second).to_string();
        let command = writer.decide(&record, second, &[set("lead_score", &proposed)], Vec::new()).await;
        assert_eq!(writer.handle(&command).await, Disposition::Done);
        assert_eq!(writer.property(1, "lead_score").await, Some(proposed), "{source}");
    }
}

#[tokio::test]
async fn if_empty_replaces_a_default_and_nothing_else() {
    let writer = TestWriter::start().await;
    let record = writer.contact(1).await;
    let if_empty = |value: &str| PropertyChange { policy: WritePolicy::IfEmpty, ..set("lead_score", value) };
    writer.edit(1, "lead_score", "0", "PROPERTY_DEFAULT_VALUE").await;
    let first = writer.decide(&record, 1, &[if_empty("85")], Vec::new()).await;
    assert_eq!(writer.handle(&first).await, Disposition::Done);
    let story = writer.ended_as(&first, EventState::Written, None).await;
    assert_eq!(story.writes[0].before.as_deref(), Some("0"), "an undo restores the default");
    let second = writer.decide(&record, 2, &[if_empty("90")], Vec::new()).await;
    assert_eq!(writer.handle(&second).await, Disposition::Done);
    writer.ended_as(&second, EventState::Skipped, Some(Reason::KeptFilled)).await;
    assert_eq!(writer.property(1, "lead_score").await.as_deref(), Some("85"));
}
