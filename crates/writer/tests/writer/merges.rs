//! A record that is merged between decision and write: the record that survives gets what was decided, and only as its policies and
//! its order of writes allow.

use std::time::Duration;

use broker::Disposition;
use domain::{
    ActionState, EventState, Reason,
    write_command::{ActionSpec, DealStage, PropertyChange, WritePolicy},
};
use futures_util::future::join_all;
use ledger::Worker;
use simulator::{Call, Fault, FaultKind, Target, admin::Quirks};

use crate::fixtures::{TestWriter, WriterOptions, set, task};

/// A writer whose batches wait long enough for all commands of a test, on a busy machine too.
async fn slow_batches() -> TestWriter {
    let linger = Duration::from_millis(500);
    TestWriter::with(WriterOptions { linger, call_timeout: Duration::from_secs(20), ..WriterOptions::default() }).await
}

/// The calls that read one contact alone.
fn is_read_alone(call: &Call) -> bool {
    call.method == "GET" && call.path.contains("/contacts/")
}

#[tokio::test]
async fn a_persons_value_in_the_surviving_record_is_left_alone() {
    for batch_reads_follow_merges in [false, true] {
        let writer = TestWriter::start().await;
        writer.quirks(&Quirks { batch_reads_follow_merges, ..Quirks::default() }).await;
        let (one, two) = (writer.contact(1).await, writer.contact(2).await);
        writer.edit(2, "lead_score", "12", "CRM_UI").await;
        let always = PropertyChange { policy: WritePolicy::Always, ..set("ai_budget_estimate", "50000") };
        let command = writer.decide(&one, 1, &[set("lead_score", "85"), always], Vec::new()).await;
        let survivor = writer.merge(&two, &[&one]).await;
        assert_eq!(writer.handle(&command).await, Disposition::Done);

        let id = survivor.object_id.0;
        assert_eq!(writer.property(id, "lead_score").await.as_deref(), Some("12"), "a person set it");
        assert_eq!(writer.property(id, "ai_budget_estimate").await.as_deref(), Some("50000"));
        let story = writer.ended_as(&command, EventState::Written, None).await;
        let skipped: Vec<_> =
            story.skipped_writes.iter().map(|kept| (kept.reason, kept.current_value.as_deref())).collect();
        assert_eq!(skipped, [(Reason::KeptHumanValue, Some("12"))]);
        assert_eq!(story.writes.iter().map(|write| write.object_id).collect::<Vec<_>>(), [id]);
        let merges: Vec<_> = story.merges.iter().map(|merge| (merge.merged_from, merge.object_id)).collect();
        assert_eq!(merges, [(1, id)], "the ledger says what happened");
        assert_eq!(writer.query::<i64>("select count(*) from merged_records").await, 2, "both old ids");
        assert_eq!(writer.query::<i64>("select count(*) from record_lease").await, 0);
    }
}

/// The batch update leaves the old id out, and an update of it alone would change the survivor.
#[tokio::test]
async fn a_merge_between_read_and_write_overwrites_nothing() {
    let writer = slow_batches().await;
    let (one, two, other) = (writer.contact(1).await, writer.contact(2).await, writer.contact(3).await);
    writer.edit(2, "lead_score", "12", "CRM_UI").await;
    let command = writer.decide(&one, 1, &[set("lead_score", "85")], Vec::new()).await;
    let beside = writer.decide(&other, 1, &[set("lead_score", "85")], Vec::new()).await;
    writer.fault(&Fault::new(Target::Hubspot, FaultKind::Held).on_path("/contacts/batch/update")).await;
    let merged = async {
        while writer.calls().await.is_empty() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let survivor = writer.merge(&two, &[&one]).await;
        writer.clear_faults().await;
        survivor
    };
    let (of_merged, of_other, survivor) = tokio::join!(writer.handle(&command), writer.handle(&beside), merged);
    assert_eq!((of_merged, of_other), (Disposition::Done, Disposition::Done));
    assert_eq!(writer.property(3, "lead_score").await.as_deref(), Some("85"));
    assert_eq!(writer.property(survivor.object_id.0, "lead_score").await.as_deref(), Some("12"));
    writer.ended_as(&command, EventState::Skipped, Some(Reason::KeptHumanValue)).await;
}

