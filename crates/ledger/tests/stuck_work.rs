//! Work whose message is lost is found once it is overdue, and not before.

use std::time::Duration;

use domain::{CommandState, EventState, Reason};
use serde_json::json;

use crate::fixtures::{TestLedger, decision, event, result};

const AFTER: Duration = Duration::from_secs(60);

async fn stuck_events(test: &TestLedger) -> Vec<(String, EventState)> {
    let stuck = test.ledger.stuck_events(AFTER, 10).await.expect("asked");
    stuck.into_iter().map(|event| (event.key, event.state)).collect()
}

#[tokio::test]
async fn a_claimed_event_is_stuck_long_after_its_lease_ended() {
    let test = TestLedger::new().await;
    let event = event(1, 1);
    test.claimed(&event, "a").await;
    assert_eq!(stuck_events(&test).await, [], "a worker has it");
    test.run("update event set lease_expires_at = now() - interval '10 seconds'").await;
    assert_eq!(stuck_events(&test).await, [], "its message may be on its way");
    test.run("update event set lease_expires_at = now() - interval '70 seconds'").await;
    assert_eq!(stuck_events(&test).await, [(event.key.to_string(), EventState::Claimed)]);
    let found = test.ledger.stuck_events(AFTER, 10).await.expect("asked").remove(0);
    assert_eq!((found.payload, found.requeues), (json!(event.payload), 0));
    assert!(found.overdue.as_secs() >= 70, "{:?}", found.overdue);
}

#[tokio::test]
async fn a_waiting_event_is_stuck_long_after_its_message_was_due() {
    let test = TestLedger::new().await;
    let event = event(1, 1);
    let claimed = test.claimed(&event, "a").await;
    let mut waits = decision(&claimed, EventState::Waiting, Some(Reason::HubSpotTimeout));
    waits.wait = Some(Duration::from_secs(600));
    assert!(test.commit(&waits).await);
    test.run("update event set state_since = now() - interval '5 minutes'").await;
    assert_eq!(stuck_events(&test).await, [], "its message is in a retry queue for ten minutes");
    test.run("update event set due_at = now() - interval '70 seconds'").await;
    assert_eq!(stuck_events(&test).await, [(event.key.to_string(), EventState::Waiting)]);
    test.run("update event set due_at = null").await;
    assert_eq!(stuck_events(&test).await.len(), 1, "without a time, it is due since it waits");
}

#[tokio::test]
async fn a_finished_or_decided_event_is_never_stuck() {
    let test = TestLedger::new().await;
    test.decided(&event(1, 1)).await;
    for (contact, state) in [(2, EventState::Skipped), (3, EventState::Parked), (4, EventState::Superseded)] {
        let claimed = test.claimed(&event(contact, 1), "a").await;
        assert!(test.commit(&decision(&claimed, state, Some(Reason::Guard))).await);
    }
    test.run("update event set due_at = 'epoch', lease_expires_at = 'epoch', state_since = 'epoch'").await;
    assert_eq!(stuck_events(&test).await, []);
}

#[tokio::test]
async fn what_was_published_again_is_left_alone_for_twice_as_long_each_time() {
    let test = TestLedger::new().await;
    let id = test.claimed(&event(1, 1), "a").await.event_id;
    test.end_event_leases().await;
    for requeues in 1..=3 {
        assert_eq!(stuck_events(&test).await.len(), 1, "after {} requeues", requeues - 1);
        test.ledger.record_requeue(&[id.0], &[]).await.expect("recorded");
        let pause = 60 * (1 << requeues);
        let age = |seconds| format!("update event set requeued_at = now() - interval '{seconds} seconds'");
        test.run(&age(pause - 40)).await;
        assert_eq!(stuck_events(&test).await, [], "{pause} s after requeue {requeues}");
        test.run(&age(pause + 5)).await;
    }
}

