//! What is parked waits for an operator, who replays or discards it.

use domain::{ActionState, CommandState, Event, EventState, Reason, WriteCommand};
use ledger::{Claim, CommandClaim, EndedAction, ParkedEntry, ParkedStage};
use serde_json::json;

use crate::fixtures::{TestLedger, decision, decision_with_commands, event, result};

async fn parked(test: &TestLedger) -> Vec<ParkedEntry> {
    test.ledger.parked().await.expect("asked")
}

/// An event that failed before a decision.
async fn park_event(test: &TestLedger, event: &Event) {
    let claimed = test.claimed(event, "a").await;
    let mut decision = decision(&claimed, EventState::Parked, Some(Reason::Refused));
    (decision.playbook, decision.detail) = (Some("lead-qualification".to_owned()), Some("it declined".to_owned()));
    assert!(test.commit(&decision).await);
}

/// An event with write commands that are all parked, and so are their actions.
async fn park_commands(test: &TestLedger, event: &Event, count: usize) -> Vec<WriteCommand> {
    let claimed = test.claimed(event, "a").await;
    let decision = decision_with_commands(event, &claimed, count);
    assert!(test.commit(&decision).await);
    let reason = Some(Reason::ValidationError);
    for command in &decision.commands {
        let attempt = test.claimed_command(command, "writer").await;
        let action = command.actions[0].id;
        let parked = EndedAction { state: ActionState::Parked, reason, ..EndedAction::done(action, None) };
        test.ledger.finish_actions(&[parked]).await.expect("parked");
        assert!(test.finish(&result(command, attempt, CommandState::Parked, reason), "writer").await);
    }
    assert_eq!(test.state(event).await, (EventState::Parked, reason));
    decision.commands
}

#[tokio::test]
async fn a_parked_event_and_a_parked_command_are_listed_with_their_reasons() {
    let test = TestLedger::new().await;
    park_event(&test, &event(1, 1)).await;
    let command = park_commands(&test, &event(2, 1), 1).await.remove(0);
    let entries = parked(&test).await;
    assert_eq!(entries.len(), 2, "the second event is parked only because of its command: {entries:?}");
    let (first, second) = (&entries[0], &entries[1]);
    assert_eq!((first.stage, first.reason), (ParkedStage::Events, Some(Reason::Refused)));
    assert_eq!((first.playbook.as_deref(), first.detail.as_deref()), (Some("lead-qualification"), Some("it declined")));
    assert_eq!((first.write_command_id, first.object_id), (None, Some(1)));
    assert_eq!((second.stage, second.reason), (ParkedStage::Writes, Some(Reason::ValidationError)));
    assert_eq!((second.write_command_id, second.object_id), (Some(command.id.0), Some(2)));
}

/// Also after its history was deleted, which says why the event is parked.
#[tokio::test]
async fn what_is_parked_is_listed_the_same_without_its_history() {
    let test = TestLedger::new().await;
    park_event(&test, &event(1, 1)).await;
    park_commands(&test, &event(2, 1), 1).await;
    let before = parked(&test).await;
    test.run("set local session_replication_role = replica; truncate event_history").await;
    assert_eq!(parked(&test).await, before);
}

#[tokio::test]
async fn a_replayed_event_waits_for_its_message_and_is_claimed_again() {
    let test = TestLedger::new().await;
    let event = event(1, 1);
    park_event(&test, &event).await;
    assert!(test.ledger.replay_event(event.key.as_str()).await.expect("replayed"));
    assert!(!test.ledger.replay_event(event.key.as_str()).await.expect("asked"), "it is parked no more");
    assert_eq!(test.state(&event).await, (EventState::Waiting, Some(Reason::Replayed)));
    assert_eq!(parked(&test).await, []);
    assert!(matches!(test.claim(&[&event], "b").await[..], [Claim::Granted(_)]));
}

