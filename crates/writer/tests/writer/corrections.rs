//! What people changed of written values is seen before the fleet writes again, whatever becomes of the new value.

use std::time::Duration;

use broker::Disposition;
use domain::{
    EventState, Reason, WriteCommand,
    write_command::{PropertyChange, WritePolicy},
};
use ledger::Worker;

use crate::fixtures::{TestWriter, set};

impl TestWriter {
    /// Each correction: the written value, the person's, by what it was seen.
    async fn overrides(&self) -> String {
        self.query(
            "select coalesce(string_agg(concat_ws(' ', written_value, coalesce(persons_value, '-'), seen_by),
                                        ', ' order by changed_at), 'none') from overrides",
        )
        .await
    }

    async fn carried_out(&self, command: &WriteCommand) {
        assert_eq!(self.handle(command).await, Disposition::Done);
    }

    /// Another writer has taken the command, and died.
    async fn taken_by_another(&self, command: &WriteCommand) {
        let (ids, portal) = ([command.id], command.record.portal_id);
        let taken = self.ledger.claim_commands(&ids, portal, &Worker::named("other"), Duration::from_secs(60)).await;
        assert_eq!(taken.expect("claimed").len(), 1);
        self.execute("update write_command set lease_expires_at = now() - interval '1 hour' where state = 'sending'")
            .await;
    }
}

fn always(value: &str) -> PropertyChange {
    PropertyChange { policy: WritePolicy::Always, ..set("lead_score", value) }
}

#[tokio::test]
async fn a_value_that_a_person_changed_is_recorded_once_when_it_is_read() {
    let writer = TestWriter::start().await;
    let record = writer.contact(1).await;
    let first = writer.decide(&record, 1, &[set("lead_score", "85")], Vec::new()).await;
    writer.carried_out(&first).await;
    writer.edit(1, "lead_score", "12", "CRM_UI").await;
    for second in [2, 3] {
        let next = writer.decide(&record, second, &[set("lead_score", "100")], Vec::new()).await;
        writer.carried_out(&next).await;
        writer.ended_as(&next, EventState::Skipped, Some(Reason::KeptHumanValue)).await;
        assert_eq!(writer.overrides().await, "85 12 read");
    }
    writer.edit(1, "lead_score", "", "CRM_UI").await;
    let cleared = writer.decide(&record, 4, &[set("lead_score", "100")], Vec::new()).await;
    writer.carried_out(&cleared).await;
    assert_eq!(writer.overrides().await, "85 12 read, 85 - read");
}

/// A person has changed the written 85 to 12, and a command is to write 100 over it.
async fn corrected_and_decided_again() -> (TestWriter, WriteCommand) {
    let writer = TestWriter::start().await;
    let record = writer.contact(1).await;
    let first = writer.decide(&record, 1, &[always("85")], Vec::new()).await;
    writer.carried_out(&first).await;
    writer.edit(1, "lead_score", "12", "CRM_UI").await;
    let second = writer.decide(&record, 2, &[always("100")], Vec::new()).await;
    (writer, second)
}

#[tokio::test]
async fn a_value_that_is_written_over_is_recorded_before() {
    let (writer, second) = corrected_and_decided_again().await;
    writer.carried_out(&second).await;
    assert_eq!(writer.property(1, "lead_score").await.as_deref(), Some("100"));
    assert_eq!(writer.overrides().await, "85 12 read");
}

/// The writer was killed after HubSpot had the new value, and before the ledger had anything.
#[tokio::test]
async fn a_writer_that_died_before_the_commit_leaves_the_correction_to_the_next_one() {
    let (writer, second) = corrected_and_decided_again().await;
    writer.taken_by_another(&second).await;
    writer.edit_as_app(1, "lead_score", "100").await;
    assert_eq!(writer.overrides().await, "none");
    writer.carried_out(&second).await;
    writer.ended_as(&second, EventState::Written, None).await;
    assert_eq!(writer.overrides().await, "85 12 read");
}

#[tokio::test]
async fn what_a_program_changed_or_a_person_confirmed_is_no_correction() {
    let writer = TestWriter::start().await;
    let record = writer.contact(1).await;
    writer.edit(1, "lead_score", "7", "CRM_UI").await;
    let first = writer.decide(&record, 1, &[always("85")], Vec::new()).await;
    writer.carried_out(&first).await;
    for (second, (value, source)) in
        [("85", "CRM_UI"), ("60", "AUTOMATION_PLATFORM"), ("85", "MERGE_OBJECTS")].into_iter().enumerate()
    {
        writer.edit(1, "lead_score", value, source).await;
        let second = i64::try_from(second).expect("small") + 2;
        let next = writer.decide(&record, second, &[always("85")], Vec::new()).await;
        writer.carried_out(&next).await;
        assert_eq!(writer.overrides().await, "none", "{source}");
    }
}