#[tokio::test]
async fn the_longest_overdue_come_first_and_no_more_than_asked_for() {
    let test = TestLedger::new().await;
    for contact in 1..=4 {
        test.claimed(&event(contact, 1), "a").await;
    }
    test.run("update event set lease_expires_at = now() - object_id * interval '1 hour'").await;
    let stuck = test.ledger.stuck_events(AFTER, 3).await.expect("asked");
    let keys: Vec<_> = stuck.iter().map(|event| event.key.as_str()).collect();
    assert_eq!(keys, [4, 3, 2].map(|contact| event(contact, 1).key.to_string()));
}

#[tokio::test]
async fn a_write_command_is_stuck_recorded_sending_or_waiting_but_not_finished() {
    let test = TestLedger::new().await;
    let command = test.decided(&event(1, 1)).await;
    let stuck = async || {
        let stuck = test.ledger.stuck_commands(AFTER, 10).await.expect("asked");
        stuck.into_iter().map(|stuck| (stuck.id, stuck.record)).collect::<Vec<_>>()
    };
    let this = [(command.id, command.record.clone())];
    assert_eq!(stuck().await, [], "it was recorded just now");
    test.run("update write_command set created_at = now() - interval '70 seconds'").await;
    assert_eq!(stuck().await, this, "recorded and never claimed");

    let attempt = test.claimed_command(&command, "a").await;
    assert_eq!(stuck().await, [], "a writer has it");
    test.end_command_leases().await;
    assert_eq!(stuck().await, this, "the writer's lease ended");

    let mut waits = result(&command, attempt, CommandState::Waiting, Some(Reason::HubSpotTimeout));
    waits.wait = Some(Duration::from_secs(600));
    assert!(test.finish(&waits, "a").await);
    assert_eq!(stuck().await, [], "its message is in a retry queue");
    test.run("update write_command set due_at = now() - interval '70 seconds'").await;
    assert_eq!(stuck().await, this);
    test.ledger.record_requeue(&[], &[command.id.0]).await.expect("recorded");
    assert_eq!(stuck().await, [], "it was published again just now");

    let attempt = test.claimed_command(&command, "a").await;
    assert!(test.finish(&result(&command, attempt, CommandState::Parked, Some(Reason::ValidationError)), "a").await);
    test.run("update write_command set due_at = 'epoch', requeued_at = null, created_at = 'epoch'").await;
    assert_eq!(stuck().await, [], "it is finished");
}

#[tokio::test]
async fn an_event_is_parked_for_its_dead_workers_only_while_no_worker_has_it() {
    let test = TestLedger::new().await;
    let event = event(1, 1);
    let id = test.claimed(&event, "a").await.event_id;
    let park = async || {
        let reason = Reason::AttemptsExhausted;
        test.ledger.park_event(id, reason, "every worker died").await.expect("asked")
    };
    assert!(!park().await, "its lease has not ended");
    test.end_event_leases().await;
    assert!(park().await);
    assert_eq!(test.state(&event).await, (EventState::Parked, Some(Reason::AttemptsExhausted)));
    assert!(!park().await, "it is parked already");
}

/// Such an event cannot be published again; it must not wait for ever.
#[tokio::test]
async fn a_waiting_event_can_be_parked_once_it_is_due() {
    let test = TestLedger::new().await;
    let event = event(1, 1);
    let claimed = test.claimed(&event, "a").await;
    let mut waits = decision(&claimed, EventState::Waiting, Some(Reason::HubSpotTimeout));
    waits.wait = Some(Duration::from_secs(600));
    assert!(test.commit(&waits).await);
    let park = async || test.ledger.park_event(claimed.event_id, Reason::EventInvalid, "no webhook").await;
    assert!(!park().await.expect("asked"), "its message is in a retry queue");
    test.run("update event set due_at = now() - interval '1 second'").await;
    assert!(park().await.expect("parked"));
    assert_eq!(test.state(&event).await, (EventState::Parked, Some(Reason::EventInvalid)));
}
