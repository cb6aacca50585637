//! What becomes of a message that is no write command, not ours, or delivered twice.

use std::{sync::Arc, time::Duration};

use broker::{Delivery, Disposition, Handler, Message};
use domain::{EventState, PortalId, Reason, RecordRef, WriteCommandId};
use serde_json::json;

use crate::fixtures::{MAX_ATTEMPTS, TestWriter, WriterOptions, set};

#[tokio::test]
async fn a_message_that_is_not_a_valid_write_command_is_parked() {
    let writer = TestWriter::start().await;
    let message = Arc::new(Message::new("x", b"{}".to_vec()));
    let disposition = writer.handler.handle(Delivery { message, redelivered: false }).await;
    assert!(matches!(disposition, Disposition::Park { reason: Reason::CommandInvalid, .. }), "{disposition:?}");
}

#[tokio::test]
async fn a_command_for_another_portal_or_unknown_to_the_ledger_is_parked() {
    let writer = TestWriter::start().await;
    let record = writer.contact(1).await;
    let command = writer.decide(&record, 1, &[set("lead_score", "85")], Vec::new()).await;
    let foreign = RecordRef { portal_id: PortalId(1), ..record };
    let foreign = writer.decide(&foreign, 2, &[set("lead_score", "85")], Vec::new()).await;
    let disposition = writer.handle(&foreign).await;
    assert!(matches!(disposition, Disposition::Park { reason: Reason::WrongPortal, .. }), "{disposition:?}");
    // The ledger has it as parked, too; or the reconciler would publish it again and again.
    writer.ended_as(&foreign, EventState::Parked, Some(Reason::WrongPortal)).await;
    let unknown = domain::WriteCommand { id: WriteCommandId::new(), ..command };
    let disposition = writer.handle(&unknown).await;
    assert!(matches!(disposition, Disposition::Park { reason: Reason::UnknownCommand, .. }), "{disposition:?}");
    assert!(writer.contact_writes().await.is_empty());
}

#[tokio::test]
async fn a_command_that_is_delivered_twice_is_written_once() {
    let writer = TestWriter::start().await;
    let record = writer.contact(1).await;
    let command = writer.decide(&record, 1, &[set("lead_score", "85")], Vec::new()).await;
    let (first, second) = tokio::join!(writer.handle(&command), writer.handle(&command));
    let deferred = Disposition::Defer { delay: None, reason: Reason::LeasedElsewhere };
    let both = [first, second];
    assert!(both.contains(&Disposition::Done), "{both:?}");
    assert!(both.iter().all(|one| *one == Disposition::Done || *one == deferred), "{both:?}");
    assert_eq!(writer.handle(&command).await, Disposition::Done);
    assert_eq!(writer.contact_writes().await.len(), 1);
}

/// Whoever may write to the queue can write any body.
#[tokio::test]
async fn of_a_tampered_message_only_the_id_counts() {
    let writer = TestWriter::start().await;
    let record = writer.contact(1).await;
    let victim = writer.contact(2).await;
    let command = writer.decide(&record, 1, &[set("lead_score", "85")], Vec::new()).await;
    let body = json!({
        "id": command.id, "event_id": command.event_id, "event_key": command.event_key,
        "inference_id": command.inference_id, "occurred_at": 4_000_000_000_000_i64, "record": victim,
        "properties": [
            {"property": "email", "value": "mallory@example.com", "policy": "always"},
            {"property": "lead_score", "value": "1", "policy": "always"},
        ],
        "actions": [{"id": uuid::Uuid::now_v7(), "name": "forged", "cooldown_hours": 0, "kind": "create_note",
                     "spec": {"kind": "create_note", "body": "forged", "associations": []}}],
    });
    let message = Arc::new(Message::new(command.id.to_string(), body.to_string().into_bytes()));
    let disposition = writer.handler.handle(Delivery { message, redelivered: false }).await;
    assert_eq!(disposition, Disposition::Done);
    assert_eq!(writer.property(1, "lead_score").await.as_deref(), Some("85"), "what the ledger has");
    assert_eq!(writer.property(2, "lead_score").await, None, "another record");
    assert_eq!(writer.property(2, "email").await, None, "a protected property");
    assert_eq!(writer.notes().await.len(), 0, "an action of nobody's");
}

