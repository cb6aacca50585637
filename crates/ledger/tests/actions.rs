//! An action is carried out once: what was begun and not finished is in doubt, and looked for first.

use domain::{ActionId, ActionState, ObjectId, Reason, WriteCommand};
use ledger::{BeginOutcome, BeginRequest, EndedAction, Look, WrittenProperty};

use crate::fixtures::{TestLedger, decision_with_commands, event};

async fn begin(test: &TestLedger, command: &WriteCommand, attempt: i32, look: Look) -> BeginOutcome {
    test.begin_action(command.actions[0].id, command.id, attempt, look).await
}

/// Claims a command for `worker`. Returns the request for its action.
async fn claimed_request(test: &TestLedger, command: &WriteCommand, worker: &str) -> BeginRequest {
    let attempt = test.claimed_command(command, worker).await;
    BeginRequest { id: command.actions[0].id, command: command.id, attempt, look: Look::IfInDoubt }
}

async fn finish(test: &TestLedger, command: &WriteCommand, state: ActionState, reason: Option<Reason>) {
    let id = command.actions[0].id;
    let ended = EndedAction { state, reason, ..EndedAction::done(id, Some(ObjectId(77))) };
    test.ledger.finish_actions(&[ended]).await.expect("finished");
}

#[tokio::test]
async fn what_was_begun_and_not_finished_is_in_doubt_until_it_was_looked_for() {
    let test = TestLedger::new().await;
    let event = event(1, 1);
    let command = test.decided(&event).await;
    let attempt = test.claimed_command(&command, "a").await;
    assert_eq!(begin(&test, &command, attempt, Look::IfInDoubt).await, BeginOutcome::Send);
    test.run("update action set sending_since = now() - interval '90 seconds'").await;
    let BeginOutcome::InDoubt { sending_for } = begin(&test, &command, attempt, Look::IfInDoubt).await else {
        panic!("it may have been done");
    };
    assert!(sending_for.as_secs() >= 90, "{sending_for:?}");
    assert_eq!(begin(&test, &command, attempt, Look::Done).await, BeginOutcome::Send, "HubSpot does not have it");
    finish(&test, &command, ActionState::Done, None).await;
    assert_eq!(begin(&test, &command, attempt, Look::Done).await, BeginOutcome::Ended);

    finish(&test, &command, ActionState::Parked, Some(Reason::ValidationError)).await;
    let story = test.ledger.event_story(event.key.as_str()).await.expect("asked").expect("known");
    let action = &story.actions[0];
    assert_eq!((action.state, action.reason, action.hubspot_id), (ActionState::Done, None, Some(77)), "done is done");
}

#[tokio::test]
async fn each_of_many_actions_gets_its_own_answer_in_order() {
    let test = TestLedger::new().await;
    let mut requests = Vec::new();
    for n in 1..=3 {
        requests.push(claimed_request(&test, &test.decided(&event(n, 1)).await, "a").await);
    }
    test.ledger.begin_actions(&requests[..1]).await.expect("asked");
    test.ledger.finish_actions(&[EndedAction::done(requests[0].id, None)]).await.expect("finished");
    requests[1].attempt += 1;
    requests.reverse();
    let outcomes = test.ledger.begin_actions(&requests).await.expect("asked");
    assert_eq!(outcomes, [BeginOutcome::Send, BeginOutcome::Lost, BeginOutcome::Ended]);
    let again = test.ledger.begin_actions(&requests).await.expect("asked");
    assert!(matches!(again[..], [BeginOutcome::InDoubt { .. }, BeginOutcome::Lost, BeginOutcome::Ended]), "{again:?}");
}

