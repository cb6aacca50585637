//! A record keeps its history under all ids by which it was known.

use std::slice::from_ref;

use domain::{CommandState, ObjectId, Reason, RecordRef, inference::ErasureCause, write_command::ActionSpec};
use ledger::{BeginOutcome, CommandClaim, CommandResult, EndedAction, Look, RecordMerge};

use crate::fixtures::{TestLedger, contact, decision_with_commands, event, result};

fn merge(old: i64, survivor: i64) -> RecordMerge {
    RecordMerge { old: contact(old), survivor: ObjectId(survivor) }
}

async fn survivor(test: &TestLedger, id: i64) -> Option<RecordRef> {
    test.ledger.survivors(&[contact(id)]).await.expect("asked").remove(&contact(id))
}

#[tokio::test]
async fn merges_lead_to_the_last_survivor_in_whatever_order_they_are_noticed() {
    let test = TestLedger::new().await;
    for merges in [[merge(1, 2), merge(2, 3), merge(3, 4)], [merge(13, 14), merge(12, 13), merge(11, 12)]] {
        let last = merges.iter().map(|merge| merge.survivor.0).max().expect("three");
        for merge in &merges {
            test.ledger.record_merges(from_ref(merge)).await.expect("recorded");
        }
        test.ledger.record_merges(&merges).await.expect("once more changes nothing");
        for merge in &merges {
            assert_eq!(survivor(&test, merge.old.object_id.0).await, Some(contact(last)), "{merge:?}");
        }
        assert_eq!(survivor(&test, last).await, None);
    }
    // In one statement, and round in a circle.
    test.ledger.record_merges(&[merge(21, 22), merge(22, 23), merge(23, 21)]).await.expect("recorded");
    assert_eq!(survivor(&test, 21).await, Some(contact(23)));
    assert_eq!(survivor(&test, 22).await, Some(contact(23)));
}

#[tokio::test]
async fn what_was_written_to_a_merged_record_counts_for_the_survivor() {
    let test = TestLedger::new().await;
    let older = test.decided(&event(7, 1)).await;
    let newer = test.decided(&event(1, 2)).await;
    test.written(&newer, "a").await;
    let latest = test.ledger.latest_writes(&[contact(7)], None).await.expect("asked");
    assert!(!latest.is_newer_than(&older, "lead_score") && latest.value(&contact(7), "lead_score").is_none());
    test.ledger.record_merges(&[merge(1, 7), merge(2, 7)]).await.expect("recorded");
    let latest = test.ledger.latest_writes(&[contact(7), contact(8)], None).await.expect("asked");
    assert!(latest.is_newer_than(&older, "lead_score"));
    assert_eq!(latest.value(&contact(7), "lead_score"), Some("85"));
    let values = test.ledger.latest_values(&contact(7)).await.expect("asked");
    assert_eq!(values.iter().map(|value| value.value.as_str()).collect::<Vec<_>>(), ["85"]);
}

#[tokio::test]
async fn a_command_goes_on_with_the_survivor_and_the_ledger_says_so() {
    let test = TestLedger::new().await;
    let event = event(1, 1);
    let claimed = test.claimed(&event, "inference").await;
    let mut decision = decision_with_commands(&event, &claimed, 1);
    decision.commands[0].actions[0].spec = ActionSpec::CreateNote {
        body: "Call them.".to_owned(),
        associations: vec![contact(1), contact(2), contact(3)],
    };
    assert!(test.commit(&decision).await);
    let command = &decision.commands[0];
    let attempt = test.claimed_command(command, "a").await;
    let waits = result(command, attempt, CommandState::Waiting, Some(Reason::RecordMerged));
    assert!(test.finish(&CommandResult { moved_to: Some(ObjectId(7)), ..waits }, "a").await);
    test.ledger.record_merges(&[merge(1, 7), merge(2, 7)]).await.expect("recorded");

    let CommandClaim::Granted { command: moved, attempt, .. } = test.claim_command(command, "b").await else {
        panic!("granted at once")
    };
    assert_eq!(moved.record, contact(7));
    let ActionSpec::CreateNote { associations, .. } = &moved.actions[0].spec else { panic!("a note") };
    assert_eq!(associations, &[contact(7), contact(3)], "each record once");
    let again = result(command, attempt, CommandState::Waiting, Some(Reason::RecordMerged));
    assert!(test.finish(&CommandResult { moved_to: Some(ObjectId(9)), ..again }, "b").await);
    let story = test.ledger.event_story(event.key.as_str()).await.expect("asked").expect("known");
    let merges: Vec<_> = story.merges.iter().map(|merge| (merge.merged_from, merge.object_id)).collect();
    assert_eq!(merges, [(1, 9)], "from where it was decided to where it is");
}

#[tokio::test]
async fn an_action_that_was_done_for_a_merged_record_was_done_for_the_survivor() {
    let test = TestLedger::new().await;
    let first = test.decided(&event(1, 1)).await;
    let attempt = test.claimed_command(&first, "a").await;
    let begin = async |command: &domain::WriteCommand, attempt| {
        test.begin_action(command.actions[0].id, command.id, attempt, Look::IfInDoubt).await
    };
    assert_eq!(begin(&first, attempt).await, BeginOutcome::Send);
    let id = first.actions[0].id;
    test.ledger.finish_actions(&[EndedAction::done(id, Some(ObjectId(77)))]).await.expect("finished");
    test.ledger.record_merges(&[merge(1, 7)]).await.expect("recorded");
    let second = test.decided(&event(7, 2)).await;
    let attempt = test.claimed_command(&second, "a").await;
    assert_eq!(begin(&second, attempt).await, BeginOutcome::Ended, "within its cooldown");
    let other = test.decided(&event(8, 3)).await;
    let attempt = test.claimed_command(&other, "a").await;
    assert_eq!(begin(&other, attempt).await, BeginOutcome::Send);
}

#[tokio::test]
async fn who_is_erased_is_erased_under_all_ids() {
    let test = TestLedger::new().await;
    for id in [1, 7, 9] {
        let command = test.decided(&event(id, id)).await;
        test.written(&command, "a").await;
    }
    test.ledger.record_merges(&[merge(1, 7), merge(2, 9)]).await.expect("recorded");
    test.run("update write_command set merged_from = 1 where object_id = 7").await;
    let records = test.ledger.request_erasure(&contact(7), ErasureCause::Operator).await.expect("requested");
    assert_eq!(records, [contact(7), contact(1)]);
    for record in &records {
        let (erased, _) = test.ledger.erase(record).await.expect("erased");
        assert_eq!((erased.events, erased.write_commands, erased.values), (1, 1, 1));
    }
    let left = "select array(select object_id from event where object_id is not null
                             union all select object_id from write where object_id <> 0
                             union all select merged_from from write_command where merged_from is not null
                             union all select old_id from record_merge order by 1)";
    assert_eq!(test.value::<Vec<i64>>(left).await, [2, 9, 9], "what is about others stays");
}
