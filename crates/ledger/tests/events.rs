//! Events are found by record, state, reason, playbook and time, in bounded pieces; and what becomes of them can be followed.

use std::time::Duration;

use domain::{EventState, Inference, ObjectId, Reason};
use ledger::{EventEntry, EventFilter, RecordMerge};
use time::OffsetDateTime;

use crate::fixtures::{TestLedger, contact, decision, event, inference};

/// The first events of a filter, by the ids of their contacts.
async fn found(test: &TestLedger, filter: &EventFilter) -> Vec<i64> {
    let events = test.ledger.events(filter, None, 100).await.expect("asked");
    events.iter().filter_map(|event| event.object_id).collect()
}

/// Ends an event of this contact, an hour later than the one before.
async fn ended(test: &TestLedger, id: i64, state: EventState, reason: Reason) {
    let claimed = test.claimed(&event(id, 1), "a").await;
    assert!(test.commit(&decision(&claimed, state, Some(reason))).await);
}

#[tokio::test]
async fn events_are_found_by_what_became_of_them_the_newest_first() {
    let test = TestLedger::new().await;
    ended(&test, 1, EventState::Parked, Reason::Refused).await;
    ended(&test, 2, EventState::Skipped, Reason::NoPlaybook).await;
    ended(&test, 3, EventState::Parked, Reason::SchemaInvalid).await;
    let command = test.decided(&event(4, 1)).await;
    test.written(&command, "a").await;
    test.run("update event set first_claimed_at = now() - object_id * interval '1 hour'").await;

    let all = EventFilter::default();
    assert_eq!(found(&test, &all).await, [1, 2, 3, 4]);
    let parked = EventFilter { state: Some(EventState::Parked), ..all.clone() };
    assert_eq!(found(&test, &parked).await, [1, 3]);
    let refused = EventFilter { reason: Some(Reason::Refused), ..all.clone() };
    assert_eq!(found(&test, &refused).await, [1]);
    let skipped_for_it = EventFilter { state: Some(EventState::Skipped), ..refused };
    assert_eq!(found(&test, &skipped_for_it).await, [0_i64; 0]);
    let lately = EventFilter { since: Some(OffsetDateTime::now_utc() - Duration::from_secs(9_000)), ..all.clone() };
    assert_eq!(found(&test, &lately).await, [1, 2]);

    let answered = EventFilter { playbook: Some(crate::fixtures::PLAYBOOK.to_owned()), ..all };
    let events = test.ledger.events(&answered, None, 100).await.expect("asked");
    let [EventEntry { key, subscription_type, playbooks, status, .. }] = &events[..] else { panic!("{events:?}") };
    assert_eq!((key.as_str(), subscription_type.as_str()), (event(4, 1).key.as_str(), "contact.propertyChange"));
    assert_eq!((playbooks.as_deref(), status.state), (Some(crate::fixtures::PLAYBOOK), EventState::Written));
}

/// Also those that were claimed in the same instant.
#[tokio::test]
async fn a_list_goes_on_behind_its_last_event_and_leaves_none_out() {
    let test = TestLedger::new().await;
    for id in 1..=7 {
        ended(&test, id, EventState::Skipped, Reason::NoPlaybook).await;
    }
    test.run("update event set first_claimed_at = now() - (object_id / 3) * interval '1 hour'").await;
    let (filter, mut listed) = (EventFilter::default(), Vec::<EventEntry>::new());
    loop {
        let page = test.ledger.events(&filter, listed.last().map(EventEntry::position), 2).await.expect("asked");
        assert!(page.len() <= 2);
        if page.is_empty() {
            break;
        }
        listed.extend(page);
    }
    let mut ids: Vec<_> = listed.iter().filter_map(|event| event.object_id).collect();
    assert!(listed.is_sorted_by(|a, b| a.first_claimed_at >= b.first_claimed_at), "{listed:?}");
    ids.sort_unstable();
    assert_eq!(ids, [1, 2, 3, 4, 5, 6, 7]);
}

#[tokio::test]
async fn a_records_events_are_found_under_all_its_ids_and_at_either_end_of_an_association() {
    let test = TestLedger::new().await;
    for id in 1..=3 {
        ended(&test, id, EventState::Skipped, Reason::NoPlaybook).await;
    }
    test.run("update event set first_claimed_at = now() - object_id * interval '1 hour'").await;
    let of = |id| EventFilter { record: Some(contact(id)), ..EventFilter::default() };
    assert_eq!(found(&test, &of(2)).await, [2]);
    assert_eq!(found(&test, &of(7)).await, [0_i64; 0]);
    test.run("update event set associated = '{0-3/9, 0-1/7}' where object_id = 3").await;
    assert_eq!(found(&test, &of(7)).await, [3]);
    let merge = RecordMerge { old: contact(2), survivor: ObjectId(7) };
    test.ledger.record_merges(&[merge]).await.expect("recorded");
    assert_eq!(found(&test, &of(7)).await, [2, 3]);
    let elsewhere = domain::RecordRef { portal_id: domain::PortalId(1), ..contact(2) };
    assert_eq!(found(&test, &EventFilter { record: Some(elsewhere), ..EventFilter::default() }).await, [0_i64; 0]);
}