/// Somebody changed a row of the ledger by hand.
#[tokio::test]
async fn a_command_whose_row_cannot_be_read_is_parked_alone() {
    let writer = TestWriter::start().await;
    let (bad, good) = (writer.contact(1).await, writer.contact(2).await);
    let bad = writer.decide(&bad, 1, &[set("lead_score", "85")], Vec::new()).await;
    let good = writer.decide(&good, 1, &[set("lead_score", "85")], Vec::new()).await;
    writer.execute("update write_command set properties = '{}' where object_id = 1").await;
    let (parked, written) = tokio::join!(writer.handle(&bad), writer.handle(&good));
    assert!(matches!(parked, Disposition::Park { reason: Reason::CommandInvalid, .. }), "{parked:?}");
    assert_eq!(written, Disposition::Done);
    writer.ended_as(&bad, EventState::Parked, Some(Reason::CommandInvalid)).await;
    writer.ended_as(&good, EventState::Written, None).await;
}

/// While the fleet is upgraded, inference workers of the next version record what this one cannot know.
#[tokio::test]
async fn a_command_of_a_newer_format_waits_unharmed_for_a_writer_that_knows_it() {
    let writer =
        TestWriter::with(WriterOptions { max_age: Duration::from_secs(3_600), ..WriterOptions::default() }).await;
    let (newer, known) = (writer.contact(1).await, writer.contact(2).await);
    let newer = writer.decide(&newer, 1, &[set("lead_score", "85")], Vec::new()).await;
    let known = writer.decide(&known, 1, &[set("lead_score", "85")], Vec::new()).await;
    writer.execute("update write_command set format = 2 where object_id = 1").await;
    let waits = Disposition::Defer { delay: Some(Duration::from_secs(1)), reason: Reason::NewerVersion };
    let (first, written) = tokio::join!(writer.handle(&newer), writer.handle(&known));
    assert_eq!((first, written), (waits.clone(), Disposition::Done), "others are not held up");
    // However often: it is no failure.
    for _ in 0..=MAX_ATTEMPTS {
        assert_eq!(writer.handle(&newer).await, waits);
    }
    let row = "select state::text || ' ' || reason || ' ' || (due_at > now()) from write_command where object_id = 1";
    assert_eq!(writer.query::<String>(row).await, "waiting newer_version true");
    assert_eq!(writer.property(1, "lead_score").await, None, "nothing of it was carried out");

    // The newer writer, which knows it.
    writer.execute("update write_command set format = 1 where object_id = 1").await;
    assert_eq!(writer.handle(&newer).await, Disposition::Done);
    writer.ended_as(&newer, EventState::Written, None).await;
    assert_eq!(writer.property(1, "lead_score").await.as_deref(), Some("85"));
}

#[tokio::test]
async fn a_command_of_a_newer_format_is_parked_when_no_newer_writer_comes() {
    let writer =
        TestWriter::with(WriterOptions { max_age: Duration::from_secs(3_600), ..WriterOptions::default() }).await;
    let record = writer.contact(1).await;
    let command = writer.decide(&record, 1, &[set("lead_score", "85")], Vec::new()).await;
    writer.execute("update write_command set format = 2").await;
    assert!(matches!(writer.handle(&command).await, Disposition::Defer { .. }));
    writer.execute("update event set age_since = now() - interval '2 hours'").await;
    let disposition = writer.handle(&command).await;
    assert!(matches!(disposition, Disposition::Park { reason: Reason::NewerVersion, .. }), "{disposition:?}");
    writer.ended_as(&command, EventState::Parked, Some(Reason::NewerVersion)).await;
    assert!(writer.contact_writes().await.is_empty());
}

/// Postgres refuses to lease one command of a batch.
#[tokio::test]
async fn a_command_that_the_ledger_does_not_hand_out_holds_up_no_other() {
    let writer = TestWriter::start().await;
    let (bad, good) = (writer.contact(1).await, writer.contact(2).await);
    let bad = writer.decide(&bad, 1, &[set("lead_score", "85")], Vec::new()).await;
    let good = writer.decide(&good, 1, &[set("lead_score", "85")], Vec::new()).await;
    writer
        .execute_all(
            "create function refuse() returns trigger language plpgsql as $$ begin
                 if new.object_id = 1 then raise exception 'refused' using errcode = '22P05'; end if;
                 return new;
             end $$;
             create trigger refuse before update on write_command for each row execute function refuse()",
        )
        .await;
    let (refused, written) = tokio::join!(writer.handle(&bad), writer.handle(&good));
    assert!(matches!(refused, Disposition::Park { reason: Reason::LedgerRefused, .. }), "{refused:?}");
    assert_eq!(written, Disposition::Done);
    writer.ended_as(&good, EventState::Written, None).await;
}