/// The writer may die between the move of a deal and the end of its command.
#[tokio::test]
async fn what_an_action_has_set_is_recorded_with_its_end() {
    let test = TestLedger::new().await;
    let event = event(1, 1);
    let command = test.decided(&event).await;
    let attempt = test.claimed_command(&command, "a").await;
    assert_eq!(begin(&test, &command, attempt, Look::IfInDoubt).await, BeginOutcome::Send);
    let written = WrittenProperty {
        property: "dealstage".to_owned(),
        before: Some("first".to_owned()),
        after: "risk".to_owned(),
    };
    let moved = EndedAction { written: Some(written), ..EndedAction::done(command.actions[0].id, None) };
    test.ledger.finish_actions(&[moved]).await.expect("finished");
    let story = test.ledger.event_story(event.key.as_str()).await.expect("asked").expect("known");
    let writes: Vec<_> = story.writes.iter().map(|write| (write.before.as_deref(), write.after.as_str())).collect();
    assert_eq!(writes, [(Some("first"), "risk")], "it can be undone");
}

#[tokio::test]
async fn an_action_is_begun_only_under_the_claim_of_its_command() {
    let test = TestLedger::new().await;
    let command = test.decided(&event(1, 1)).await;
    let other = test.decided(&event(2, 1)).await;
    assert_eq!(begin(&test, &command, 0, Look::IfInDoubt).await, BeginOutcome::Lost, "no writer has claimed it");
    let late = test.claimed_command(&command, "a").await;
    test.end_command_leases().await;
    let current = test.claimed_command(&command, "b").await;
    assert_eq!(begin(&test, &command, late, Look::IfInDoubt).await, BeginOutcome::Lost);
    let foreign = test.begin_action(command.actions[0].id, other.id, current, Look::IfInDoubt).await;
    assert_eq!(foreign, BeginOutcome::Lost);
    let unknown = test.begin_action(ActionId::new(), command.id, current, Look::IfInDoubt).await;
    assert_eq!(unknown, BeginOutcome::Lost);
    assert_eq!(begin(&test, &command, current, Look::IfInDoubt).await, BeginOutcome::Send);
}

/// The action goes with the change that replaces the other, in whatever order the two are decided, and is carried out once.
#[tokio::test]
async fn two_changes_of_one_millisecond_share_an_action_which_is_the_newer_ones() {
    for newer_first in [false, true] {
        let test = TestLedger::new().await;
        let (older, newer) = (event(1, 1), event(1, 2));
        assert!(older.key.as_str() < newer.key.as_str());
        let (first, second) = if newer_first { (&newer, &older) } else { (&older, &newer) };
        let decided_first = test.decided(first).await;
        let claimed = test.claimed(second, "a").await;
        let mut decision = decision_with_commands(second, &claimed, 1);
        decision.commands[0].actions[0].id = decided_first.actions[0].id;
        assert!(test.commit(&decision).await);
        let decided_second = decision.commands.remove(0);
        let (older, newer) =
            if newer_first { (decided_second, decided_first) } else { (decided_first, decided_second) };

        let (older, newer) = (claimed_request(&test, &older, "a").await, claimed_request(&test, &newer, "b").await);
        let outcomes = test.ledger.begin_actions(&[older, newer, newer]).await.expect("asked");
        // Of two that ask for the same, one sends.
        assert_eq!(outcomes, [BeginOutcome::Ended, BeginOutcome::Send, BeginOutcome::Lost], "{newer_first}");
    }
}

#[tokio::test]
async fn an_action_that_the_older_of_two_changes_left_out_is_the_newer_ones() {
    let test = TestLedger::new().await;
    let older = test.decided(&event(1, 1)).await;
    finish(&test, &older, ActionState::Skipped, Some(Reason::NewerEventWritten)).await;
    let event = event(1, 2);
    let claimed = test.claimed(&event, "a").await;
    let mut decision = decision_with_commands(&event, &claimed, 1);
    decision.commands[0].actions[0].id = older.actions[0].id;
    assert!(test.commit(&decision).await);
    let newer = decision.commands.remove(0);
    let attempt = test.claimed_command(&newer, "b").await;
    assert_eq!(begin(&test, &newer, attempt, Look::IfInDoubt).await, BeginOutcome::Send);
}