/// With many events, a rare one is found without reading all of them.
#[tokio::test]
async fn what_is_parked_and_what_has_a_reason_is_found_by_an_index() {
    let test = TestLedger::new().await;
    ended(&test, 1, EventState::Parked, Reason::Refused).await;
    for (condition, index) in [("state = 'parked'", "event_parked"), ("reason = 'refused'", "event_by_reason")] {
        let plan: serde_json::Value = {
            let mut connection = test.database.acquire().await.expect("a connection");
            // The table is small, and reading it from its beginning would be right.
            for setting in ["set enable_seqscan = off", "set enable_sort = off", "set enable_bitmapscan = off"] {
                sqlx::query(setting).execute(&mut *connection).await.expect("set");
            }
            let statement = format!(
                "explain (format json) select id from event where {condition} order by first_claimed_at desc, id desc limit 5"
            );
            sqlx::query_scalar(sqlx::AssertSqlSafe(statement)).fetch_one(&mut *connection).await.expect("planned")
        };
        assert!(plan.to_string().contains(&format!("\"{index}\"")), "{plan}");
    }
    assert_eq!(test.ledger.parked().await.expect("asked").len(), 1);
}

#[tokio::test]
async fn changes_of_state_come_in_their_order_and_each_with_the_state_that_it_led_to() {
    let test = TestLedger::new().await;
    ended(&test, 1, EventState::Skipped, Reason::NoPlaybook).await;
    let before = test.ledger.newest_change().await.expect("asked");
    ended(&test, 2, EventState::Parked, Reason::Refused).await;
    ended(&test, 3, EventState::Skipped, Reason::NoPlaybook).await;

    let all = EventFilter::default();
    let changes = test.ledger.event_changes(&all, before, 100).await.expect("asked");
    let told: Vec<_> = changes.iter().map(|change| (change.event.object_id, change.event.status.state)).collect();
    let (claimed, parked, skipped) = (EventState::Claimed, EventState::Parked, EventState::Skipped);
    assert_eq!(told, [(Some(2), claimed), (Some(2), parked), (Some(3), claimed), (Some(3), skipped)]);
    assert_eq!(changes[1].event.status.reason, Some(Reason::Refused));
    let newest = test.ledger.newest_change().await.expect("asked");
    assert_eq!(changes.last().map(|change| change.number), Some(newest));

    let first = test.ledger.event_changes(&all, before, 1).await.expect("asked");
    assert_eq!(first, changes[..1]);
    let only = EventFilter { record: Some(contact(3)), state: Some(EventState::Skipped), ..all };
    assert_eq!(test.ledger.event_changes(&only, before, 100).await.expect("asked"), changes[3..]);
    assert!(test.ledger.event_changes(&only, newest, 100).await.expect("asked").is_empty());
}

#[tokio::test]
async fn the_pace_the_slowest_and_the_oldest_events_and_the_cost_of_today_are_told() {
    let test = TestLedger::new().await;
    for id in 1..=3 {
        ended(&test, id, EventState::Skipped, Reason::NoPlaybook).await;
    }
    test.run("update event set first_claimed_at = finished_at - object_id * interval '10 seconds'").await;
    test.run("update event set finished_at = now() - interval '1 hour' where object_id = 3").await;
    for id in [5, 4] {
        test.claimed(&event(id, 1), "a").await;
        test.run(&format!("update event set first_claimed_at = now() - interval '{id} hours' where object_id = {id}"))
            .await;
    }
    let throughput = test.ledger.throughput(Duration::from_secs(60)).await.expect("asked");
    assert_eq!((throughput.claimed, throughput.finished), (3, vec![(EventState::Skipped, 2)]));
    let slowest = test.ledger.slowest_events(Duration::from_secs(60), 1).await.expect("asked");
    assert_eq!((slowest.len(), slowest[0].key.as_str(), slowest[0].took.as_secs()), (1, event(2, 1).key.as_str(), 20));
    let oldest = test.ledger.oldest_events(5).await.expect("asked");
    assert_eq!(oldest.iter().map(|event| event.object_id).collect::<Vec<_>>(), [Some(5), Some(4)]);

    assert!(test.ledger.cost_today().await.expect("asked").is_empty());
    let of_today = event(6, 1);
    let claimed = test.claimed(&of_today, "a").await;
    let unpriced = Inference { model: "free".to_owned(), cost_micro_dollars: None, ..inference(&contact(6)) };
    let mut decided = decision(&claimed, EventState::Skipped, Some(Reason::NothingIntended));
    decided.inferences = vec![Inference { playbook: "other".to_owned(), ..inference(&contact(6)) }, unpriced];
    assert!(test.commit(&decided).await);
    let cost = test.ledger.cost_today().await.expect("asked");
    let told: Vec<_> = cost.iter().map(|row| (row.playbook.as_str(), row.inferences, row.micro_dollars)).collect();
    assert_eq!(told, [(crate::fixtures::PLAYBOOK, 1, None), ("other", 1, Some(2_500))]);
}
