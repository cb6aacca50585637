//! One bad record never keeps the other records of a batch from being written.

use std::time::Duration;

use broker::Disposition;
use domain::{EventState, Reason};
use futures_util::future::join_all;
use simulator::{Fault, FaultKind, Target, admin::Quirks};

use crate::fixtures::{MAX_ATTEMPTS, TestWriter, WriterOptions, ids_of, set};

/// A writer whose batches wait long enough for all commands of a test, on a busy machine too.
async fn slow_batches() -> TestWriter {
    TestWriter::with(WriterOptions { linger: Duration::from_millis(500), ..WriterOptions::default() }).await
}

#[tokio::test]
async fn a_value_that_hubspot_rejects_costs_neither_its_record_nor_another_anything_else() {
    let writer = slow_batches().await;
    // A validation rule in the portal: no budget above ten million.
    let quirks = Quirks { maxima: [("ai_budget_estimate".to_owned(), 10_000_000)].into(), ..Quirks::default() };
    writer.quirks(&quirks).await;
    let mut commands = Vec::new();
    for id in 1..=40 {
        let budget = if id == 23 { "900000000" } else { "50000" };
        let record = writer.contact(id).await;
        let changes = [set("ai_budget_estimate", budget), set("lead_score", "85")];
        commands.push(writer.decide(&record, 1, &changes, Vec::new()).await);
    }
    let dispositions = join_all(commands.iter().map(|command| writer.handle(command))).await;
    for (command, disposition) in commands.iter().zip(dispositions) {
        let id = command.record.object_id.0;
        assert_eq!(disposition, Disposition::Done, "contact {id}");
        let story = writer.ended_as(command, EventState::Written, None).await;
        assert_eq!(writer.property(id, "lead_score").await.as_deref(), Some("85"));
        if id == 23 {
            let [skipped] = &story.skipped_writes[..] else { panic!("{:?}", story.skipped_writes) };
            assert_eq!((skipped.property.as_str(), skipped.reason), ("ai_budget_estimate", Reason::ValueRefused));
            assert_eq!(skipped.proposed_value, "900000000");
            assert_eq!(writer.property(id, "ai_budget_estimate").await, None);
        } else {
            assert_eq!(writer.property(id, "ai_budget_estimate").await.as_deref(), Some("50000"));
        }
    }
    let calls = writer.contact_writes().await;
    assert_eq!(ids_of(&calls[0]).len(), 40, "it was one batch that had to be halved");
}

#[tokio::test]
async fn a_record_whose_only_value_is_rejected_is_parked_with_the_propertys_name() {
    let writer = TestWriter::start().await;
    let quirks = Quirks { maxima: [("ai_budget_estimate".to_owned(), 10_000_000)].into(), ..Quirks::default() };
    writer.quirks(&quirks).await;
    let record = writer.contact(1).await;
    let command = writer.decide(&record, 1, &[set("ai_budget_estimate", "900000000")], Vec::new()).await;
    let Disposition::Park { reason: Reason::ValidationError, detail } = writer.handle(&command).await else {
        panic!("it is parked")
    };
    assert!(detail.contains("ai_budget_estimate"), "{detail}");
    let story = writer.ended_as(&command, EventState::Parked, Some(Reason::ValidationError)).await;
    assert_eq!(story.detail.as_ref(), Some(&detail));
}

/// Somebody deleted a property that a playbook writes, and HubSpot's answer names it in one of two ways.
#[tokio::test]
async fn a_missing_property_costs_one_refused_call_and_no_record_its_other_values() {
    for names_in_message_only in [false, true] {
        let writer = slow_batches().await;
        let missing_properties = vec!["ai_budget_estimate".to_owned()];
        writer.quirks(&Quirks { missing_properties, names_in_message_only, ..Quirks::default() }).await;
        let mut commands = Vec::new();
        for id in 1..=20 {
            let record = writer.contact(id).await;
            let changes = [set("ai_budget_estimate", "50000"), set("lead_score", "85")];
            commands.push(writer.decide(&record, 1, &changes, Vec::new()).await);
        }
        // Two batches, one after the other: the second knows what the first learned.
        for half in commands.chunks(10) {
            let dispositions = join_all(half.iter().map(|command| writer.handle(command))).await;
            assert!(dispositions.iter().all(|disposition| *disposition == Disposition::Done), "{dispositions:?}");
        }
        for command in &commands {
            let story = writer.ended_as(command, EventState::Written, None).await;
            let skipped = story.skipped_writes.iter().map(|skipped| (skipped.property.as_str(), skipped.reason));
            assert_eq!(skipped.collect::<Vec<_>>(), [("ai_budget_estimate", Reason::ValueRefused)]);
            let id = command.record.object_id.0;
            assert_eq!(writer.property(id, "lead_score").await.as_deref(), Some("85"), "contact {id}");
        }
        let refused = writer.contact_writes().await.iter().filter(|call| call.status == 400).count();
        assert_eq!(refused, 1, "names in the message only: {names_in_message_only}");
    }
}

