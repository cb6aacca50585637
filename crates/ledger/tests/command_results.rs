//! What was written counts only under the record's lease, and an event ends with its last command.

use domain::{CommandState, EventState, Reason, WriteCommand};
use ledger::{CommandResult, SkippedWrite};

use crate::fixtures::{TestLedger, decision_with_commands, event, result, worker, written};

/// An event with `count` write commands, all claimed once by `writer`.
async fn claimed_commands(test: &TestLedger, contact: i64, count: usize) -> Vec<WriteCommand> {
    let event = event(contact, 1);
    let claimed = test.claimed(&event, "inference").await;
    let decision = decision_with_commands(&event, &claimed, count);
    assert!(test.commit(&decision).await);
    for command in &decision.commands {
        assert_eq!(test.claimed_command(command, "writer").await, 1);
    }
    decision.commands
}

#[tokio::test]
async fn what_was_written_counts_only_with_the_records_lease() {
    let test = TestLedger::new().await;
    let event = event(1, 1);
    let command = test.decided(&event).await;
    let attempt = test.claimed_command(&command, "a").await;
    assert!(!test.finish(&written(&command, attempt), "a").await, "it never leased the record");

    test.lease(&command.record, "a").await;
    test.end_record_leases().await;
    test.lease(&command.record, "b").await;
    assert!(!test.finish(&written(&command, attempt), "a").await, "another writer may have written a newer value");
    assert_eq!(test.value::<i64>("select count(*) from write").await, 0);
    assert_eq!(test.state(&event).await, (EventState::Decided, None));
    // What wrote nothing needs no lease.
    let waits = result(&command, attempt, CommandState::Waiting, Some(Reason::LeaseLost));
    assert!(test.finish(&waits, "a").await);

    test.end_record_leases().await;
    test.written(&command, "a").await;
    assert_eq!(test.state(&event).await, (EventState::Written, None));
    let story = test.ledger.event_story(event.key.as_str()).await.expect("asked").expect("known");
    let writes: Vec<_> = story.writes.iter().map(|write| (write.property.as_str(), write.after.as_str())).collect();
    assert_eq!(writes, [("lead_score", "85")]);
}

#[tokio::test]
async fn an_event_ends_with_its_last_command_in_the_gravest_of_their_states() {
    use CommandState::{Dropped, Parked, Skipped, Superseded, Written};
    let test = TestLedger::new().await;
    let reason = |state| match state {
        Parked => Some(Reason::ValidationError),
        Dropped => Some(Reason::RecordGone),
        Skipped => Some(Reason::KeptHumanValue),
        Superseded => Some(Reason::NewerEventWritten),
        _ => None,
    };
    let cases = [
        ([Superseded, Superseded], EventState::Superseded, reason(Superseded)),
        ([Superseded, Skipped], EventState::Skipped, reason(Skipped)),
        ([Skipped, Dropped], EventState::Dropped, reason(Dropped)),
        ([Dropped, Written], EventState::Written, None),
        ([Skipped, Written], EventState::Written, None),
        ([Written, Parked], EventState::Parked, reason(Parked)),
        ([Superseded, Parked], EventState::Parked, reason(Parked)),
    ];
    for (contact, (states, ends_as, with)) in (1..).zip(cases) {
        let event = event(contact, 1);
        let commands = claimed_commands(&test, contact, 2).await;
        test.lease(&commands[0].record, "writer").await;
        for (number, (command, state)) in commands.iter().zip(states).enumerate() {
            assert_eq!(test.state(&event).await, (EventState::Decided, None), "{states:?}: {number} are finished");
            let finished = match state {
                Written => written(command, 1),
                other => result(command, 1, other, reason(other)),
            };
            assert!(test.finish(&finished, "writer").await);
        }
        assert_eq!(test.state(&event).await, (ends_as, with), "{states:?}");
    }
}

#[tokio::test]
async fn two_writers_that_finish_the_two_commands_of_an_event_end_it() {
    let test = TestLedger::new().await;
    for contact in 1..=10 {
        let commands = claimed_commands(&test, contact, 2).await;
        let finish = async |command: &WriteCommand| {
            test.finish(&result(command, 1, CommandState::Skipped, Some(Reason::KeptFilled)), "writer").await
        };
        let both = tokio::join!(finish(&commands[0]), finish(&commands[1]));
        assert_eq!(both, (true, true));
        assert_eq!(test.state(&event(contact, 1)).await, (EventState::Skipped, Some(Reason::KeptFilled)));
    }
}

#[tokio::test]
async fn a_value_that_was_left_as_it_is_is_recorded_with_the_reason() {
    let test = TestLedger::new().await;
    let event = event(1, 1);
    let command = test.decided(&event).await;
    let attempt = test.claimed_command(&command, "a").await;
    let skipped = SkippedWrite {
        property: "lead_score".to_owned(),
        reason: Reason::KeptHumanValue,
        current_value: Some("7".to_owned()),
        proposed_value: "85".to_owned(),
    };
    let reason = Some(Reason::KeptHumanValue);
    let result =
        CommandResult { skipped_writes: vec![skipped], ..result(&command, attempt, CommandState::Skipped, reason) };
    assert!(test.finish(&result, "a").await);
    let story = test.ledger.event_story(event.key.as_str()).await.expect("asked").expect("known");
    assert_eq!((story.state, story.reason), (EventState::Skipped, reason));
    let entry = &story.skipped_writes[0];
    assert_eq!((entry.reason, entry.current_value.as_deref()), (Reason::KeptHumanValue, Some("7")));
    assert_eq!(entry.proposed_value, "85");
}

#[tokio::test]
async fn the_actions_of_a_dropped_command_are_skipped() {
    let test = TestLedger::new().await;
    let event = event(1, 1);
    let command = test.decided(&event).await;
    let attempt = test.claimed_command(&command, "a").await;
    let dropped = result(&command, attempt, CommandState::Dropped, Some(Reason::RecordGone));
    assert!(test.finish(&dropped, "a").await);
    let story = test.ledger.event_story(event.key.as_str()).await.expect("asked").expect("known");
    assert_eq!(story.actions[0].state, domain::ActionState::Skipped);
    assert_eq!(story.actions[0].reason, Some(Reason::RecordGone));
}

#[tokio::test]
async fn of_a_batch_the_results_that_count_are_committed() {
    let test = TestLedger::new().await;
    let (first, second) = (test.decided(&event(1, 1)).await, test.decided(&event(2, 1)).await);
    for command in [&first, &second] {
        test.lease(&command.record, "a").await;
        test.claimed_command(command, "a").await;
    }
    let results = [written(&first, 7), written(&second, 1)];
    let committed = test.ledger.finish_commands(&results, &worker("a")).await.expect("committed");
    assert_eq!(committed, [false, true]);
    assert_eq!(test.state(&event(1, 1)).await, (EventState::Decided, None));
    assert_eq!(test.state(&event(2, 1)).await, (EventState::Written, None));
}
