//! A burst of changes to one record is one question, about the newest state; and what is there already is not written.

use lab::FleetPlan;
use serde_json::json;

use fixtures::{
    BUYER, ask, contact, ended_as, fleet, note_event, pipeline, property, questions, send_accepted, times_set,
};

/// Twenty changes of one contact within moments, over two workers: one inference, and nineteen that say why there is none.
#[tokio::test]
async fn a_burst_of_changes_to_one_record_is_one_inference_of_the_newest_state() {
    let plan = FleetPlan { inferences: 2, ..pipeline() }.with("inference.debounce_ms", "1000");
    let fleet = fleet(&plan).await;
    contact(&fleet, 1, &[BUYER]).await;
    contact(&fleet, 2, &[BUYER]).await;
    for n in 1..=20 {
        send_accepted(&fleet, &[note_event(1, n)]).await;
    }
    send_accepted(&fleet, &[note_event(2, 1)]).await;
    ended_as(&fleet, &note_event(1, 20), "written", None).await;
    ended_as(&fleet, &note_event(2, 1), "written", None).await;
    for n in 1..20 {
        ended_as(&fleet, &note_event(1, n), "superseded", Some("newer_event_waits")).await;
    }
    assert_eq!(questions(&fleet).await, 2, "one for each contact");
    assert_eq!(property(&fleet, 1, "lead_score").await.as_deref(), Some("85"));
}

/// What is newer but starts nothing (our own echo, another property) makes nothing pointless.
#[tokio::test]
async fn only_an_event_that_will_be_answered_makes_an_older_one_pointless() {
    let fleet = fleet(&pipeline().with("inference.debounce_ms", "500")).await;
    contact(&fleet, 1, &[BUYER]).await;
    let mut echo = note_event(1, 2);
    echo["changeSource"] = json!("INTEGRATION");
    echo["sourceId"] = json!("1234567");
    let mut other = note_event(1, 3);
    other["propertyName"] = json!("favourite_colour");
    send_accepted(&fleet, &[note_event(1, 1), echo, other]).await;
    ended_as(&fleet, &note_event(1, 1), "written", None).await;
}

/// The same answer once more: HubSpot is not told what it knows, and the ledger still knows who was newest.
#[tokio::test]
async fn values_that_are_there_already_are_not_written() {
    let fleet = fleet(&pipeline().with("inference.unchanged_context_ttl_hours", "0")).await;
    contact(&fleet, 1, &[BUYER]).await;
    send_accepted(&fleet, &[note_event(1, 1)]).await;
    ended_as(&fleet, &note_event(1, 1), "written", None).await;
    send_accepted(&fleet, &[note_event(1, 3)]).await;
    let story = ended_as(&fleet, &note_event(1, 3), "written", None).await;
    assert_eq!(times_set(&fleet, 1, "lead_score").await, 1, "the second 85 was not sent");
    let score = story.writes.iter().find(|write| write.property == "lead_score").expect("recorded");
    assert_eq!((score.before.as_deref(), score.after.as_str()), (Some("85"), "85"));
    // An event between the two comes late: its answer is older than what is there.
    send_accepted(&fleet, &[note_event(1, 2)]).await;
    ended_as(&fleet, &note_event(1, 2), "superseded", Some("newer_event_answered")).await;
    let rows: i64 = ask(&fleet, "select count(*) from write where property = 'lead_score'").await;
    assert_eq!(rows, 2);
}
