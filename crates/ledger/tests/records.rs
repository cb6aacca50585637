//! One writer at a time changes a record, writes keep the order of events, and a record that may hold an older value is
//! found.

use domain::{RecordRef, event::EventKey};
use ledger::LatestWrites;

use crate::fixtures::{LEASE, TestLedger, contact, event, worker};

async fn latest_writes(test: &TestLedger, record: &RecordRef) -> LatestWrites {
    test.ledger.latest_writes(std::slice::from_ref(record), None).await.expect("asked")
}

async fn to_verify(test: &TestLedger) -> Vec<RecordRef> {
    test.ledger.records_to_verify(10).await.expect("asked")
}

#[tokio::test]
async fn two_writers_cannot_lease_one_record() {
    let test = TestLedger::new().await;
    let records = [contact(1), contact(2)];
    test.lease(&records[0], "a").await;
    let got = test.ledger.lock_records(&records, &worker("b"), LEASE).await.expect("asked");
    assert_eq!(got.into_iter().collect::<Vec<_>>(), [contact(2)]);
    assert!(!test.try_lease(&records[0], "a").await, "a second batch of the same writer waits, too");
    test.ledger.unlock_records(&records, &worker("b")).await.expect("unlocked");
    assert!(!test.try_lease(&records[0], "b").await, "no writer ends the lease of another one");
    test.ledger.unlock_records(&records, &worker("a")).await.expect("unlocked");
    assert!(test.try_lease(&records[0], "b").await);
    assert_eq!(to_verify(&test).await, [], "all leases ended in order");
}

#[tokio::test]
async fn writers_that_ask_for_the_same_records_in_any_order_do_not_deadlock() {
    let test = TestLedger::new().await;
    let forwards: Vec<_> = (1..=40).map(contact).collect();
    let backwards: Vec<_> = forwards.iter().rev().cloned().collect();
    let (first, second) = (worker("a"), worker("b"));
    let (a, b) = tokio::join!(
        test.ledger.lock_records(&forwards, &first, LEASE),
        test.ledger.lock_records(&backwards, &second, LEASE)
    );
    let (a, b) = (a.expect("asked"), b.expect("asked"));
    assert_eq!((a.len() + b.len(), a.intersection(&b).count()), (40, 0));
}

#[tokio::test]
async fn a_record_whose_lease_was_taken_over_is_marked_until_it_is_verified() {
    let test = TestLedger::new().await;
    let record = contact(1);
    test.lease(&record, "a").await;
    test.end_record_leases().await;
    test.lease(&record, "b").await;
    assert_eq!(to_verify(&test).await, [], "a writer has it");
    test.ledger.unlock_records(std::slice::from_ref(&record), &worker("b")).await.expect("unlocked");
    assert_eq!(to_verify(&test).await, std::slice::from_ref(&record), "a call of the first writer may have come since");

    test.lease(&record, "c").await;
    test.ledger.finish_verification(&record, &worker("a")).await.expect("asked");
    assert!(test.value::<bool>("select verify from record_lease").await, "only the holder ends it");
    test.ledger.finish_verification(&record, &worker("c")).await.expect("asked");
    assert_eq!(to_verify(&test).await, []);
    assert!(test.try_lease(&record, "d").await);
}

#[tokio::test]
async fn a_record_can_be_marked_with_and_without_a_lease() {
    let test = TestLedger::new().await;
    test.lease(&contact(1), "a").await;
    test.ledger.mark_for_verification(&[contact(2), contact(1), contact(2)]).await.expect("marked");
    assert_eq!(to_verify(&test).await, [contact(2)], "the first one is leased");
    test.ledger.unlock_records(&[contact(1)], &worker("a")).await.expect("unlocked");
    let marked = to_verify(&test).await;
    assert!(marked.len() == 2 && marked.contains(&contact(1)), "{marked:?}");
}

#[tokio::test]
async fn the_order_of_writes_is_that_of_events_however_late_they_are_written() {
    let test = TestLedger::new().await;
    let record = contact(1);
    let older = test.decided(&event(1, 1)).await;
    let newer = test.decided(&event(1, 2)).await;
    assert!(!latest_writes(&test, &record).await.is_newer_than(&older, "lead_score"), "nothing is written yet");
    test.written(&newer, "a").await;
    let latest = latest_writes(&test, &record).await;
    assert!(latest.is_newer_than(&older, "lead_score"));
    assert!(!latest.is_newer_than(&older, "lead_grade"), "another property");
    assert!(!latest.is_newer_than(&newer, "lead_score"), "its own");

    // An older event that is written all the same does not become the newest.
    test.written(&older, "a").await;
    assert!(latest_writes(&test, &record).await.is_newer_than(&older, "lead_score"));
    test.run("update write set after = 'of the newer event' where event_key like '%:2'").await;
    let values = test.ledger.latest_values(&record).await.expect("asked");
    let values: Vec<_> = values.iter().map(|value| (value.property.as_str(), value.value.as_str())).collect();
    assert_eq!(values, [("lead_score", "of the newer event")]);
}

/// Two events of the same millisecond: their keys decide, byte by byte, in Postgres as in Rust.
#[tokio::test]
async fn events_of_the_same_time_are_ordered_by_key_as_in_the_code() {
    let test = TestLedger::new().await;
    let keys = ["a:1", "B:1", "a-1"].map(EventKey::from_text);
    let mut commands = Vec::new();
    for key in &keys {
        let mut event = event(1, 1);
        event.key = key.clone();
        let command = test.decided(&event).await;
        test.written(&command, "a").await;
        commands.push(command);
    }
    let latest = latest_writes(&test, &contact(1)).await;
    let newest = keys.iter().max().expect("three");
    for command in &commands {
        assert_eq!(latest.is_newer_than(command, "lead_score"), command.event_key != *newest, "{}", command.event_key);
    }
}
