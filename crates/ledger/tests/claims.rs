//! A claim is the idempotency check: one worker at a time, and nothing twice.

use domain::{Event, EventState, Reason};
use ledger::{Claim, ClaimDenied};
use uuid::Uuid;

use crate::fixtures::{TestLedger, decision, decision_with_commands, event};

#[tokio::test]
async fn a_claim_is_exclusive_until_its_lease_ends() {
    let test = TestLedger::new().await;
    let event = event(1, 1);
    let first = test.claimed(&event, "a").await;
    assert_eq!(test.claim(&[&event], "b").await, [Claim::Denied(ClaimDenied::LeasedElsewhere)]);
    assert_eq!(test.claim(&[&event], "a").await, [Claim::Denied(ClaimDenied::LeasedElsewhere)], "not even its own");

    test.end_event_leases().await;
    let second = test.claimed(&event, "b").await;
    assert_eq!((first.attempt, second.attempt), (1, 2));
    assert_eq!(first.event_id, second.event_id);
    assert_eq!(test.claim(&[&event], "a").await, [Claim::Denied(ClaimDenied::LeasedElsewhere)]);
}

#[tokio::test]
async fn a_finished_event_is_denied_with_its_state() {
    let test = TestLedger::new().await;
    let event = event(1, 1);
    let claimed = test.claimed(&event, "a").await;
    assert!(test.commit(&decision(&claimed, EventState::Skipped, Some(Reason::NoPlaybook))).await);
    assert_eq!(test.claim(&[&event], "b").await, [Claim::Denied(ClaimDenied::Finished(EventState::Skipped))]);
    test.end_event_leases().await;
    assert_eq!(test.claim(&[&event], "b").await, [Claim::Denied(ClaimDenied::Finished(EventState::Skipped))]);
}

#[tokio::test]
async fn a_waiting_event_is_claimed_before_its_lease_ends_and_forgets_why_it_waited() {
    let test = TestLedger::new().await;
    let event = event(1, 1);
    let claimed = test.claimed(&event, "a").await;
    assert!(test.commit(&decision(&claimed, EventState::Waiting, Some(Reason::HubSpotUnavailable))).await);
    let again = test.claimed(&event, "b").await;
    assert_eq!(again.attempt, 2);
    assert!(!again.was_decided);
    assert_eq!(test.state(&event).await, (EventState::Claimed, None));
}

#[tokio::test]
async fn a_decided_or_parked_event_is_denied_with_its_unfinished_commands() {
    let test = TestLedger::new().await;
    let decided = event(1, 1);
    let commands = vec![test.decided(&decided).await.id];
    let claims = test.claim(&[&decided], "b").await;
    assert_eq!(claims, [Claim::Denied(ClaimDenied::Decided(commands))]);

    let parked = event(2, 1);
    let copy = Uuid::now_v7();
    let Claim::Granted(claimed) = test.claim_under(copy, &[&parked], "a").await.remove(0) else { panic!("denied") };
    let mut decision = decision_with_commands(&parked, &claimed, 1);
    (decision.state, decision.reason) = (EventState::Parked, Some(Reason::Refused));
    assert!(test.commit(&decision).await);
    for (copy, under_this_copy) in [(copy, true), (Uuid::now_v7(), false)] {
        let denied = ClaimDenied::Parked { under_this_copy, commands: vec![decision.commands[0].id] };
        assert_eq!(test.claim_under(copy, &[&parked], "b").await, [Claim::Denied(denied)]);
    }
}

#[tokio::test]
async fn a_later_claim_brings_what_earlier_claims_decided() {
    let test = TestLedger::new().await;
    let event = event(1, 1);
    let claimed = test.claimed(&event, "a").await;
    assert!(!claimed.was_decided && claimed.commands.is_empty());
    let mut decision = decision_with_commands(&event, &claimed, 1);
    (decision.state, decision.reason) = (EventState::Waiting, Some(Reason::OpenAiUnavailable));
    assert!(test.commit(&decision).await);

    let again = test.claimed(&event, "b").await;
    assert!(again.was_decided);
    assert_eq!(again.commands, [decision.commands[0].id]);
    test.written(&decision.commands[0], "writer").await;
    test.end_event_leases().await;
    let third = test.claimed(&event, "c").await;
    assert!(third.was_decided, "the event has had an effect");
    assert_eq!(third.commands, [], "which is finished");
}

#[tokio::test]
async fn one_batch_that_asks_twice_gets_it_once_and_overlapping_batches_do_not_deadlock() {
    let test = TestLedger::new().await;
    let events: Vec<_> = (1..=50).map(|id| event(id, 1)).collect();
    let twice = test.claim(&[&events[0], &events[0]], "a").await;
    assert!(matches!(twice[..], [Claim::Granted(_), Claim::Denied(ClaimDenied::LeasedElsewhere)]), "{twice:?}");
    let forwards: Vec<_> = events.iter().collect();
    let backwards: Vec<_> = events.iter().rev().collect();
    let (a, b) = tokio::join!(test.claim(&forwards, "a"), test.claim(&backwards, "b"));
    let granted = a.iter().chain(&b).filter(|claim| matches!(claim, Claim::Granted(_))).count();
    assert_eq!(granted, 49, "each of the others exactly once");
}

/// Postgres keeps no number with more than 16,383 decimals, and JSON has no such bound.
#[tokio::test]
async fn an_event_is_claimed_whatever_numbers_its_message_has() {
    let test = TestLedger::new().await;
    let payload =
        r#"{"propertyValue": 1e-20000, "a": 0e-99999999999, "b": 1e308, "c": 12345678901234567890123, "d": -0}"#;
    let event = Event { payload: serde_json::from_str(payload).expect("a payload"), ..event(1, 1) };
    assert!(matches!(test.claim(&[&event], "a").await[..], [Claim::Granted(_)]));
}
