//! What is unfinished and how old it is; and for which changes no webhook came.

use std::time::Duration;

use domain::{CommandState, EventState, ObjectType, Reason};
use ledger::RecordChange;
use time::OffsetDateTime;

use crate::fixtures::{PORTAL, TestLedger, decision, event};

#[tokio::test]
async fn the_oldest_unfinished_event_is_found_and_counted_by_state_and_reason() {
    let test = TestLedger::new().await;
    assert_eq!(test.ledger.oldest_unfinished().await.expect("asked"), Duration::ZERO);
    for contact in 1..=3 {
        let claimed = test.claimed(&event(contact, 1), "a").await;
        if contact < 3 {
            assert!(test.commit(&decision(&claimed, EventState::Waiting, Some(Reason::HubSpotTimeout))).await);
        }
    }
    test.decided(&event(4, 1)).await;
    let finished = test.claimed(&event(5, 1), "a").await;
    assert!(test.commit(&decision(&finished, EventState::Skipped, Some(Reason::NoPlaybook))).await);
    test.run("update event set first_claimed_at = now() - object_id * interval '1 hour'").await;

    let oldest = test.ledger.oldest_unfinished().await.expect("asked");
    assert_eq!(oldest.as_secs() / 3600, 4, "the one of five hours is finished: {oldest:?}");
    let unfinished = test.ledger.unfinished_events().await.expect("asked");
    let rows: Vec<_> =
        unfinished.iter().map(|row| (row.state, row.reason, row.events, row.oldest_key.clone())).collect();
    let key = |contact| event(contact, 1).key.to_string();
    assert_eq!(
        rows,
        [
            (EventState::Decided, None, 1, key(4)),
            (EventState::Claimed, None, 1, key(3)),
            (EventState::Waiting, Some(Reason::HubSpotTimeout), 2, key(2)),
        ]
    );
    let commands = test.ledger.unfinished_commands().await.expect("asked");
    let rows: Vec<_> = commands.iter().map(|row| (row.state, row.commands)).collect();
    assert_eq!(rows, [(CommandState::Recorded, 1)]);
    let counts = test.ledger.event_counts().await.expect("asked");
    let skipped = counts.iter().find(|count| count.state == EventState::Skipped).expect("counted");
    assert_eq!((skipped.reason, skipped.events), (Some(Reason::NoPlaybook), 1));
}

#[tokio::test]
async fn changes_of_which_no_webhook_came_are_found() {
    let test = TestLedger::new().await;
    let known = event(1, 10);
    test.claimed(&known, "a").await;
    let at = known.occurred_at;
    let change = |object_id, property: &str, at: OffsetDateTime| RecordChange {
        object_id,
        property: Some(property.to_owned()),
        at,
    };
    let changes = [
        change(1, "notes_last_updated", at),
        change(1, "notes_last_updated", at - time::Duration::hours(1)),
        change(1, "notes_last_updated", at + time::Duration::seconds(4)),
        change(1, "notes_last_updated", at + time::Duration::seconds(6)),
        change(1, "lifecyclestage", at),
        change(2, "notes_last_updated", at),
        RecordChange { object_id: 1, property: None, at },
    ];
    let tolerance = Duration::from_secs(5);
    let contacts = &ObjectType::Contact;
    let missed = test.ledger.changes_without_event(PORTAL, contacts, &changes, tolerance).await.expect("asked");
    assert_eq!(missed.len(), 4, "{missed:?}");
    for expected in &changes[3..] {
        assert!(missed.contains(expected), "{expected:?} in {missed:?}");
    }
}