#[tokio::test]
async fn a_replayed_command_brings_its_event_and_its_parked_actions_back() {
    let test = TestLedger::new().await;
    let event = event(1, 1);
    let commands = park_commands(&test, &event, 2).await;
    assert!(test.ledger.replay_command(commands[0].id).await.expect("replayed"));
    assert!(!test.ledger.replay_command(commands[0].id).await.expect("asked"));
    let story = test.ledger.event_story(event.key.as_str()).await.expect("asked").expect("known");
    assert_eq!((story.state, story.reason), (EventState::Decided, None));
    let states: Vec<_> = story.actions.iter().map(|action| (action.state, action.reason)).collect();
    let still_parked = (ActionState::Parked, Some(Reason::ValidationError));
    assert_eq!(states, [(ActionState::Intended, None), still_parked]);
    assert!(matches!(test.claim_command(&commands[0], "b").await, CommandClaim::Granted { attempt: 2, .. }));
    assert_eq!(test.claim_command(&commands[1], "b").await, CommandClaim::Finished, "the other one stays parked");
    assert_eq!(parked(&test).await.len(), 1);

    // When it ends, the event is parked again, for the other one.
    let superseded = result(&commands[0], 2, CommandState::Superseded, Some(Reason::NewerEventWritten));
    assert!(test.finish(&superseded, "b").await);
    assert_eq!(test.state(&event).await, (EventState::Parked, Some(Reason::ValidationError)));
}

#[tokio::test]
async fn a_discarded_event_is_dropped_with_its_parked_commands() {
    let test = TestLedger::new().await;
    let event = event(1, 1);
    let command = park_commands(&test, &event, 1).await.remove(0);
    assert!(test.ledger.discard_event(event.key.as_str()).await.expect("discarded"));
    assert!(!test.ledger.discard_event(event.key.as_str()).await.expect("asked"));
    assert_eq!(test.state(&event).await, (EventState::Dropped, Some(Reason::Discarded)));
    let command: String =
        test.value(&format!("select state || ' ' || reason from write_command where id = '{}'", command.id)).await;
    assert_eq!(command, "dropped discarded");
    assert_eq!(parked(&test).await, []);
}

#[tokio::test]
async fn an_event_is_dropped_when_the_last_of_its_parked_commands_is_discarded() {
    let test = TestLedger::new().await;
    let event = event(1, 1);
    let commands = park_commands(&test, &event, 2).await;
    assert!(test.ledger.discard_command(commands[0].id).await.expect("discarded"));
    assert!(!test.ledger.discard_command(commands[0].id).await.expect("asked"));
    assert_eq!(test.state(&event).await.0, EventState::Parked, "one is left");
    assert!(test.ledger.discard_command(commands[1].id).await.expect("discarded"));
    assert_eq!(test.state(&event).await, (EventState::Dropped, Some(Reason::Discarded)));
}

#[tokio::test]
async fn an_event_is_found_by_key_or_id_with_what_is_needed_to_publish_it_again() {
    let test = TestLedger::new().await;
    let (claimed, decided) = (event(1, 1), event(2, 1));
    let id = test.claimed(&claimed, "a").await.event_id;
    let command = test.decided(&decided).await;
    let find = async |text: &str| test.ledger.event_to_requeue(text).await.expect("asked");
    let by_id = find(&id.to_string()).await.expect("known");
    assert_eq!((by_id.state, by_id.is_leased), (EventState::Claimed, true));
    assert_eq!((by_id.key, by_id.payload, by_id.commands), (claimed.key.to_string(), json!(claimed.payload), vec![]));
    test.end_event_leases().await;
    assert!(!find(claimed.key.as_str()).await.expect("known").is_leased);
    let by_key = find(decided.key.as_str()).await.expect("known");
    assert_eq!((by_key.state, by_key.commands), (EventState::Decided, vec![command.id]));
    assert_eq!(find("unknown").await, None);
}
