//! Reads of many events share a call; a record that cannot be read takes no other along.

use std::time::Duration;

use domain::{ObjectId, ObjectType, PortalId, RecordRef};
use futures_util::future::join_all;
use inference::{CrmReader, CrmReaderSettings, TextPool, context};
use playbook::Playbook;
use retry::{Failure, Reason};
use simulator::{Call, Fault, FaultKind, Target, admin::NewRecord};

use crate::fixtures::{calls, clear_faults, client, post};

/// A reader, and the URL of the simulator that it reads from.
async fn reader() -> (CrmReader, String) {
    let (hubspot, url) = client(3).await;
    // Long enough for all reads of a test, on a busy machine too.
    let settings = CrmReaderSettings { linger: Duration::from_millis(500), max_in_flight: 2 };
    (CrmReader::new(hubspot, settings), url)
}

#[tokio::test]
async fn a_record_that_cannot_be_read_fails_alone_and_is_no_outage() {
    let (reader, url) = reader().await;
    for id in 1..=40 {
        let new = NewRecord { kind: "contact".to_owned(), id, ..NewRecord::default() };
        post(&url, "objects", &new).await;
    }
    post(&url, "faults", &Fault::new(Target::Hubspot, FaultKind::Malformed).containing("\"23\"")).await;
    let properties = ["firstname".to_owned()];
    let reads = (1..=40).map(|id| reader.one(&ObjectType::Contact, ObjectId(id), &properties));
    for (id, read) in (1..=40).zip(join_all(reads).await) {
        match read {
            Ok(object) => assert_eq!(object.id, ObjectId(id)),
            Err(error) => {
                assert_eq!((id, error.reason(), error.outage()), (23, Reason::HubSpotUnreadable, None), "{error}");
            }
        }
    }
    let associated = (1..=40).map(|id| reader.associated(&ObjectType::Contact, vec![ObjectId(id)], &ObjectType::Note));
    let failed: Vec<_> = (1..=40).zip(join_all(associated).await).filter(|(_, read)| read.is_err()).collect();
    assert!(matches!(&failed[..], [(23, _)]), "{failed:?}");

    let calls = calls(&url).await;
    let reads = calls.iter().filter(|call| call.path.ends_with("/contacts/batch/read")).count();
    assert!(reads <= 15, "halved, and none tried again: {reads} calls");
}

/// What is not even JSON comes from a proxy: it says nothing of any record, and everything of the way to HubSpot.
#[tokio::test]
async fn an_answer_that_is_not_json_is_tried_again_and_an_outage() {
    let (reader, url) = reader().await;
    for id in 1..=4 {
        post(&url, "objects", &NewRecord { kind: "contact".to_owned(), id, ..NewRecord::default() }).await;
    }
    post(&url, "faults", &Fault::new(Target::Hubspot, FaultKind::Garbage)).await;
    let reads = (1..=4).map(|id| reader.one(&ObjectType::Contact, ObjectId(id), &[]));
    for read in join_all(reads).await {
        let error = read.expect_err("not JSON");
        assert_eq!(error.reason(), Reason::HubSpotUnreadable, "{error}");
        assert!(error.outage().is_some(), "{error}");
    }
    let calls = calls(&url).await;
    assert_eq!(calls.len(), 3, "one batch, as often as the settings say: {calls:?}");
}

/// Emoji are two halves in HubSpot's texts, and what cuts a text may cut between them.
#[tokio::test]
async fn half_a_character_in_one_note_costs_no_note_its_text() {
    let (reader, url) = reader().await;
    for id in 1..=30 {
        let text = if id == 23 { "Hello \u{fffd}\u{fffd} there".to_owned() } else { format!("Note {id}") };
        let properties = [("hs_note_body".to_owned(), text)].into();
        post(&url, "objects", &NewRecord { kind: "note".to_owned(), id, properties, ..NewRecord::default() }).await;
    }
    post(&url, "faults", &Fault::new(Target::Hubspot, FaultKind::HalfCharacters)).await;
    let ids = (1..=30).map(ObjectId).collect();
    let notes = reader.many(&ObjectType::Note, ids, &["hs_note_body".to_owned()]).await.expect("read");
    let text = |id: i64| {
        let note = notes.iter().find(|note| note.id == ObjectId(id)).expect("there");
        note.properties["hs_note_body"].clone().expect("a text")
    };
    assert_eq!(
        (notes.len(), text(22), text(23)),
        (30, "Note 22".to_owned(), "Hello \u{fffd}\u{fffd} there".to_owned())
    );
    let reads = calls(&url).await.into_iter().filter(|call| call.path.ends_with("/batch/read")).count();
    assert_eq!(reads, 1, "one call reads all of them");
}

#[tokio::test]
async fn the_associations_of_a_thousand_records_cost_one_call() {
    let (reader, url) = reader().await;
    post(&url, "objects", &NewRecord { kind: "contact".to_owned(), id: 1, ..NewRecord::default() }).await;
    let note = NewRecord {
        kind: "note".to_owned(),
        id: 2_000,
        associations: vec![("contact".to_owned(), 1)],
        ..NewRecord::default()
    };
    post(&url, "objects", &note).await;
    let read = (1..=1_000).map(|id| reader.associated(&ObjectType::Contact, vec![ObjectId(id)], &ObjectType::Note));
    let notes: usize = join_all(read).await.into_iter().map(|notes| notes.expect("read").len()).sum();
    assert_eq!(notes, 1);
    let calls = calls(&url).await;
    let inputs: Vec<_> = calls.iter().filter_map(|call| call.request["inputs"].as_array().map(Vec::len)).collect();
    assert_eq!(inputs, [1_000]);
}

/// HubSpot takes a tenth of a second for each call, and an event waits for the longest chain of them.
#[tokio::test]
async fn what_is_associated_with_a_record_is_read_at_the_same_time() {
    const LEADS: &str = include_str!("../../../../deploy/playbooks/lead-qualification.toml");
    let (reader, url) = reader().await;
    post(&url, "objects", &NewRecord { kind: "contact".to_owned(), id: 1, ..NewRecord::default() }).await;
    let note = NewRecord {
        kind: "note".to_owned(),
        id: 2,
        properties: [("hs_note_body".to_owned(), "They have $50k.".to_owned())].into(),
        associations: vec![("contact".to_owned(), 1)],
        ..NewRecord::default()
    };
    post(&url, "objects", &note).await;
    post(&url, "faults", &Fault::new(Target::Hubspot, FaultKind::Held).on_path("/objects/contacts/batch/read")).await;
    let read = tokio::spawn(async move {
        let playbook = Playbook::parse("lead-qualification.toml", LEADS, &[]).expect("a playbook");
        let record = RecordRef { portal_id: PortalId(1), object_type: ObjectType::Contact, object_id: ObjectId(1) };
        context::read(&reader, &TextPool::new(1), &record, &playbook.context).await
    });
    // The notes are known while the record is still being read.
    let is_read = |call: &Call| call.path.ends_with("/objects/notes/batch/read");
    while !calls(&url).await.iter().any(is_read) {
        assert!(!read.is_finished(), "{:?}", calls(&url).await);
    }
    clear_faults(&url).await;
    let read = read.await.expect("no panic").expect("read");
    assert_eq!((read.context.records.len(), read.context.entries.len()), (1, 1));
}