/// An update of one record by its path would take the old id and change the survivor.
#[tokio::test]
async fn a_merge_between_read_and_write_of_a_single_record_leaves_the_survivor_to_the_policies() {
    for (source, kept) in [("CRM_UI", true), ("WORKFLOWS", false)] {
        let writer = slow_batches().await;
        let (one, two) = (writer.contact(1).await, writer.contact(2).await);
        writer.edit(2, "lead_score", "12", source).await;
        let command = writer.decide(&one, 2, &[set("lead_score", "85")], Vec::new()).await;
        writer.fault(&held_update(r#""lead_score":"85""#)).await;
        let merge = writer.merge_after_call((0, "/contacts/batch/read"), &two, &one);
        let (disposition, survivor) = tokio::join!(writer.handle(&command), merge);
        assert_eq!(disposition, Disposition::Done);
        let held = writer.property(survivor.object_id.0, "lead_score").await;
        if kept {
            assert_eq!(held.as_deref(), Some("12"), "a person set it");
            writer.ended_as(&command, EventState::Skipped, Some(Reason::KeptHumanValue)).await;
            continue;
        }
        assert_eq!(held.as_deref(), Some("85"));
        let story = writer.ended_as(&command, EventState::Written, None).await;
        let [write] = &story.writes[..] else { panic!("{:?}", story.writes) };
        assert_eq!(
            (write.object_id, write.before.as_deref()),
            (survivor.object_id.0, Some("12")),
            "an undo restores it"
        );
        let older = writer.decide(&survivor, 1, &[set("lead_score", "25")], Vec::new()).await;
        assert_eq!(writer.handle(&older).await, Disposition::Done);
        writer.ended_as(&older, EventState::Superseded, Some(Reason::NewerEventWritten)).await;
    }
}

/// Holds the updates whose body contains this, also those of one record by its path.
fn held_update(values: &str) -> Fault {
    Fault::new(Target::Hubspot, FaultKind::Held).containing(values)
}

#[tokio::test]
async fn what_was_written_to_an_old_id_counts_for_the_order_of_the_survivor() {
    let writer = TestWriter::start().await;
    let (one, two) = (writer.contact(1).await, writer.contact(2).await);
    let older = writer.decide(&one, 1, &[set("lead_score", "25")], Vec::new()).await;
    let newer = writer.decide(&two, 2, &[set("lead_score", "85")], Vec::new()).await;
    assert_eq!(writer.handle(&newer).await, Disposition::Done);
    let survivor = writer.merge(&one, &[&two]).await;
    assert_eq!(writer.handle(&older).await, Disposition::Done);
    writer.ended_as(&older, EventState::Superseded, Some(Reason::NewerEventWritten)).await;
    assert_eq!(writer.property(survivor.object_id.0, "lead_score").await.as_deref(), Some("85"));

    // The survivor is merged again, and its own survivor knows of both.
    let three = writer.contact(3).await;
    let old = writer.decide(&three, 1, &[set("lead_score", "30")], Vec::new()).await;
    let last = writer.merge(&three, &[&survivor]).await;
    assert_eq!(writer.handle(&old).await, Disposition::Done);
    writer.ended_as(&old, EventState::Superseded, Some(Reason::NewerEventWritten)).await;
    assert_eq!(writer.property(last.object_id.0, "lead_score").await.as_deref(), Some("85"));
}

#[tokio::test]
async fn a_survivor_that_another_writer_holds_is_waited_for() {
    let writer = TestWriter::start().await;
    let (one, two) = (writer.contact(1).await, writer.contact(2).await);
    let command = writer.decide(&one, 1, &[set("lead_score", "85")], Vec::new()).await;
    let survivor = writer.merge(&one, &[&two]).await;
    let (other, records) = (Worker::named("other"), [survivor]);
    writer.ledger.lock_records(&records, &other, Duration::from_secs(600)).await.expect("locked");
    let busy = Disposition::Defer { delay: None, reason: Reason::RecordBusy };
    assert_eq!(writer.handle(&command).await, busy);
    assert_eq!(writer.property(records[0].object_id.0, "lead_score").await, None);
    writer.ledger.unlock_records(&records, &other).await.expect("unlocked");
    assert_eq!(writer.handle(&command).await, Disposition::Done);
    assert_eq!(writer.property(records[0].object_id.0, "lead_score").await.as_deref(), Some("85"));
}

#[tokio::test]
async fn a_record_that_is_gone_is_dropped_after_one_call_about_it() {
    let writer = TestWriter::start().await;
    let record = writer.contact(1).await;
    let command = writer.decide(&record, 1, &[set("lead_score", "85")], vec![task(&record)]).await;
    writer.delete(1).await;
    assert_eq!(writer.handle(&command).await, Disposition::Done);
    let story = writer.ended_as(&command, EventState::Dropped, Some(Reason::RecordGone)).await;
    assert_eq!(story.actions[0].reason, Some(Reason::RecordGone));
    let calls = writer.calls().await;
    assert_eq!(calls.iter().filter(|call| is_read_alone(call)).count(), 1, "{calls:#?}");
    assert!(writer.contact_writes().await.is_empty(), "nothing is sent about a record that is not there");
}

/// Somebody deletes records by the hundred.
#[tokio::test]
async fn missing_records_cost_a_bounded_number_of_calls_and_no_other_record_waits() {
    let writer = slow_batches().await;
    let mut commands = Vec::new();
    for id in 1..=40 {
        let record = writer.contact(id).await;
        commands.push(writer.decide(&record, 1, &[set("lead_score", "85")], Vec::new()).await);
    }
    for id in 1..=30 {
        writer.delete(id).await;
    }
    let dispositions = join_all(commands.iter().map(|command| writer.handle(command))).await;
    let later = Disposition::Defer { delay: None, reason: Reason::NotApplied };
    assert_eq!(dispositions.iter().filter(|disposition| **disposition == later).count(), 10, "{dispositions:?}");
    let alone = writer.calls().await.iter().filter(|call| is_read_alone(call)).count();
    assert_eq!(alone, 20, "of thirty");
    for (id, command) in (1..=40).zip(&commands) {
        writer.until_done(command).await;
        if id <= 30 {
            writer.ended_as(command, EventState::Dropped, Some(Reason::RecordGone)).await;
        } else {
            assert_eq!(writer.property(id, "lead_score").await.as_deref(), Some("85"));
        }
    }
}

#[tokio::test]
async fn actions_go_to_the_record_that_survives() {
    let writer = TestWriter::start().await;
    let (one, two) = (writer.contact(1).await, writer.contact(2).await);
    let note = ActionSpec::CreateNote { body: "Two of them".to_owned(), associations: vec![one.clone(), two.clone()] };
    let command = writer.decide(&one, 1, &[], vec![task(&one), note]).await;
    let survivor = writer.merge(&one, &[&two]).await;
    assert_eq!(writer.handle(&command).await, Disposition::Done);
    let story = writer.ended_as(&command, EventState::Written, None).await;
    assert!(story.actions.iter().all(|action| action.state == ActionState::Done), "{:?}", story.actions);
    let calls = writer.calls().await;
    for kind in ["tasks", "notes"] {
        let created = calls.iter().find(|call| call.path.ends_with(&format!("/{kind}/batch/create"))).expect("created");
        let associations = created.request["inputs"][0]["associations"].as_array().expect("associations");
        let ids: Vec<_> = associations.iter().filter_map(|association| association["to"]["id"].as_str()).collect();
        assert_eq!(ids, [survivor.object_id.to_string()], "{kind}, each record once");
    }

    let deal = |id| writer.object("deal", id, &[("pipeline", "default"), ("dealstage", "contractsent")]);
    let (first, second) = (deal(20).await, deal(21).await);
    let stage = DealStage { stage: "Risk".to_owned(), pipeline: None };
    let moves = writer.decide(&first, 2, &[], vec![ActionSpec::MoveDeal(stage)]).await;
    let survivor = writer.merge(&second, &[&first]).await;
    assert_eq!(writer.handle(&moves).await, Disposition::Done);
    let story = writer.ended_as(&moves, EventState::Written, None).await;
    assert_eq!(story.actions[0].state, ActionState::Done, "{:?}", story.actions);
    assert_eq!(writer.value("deal", survivor.object_id.0, "dealstage").await.as_deref(), Some("991231"));
}

#[tokio::test]
async fn a_deal_that_is_merged_while_it_is_to_be_moved_is_moved_all_the_same() {
    let writer = slow_batches().await;
    let deal = |id| writer.object("deal", id, &[("pipeline", "default"), ("dealstage", "contractsent")]);
    let (first, second) = (deal(20).await, deal(21).await);
    let stage = DealStage { stage: "Risk".to_owned(), pipeline: None };
    let command = writer.decide(&first, 1, &[], vec![ActionSpec::MoveDeal(stage)]).await;
    // The read of its stage. That the deal is there was seen before.
    writer.fault(&Fault::new(Target::Hubspot, FaultKind::Held).on_path("/batch/read").containing("hs_is_closed")).await;
    let merged = async {
        while writer.calls().await.is_empty() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let survivor = writer.merge(&second, &[&first]).await;
        writer.clear_faults().await;
        survivor
    };
    let (disposition, survivor) = tokio::join!(writer.handle(&command), merged);
    assert!(matches!(disposition, Disposition::Retry { reason: Reason::NotApplied, .. }), "{disposition:?}");
    writer.until_done(&command).await;
    let story = writer.ended_as(&command, EventState::Written, None).await;
    assert_eq!(story.actions[0].state, ActionState::Done, "{:?}", story.actions);
    assert_eq!(writer.value("deal", survivor.object_id.0, "dealstage").await.as_deref(), Some("991231"));
}

/// Whoever merged them wanted a closed deal.
#[tokio::test]
async fn a_deal_that_is_merged_into_a_closed_one_while_it_is_moved_stays_closed() {
    let writer = slow_batches().await;
    let open = writer.object("deal", 20, &[("pipeline", "default"), ("dealstage", "contractsent")]).await;
    let won = writer.object("deal", 21, &[("pipeline", "default"), ("dealstage", "closedwon")]).await;
    let stage = DealStage { stage: "Risk".to_owned(), pipeline: None };
    let command = writer.decide(&open, 1, &[], vec![ActionSpec::MoveDeal(stage)]).await;
    writer.fault(&held_update(r#""dealstage":"991231""#)).await;
    let (disposition, survivor) =
        tokio::join!(writer.handle(&command), writer.merge_after_call((0, "/pipelines/"), &won, &open));
    let stage = writer.value("deal", survivor.object_id.0, "dealstage").await;
    assert_eq!(stage.as_deref(), Some("closedwon"), "{disposition:?}");
    writer.until_done(&command).await;
    let story = writer.ended_as(&command, EventState::Written, None).await;
    assert_eq!(story.actions[0].reason, Some(Reason::DealClosed), "{:?}", story.actions);
    let stage = writer.value("deal", survivor.object_id.0, "dealstage").await;
    assert_eq!(stage.as_deref(), Some("closedwon"));
}

/// The late call of a writer that lost its lease names an old id, and HubSpot changes the survivor.
#[tokio::test]
async fn a_late_write_to_an_old_id_is_repaired_in_the_record_that_survives() {
    let writer = TestWriter::start().await;
    let (one, two) = (writer.contact(1).await, writer.contact(2).await);
    for (second, score) in [(1, "25"), (2, "85")] {
        let command = writer.decide(&one, second, &[set("lead_score", score)], Vec::new()).await;
        assert_eq!(writer.handle(&command).await, Disposition::Done);
    }
    let survivor = writer.merge(&one, &[&two]).await;
    writer.edit_as_app(1, "lead_score", "25").await;
    assert_eq!(writer.property(survivor.object_id.0, "lead_score").await.as_deref(), Some("25"));
    writer.ledger.mark_for_verification(&[one]).await.expect("marked");
    writer.verifier.pass().await.expect("the survivor is marked");
    writer.verifier.pass().await.expect("verified");
    assert_eq!(writer.property(survivor.object_id.0, "lead_score").await.as_deref(), Some("85"));
    assert_eq!(writer.query::<i64>("select count(*) from record_lease").await, 0);
}

#[tokio::test]
async fn a_repair_of_a_record_that_is_merged_meanwhile_overwrites_nothing() {
    let writer = TestWriter::start().await;
    let (one, two) = (writer.contact(1).await, writer.contact(2).await);
    for (second, score) in [(1, "25"), (2, "85")] {
        let command = writer.decide(&one, second, &[set("lead_score", score)], Vec::new()).await;
        assert_eq!(writer.handle(&command).await, Disposition::Done);
    }
    writer.edit(2, "lead_score", "12", "CRM_UI").await;
    writer.edit_as_app(1, "lead_score", "25").await;
    writer.ledger.mark_for_verification(std::slice::from_ref(&one)).await.expect("marked");
    writer.fault(&held_update(r#""lead_score":"85""#)).await;
    let known = writer.calls().await.len();
    let merge = writer.merge_after_call((known, "/contacts/batch/read"), &two, &one);
    let (passed, survivor) = tokio::join!(writer.verifier.pass(), merge);
    passed.expect("the survivor is marked");
    writer.verifier.pass().await.expect("verified");
    assert_eq!(writer.property(survivor.object_id.0, "lead_score").await.as_deref(), Some("12"), "a person set it");
    assert_eq!(writer.query::<i64>("select count(*) from record_lease").await, 0);
}