#[tokio::test]
async fn a_record_that_a_batch_answer_leaves_out_is_not_taken_for_written() {
    let writer = slow_batches().await;
    writer.quirks(&Quirks { left_out_ids: [(5, 1)].into(), ..Quirks::default() }).await;
    let mut commands = Vec::new();
    for id in 1..=10 {
        let record = writer.contact(id).await;
        commands.push(writer.decide(&record, 1, &[set("ai_budget_estimate", "50000")], Vec::new()).await);
    }
    let dispositions = join_all(commands.iter().map(|command| writer.handle(command))).await;
    for (command, disposition) in commands.iter().zip(dispositions) {
        assert_eq!(disposition, Disposition::Done);
        writer.ended_as(command, EventState::Written, None).await;
        let id = command.record.object_id.0;
        assert_eq!(writer.property(id, "ai_budget_estimate").await.as_deref(), Some("50000"), "contact {id}");
    }
    let calls = writer.contact_writes().await;
    assert_eq!(calls.iter().skip(1).map(ids_of).collect::<Vec<_>>(), [["5"]], "only this one was written alone");
}

/// HubSpot never says why.
#[tokio::test]
async fn a_record_that_is_left_out_whatever_happens_is_tried_again_and_parked_in_the_end() {
    let writer = TestWriter::start().await;
    writer.quirks(&Quirks { left_out_ids: [(1, u32::MAX)].into(), ..Quirks::default() }).await;
    let record = writer.contact(1).await;
    let command = writer.decide(&record, 1, &[set("lead_score", "85")], Vec::new()).await;
    let first = writer.handle(&command).await;
    assert!(matches!(first, Disposition::Retry { reason: Reason::NotApplied, .. }), "it counts: {first:?}");
    let last = writer.handle_after(&command, MAX_ATTEMPTS).await;
    assert!(matches!(last, Disposition::Park { reason: Reason::NotApplied, .. }), "{last:?}");
    assert_eq!(writer.property(1, "lead_score").await, None);
}

/// An object type that was deleted, a version that was switched off, a proxy that knows no such path.
#[tokio::test]
async fn a_call_that_finds_nothing_at_its_path_drops_no_command() {
    let writer = slow_batches().await;
    let mut commands = Vec::new();
    for id in 1..=10 {
        let record = writer.contact(id).await;
        commands.push(writer.decide(&record, 1, &[set("lead_score", "85")], Vec::new()).await);
    }
    for path in ["/contacts/batch/read", "/contacts/batch/update"] {
        let before = writer.calls().await.len();
        let not_found = FaultKind::Status { code: 404, retry_after: None };
        writer.fault(&Fault::new(Target::Hubspot, not_found).on_path(path)).await;
        let dispositions = join_all(commands.iter().map(|command| writer.handle(command))).await;
        let is_retried = |disposition: &Disposition| {
            matches!(disposition, Disposition::Retry { reason: Reason::HubSpotRefused, .. })
        };
        assert!(dispositions.iter().all(is_retried), "{path}: {dispositions:?}");
        assert!(writer.calls().await.len() - before < 10, "and no record is looked for alone");
        writer.clear_faults().await;
    }
    for command in &commands {
        writer.until_done(command).await;
        writer.ended_as(command, EventState::Written, None).await;
    }
}

#[tokio::test]
async fn many_writes_go_in_one_call_and_one_goes_as_a_batch_of_one() {
    let writer = slow_batches().await;
    let mut records = Vec::new();
    for id in 1..=100 {
        records.push(writer.contact(id).await);
    }
    let single = writer.decide(&records[0], 1, &[set("lead_score", "85")], Vec::new()).await;
    assert_eq!(writer.handle(&single).await, Disposition::Done);
    let calls = writer.contact_writes().await;
    assert_eq!(calls.iter().map(ids_of).collect::<Vec<_>>(), [["1"]], "a PATCH would take the id of a merged record");

    let mut commands = Vec::new();
    for record in &records {
        commands.push(writer.decide(record, 2, &[set("lead_score", "90")], Vec::new()).await);
    }
    let dispositions = join_all(commands.iter().map(|command| writer.handle(command))).await;
    assert!(dispositions.iter().all(|disposition| *disposition == Disposition::Done), "{dispositions:?}");
    let calls = writer.contact_writes().await;
    assert_eq!(calls.len(), 2, "the 100 records were written in one call");
    assert_eq!(ids_of(&calls[1]).len(), 100);
}