#[tokio::test]
async fn a_call_that_certainly_did_not_happen_leaves_no_doubt() {
    let test = TestLedger::new().await;
    let command = test.decided(&event(1, 1)).await;
    let id = command.actions[0].id;
    let attempt = test.claimed_command(&command, "a").await;
    assert_eq!(begin(&test, &command, attempt, Look::IfInDoubt).await, BeginOutcome::Send);
    test.ledger.revert_action_begin(id, command.id, attempt).await.expect("reverted");
    assert_eq!(begin(&test, &command, attempt, Look::IfInDoubt).await, BeginOutcome::Send, "not in doubt");

    // Another writer has claimed the command and begun the action: the first one has no say any more.
    test.end_command_leases().await;
    let newer = test.claimed_command(&command, "b").await;
    assert_eq!(begin(&test, &command, newer, Look::Done).await, BeginOutcome::Send);
    test.ledger.revert_action_begin(id, command.id, attempt).await.expect("asked");
    assert!(matches!(begin(&test, &command, newer, Look::IfInDoubt).await, BeginOutcome::InDoubt { .. }));
}

#[tokio::test]
async fn an_action_is_done_once_within_its_cooldown_for_a_record() {
    let test = TestLedger::new().await;
    let first = test.decided(&event(1, 1)).await;
    let attempt = test.claimed_command(&first, "a").await;
    assert_eq!(begin(&test, &first, attempt, Look::IfInDoubt).await, BeginOutcome::Send);
    finish(&test, &first, ActionState::Done, None).await;

    let again = test.decided(&event(1, 2)).await;
    let attempt = test.claimed_command(&again, "a").await;
    assert_eq!(begin(&test, &again, attempt, Look::IfInDoubt).await, BeginOutcome::Ended);
    let story = test.ledger.event_story(event(1, 2).key.as_str()).await.expect("asked").expect("known");
    assert_eq!((story.actions[0].state, story.actions[0].reason), (ActionState::Skipped, Some(Reason::DoneRecently)));

    let other_record = test.decided(&event(2, 1)).await;
    let attempt = test.claimed_command(&other_record, "a").await;
    assert_eq!(begin(&test, &other_record, attempt, Look::IfInDoubt).await, BeginOutcome::Send);

    test.run("update action set finished_at = finished_at - interval '25 hours' where state = 'done'").await;
    let later = test.decided(&event(1, 3)).await;
    let attempt = test.claimed_command(&later, "a").await;
    assert_eq!(begin(&test, &later, attempt, Look::IfInDoubt).await, BeginOutcome::Send, "24 hours are over");
}

#[tokio::test]
async fn a_cooldown_is_that_of_one_playbook_and_none_at_all_for_zero_hours() {
    let test = TestLedger::new().await;
    let event = event(1, 1);
    let claimed = test.claimed(&event, "a").await;
    let mut decision = decision_with_commands(&event, &claimed, 3);
    decision.commands[2].actions[0].cooldown_hours = 0;
    decision.inferences[2].playbook = decision.inferences[0].playbook.clone();
    // Two answers of one playbook in one event are those of two parts.
    decision.inferences[2].part = Some("a part".to_owned());
    assert!(test.commit(&decision).await);
    for command in &decision.commands {
        let attempt = test.claimed_command(command, "a").await;
        assert_eq!(begin(&test, command, attempt, Look::IfInDoubt).await, BeginOutcome::Send);
        finish(&test, command, ActionState::Done, None).await;
    }
    assert_eq!(test.value::<i64>("select count(*) from action where state = 'done'").await, 3);
}

#[tokio::test]
async fn only_actions_in_the_ledger_are_known() {
    let test = TestLedger::new().await;
    let command = test.decided(&event(1, 1)).await;
    let ours = command.actions[0].id;
    let known = test.ledger.known_actions(&[ActionId::new(), ours, ours]).await.expect("asked");
    assert_eq!(known.into_iter().collect::<Vec<_>>(), [ours]);
}