#[tokio::test]
async fn a_bad_value_of_one_command_keeps_no_other_command_of_the_record_from_being_written() {
    let writer = slow_batches().await;
    let quirks = Quirks { maxima: [("lead_score".to_owned(), 100)].into(), ..Quirks::default() };
    writer.quirks(&quirks).await;
    let record = writer.contact(1).await;
    let bad = writer.decide(&record, 1, &[set("lead_score", "900")], Vec::new()).await;
    let good = writer.decide(&record, 2, &[set("ai_budget_estimate", "50000")], Vec::new()).await;
    let (of_bad, of_good) = tokio::join!(writer.handle(&bad), writer.handle(&good));
    assert!(matches!(of_bad, Disposition::Park { reason: Reason::ValidationError, .. }), "{of_bad:?}");
    assert_eq!(of_good, Disposition::Done);
    assert_eq!(writer.property(1, "ai_budget_estimate").await.as_deref(), Some("50000"));
    assert_eq!(writer.property(1, "lead_score").await, None);
}

/// Something in one record that HubSpot itself writes as no document says: a value, a time, an answer that is too long.
#[tokio::test]
async fn a_record_that_cannot_be_read_holds_up_no_other_and_is_no_outage() {
    let writer = slow_batches().await;
    let unreadable = Fault::new(Target::Hubspot, FaultKind::Malformed).on_path("/batch/read").containing("\"23\"");
    writer.fault(&unreadable).await;
    let mut commands = Vec::new();
    for id in 1..=40 {
        let record = writer.contact(id).await;
        commands.push(writer.decide(&record, 1, &[set("lead_score", "85")], Vec::new()).await);
    }
    let dispositions = join_all(commands.iter().map(|command| writer.handle(command))).await;
    for (command, disposition) in commands.iter().zip(dispositions) {
        let id = command.record.object_id.0;
        if id == 23 {
            assert!(
                matches!(disposition, Disposition::Retry { reason: Reason::HubSpotUnreadable, .. }),
                "its attempts are counted, so that it is parked in the end: {disposition:?}"
            );
        } else {
            assert_eq!(disposition, Disposition::Done, "contact {id}");
            assert_eq!(writer.property(id, "lead_score").await.as_deref(), Some("85"));
        }
    }
    assert_eq!(writer.property(23, "lead_score").await, None, "what was there before is unknown");
}

/// What HubSpot holds may be what Postgres does not store. Which value it is does not matter here, only that it is refused.
#[tokio::test]
async fn a_result_that_the_ledger_refuses_parks_its_command_alone() {
    let writer = slow_batches().await;
    writer
        .execute_all(
            "create function refuse() returns trigger language plpgsql as $$ begin
                 if new.after = '66' then raise exception 'invalid byte sequence' using errcode = '22021'; end if;
                 return new;
             end $$;
             create trigger refuse before insert on write for each row execute function refuse()",
        )
        .await;
    let mut commands = Vec::new();
    for id in 1..=12 {
        let record = writer.contact(id).await;
        let score = if id == 7 { "66" } else { "85" };
        commands.push(writer.decide(&record, 1, &[set("lead_score", score)], Vec::new()).await);
    }
    let dispositions = join_all(commands.iter().map(|command| writer.handle(command))).await;
    for (command, disposition) in commands.iter().zip(dispositions) {
        if command.record.object_id.0 == 7 {
            assert!(matches!(disposition, Disposition::Park { reason: Reason::LedgerRefused, .. }), "{disposition:?}");
            writer.ended_as(command, EventState::Parked, Some(Reason::LedgerRefused)).await;
        } else {
            assert_eq!(disposition, Disposition::Done);
            let story = writer.ended_as(command, EventState::Written, None).await;
            assert_eq!(story.writes.len(), 1, "with the value before and after");
        }
    }
    let verify = writer.query::<i64>("select count(*) from record_lease where verify").await;
    assert_eq!(verify, 1, "HubSpot holds a value that the ledger does not know");
}
