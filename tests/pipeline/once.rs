//! An event has its effect once, however often and in whatever order it is delivered, to however many replicas.

use fixtures::{BUYER, contact, ended_as, fleet, key, note_event, pipeline, questions, times_set};

#[tokio::test]
async fn a_late_duplicate_of_a_written_event_has_no_effect() {
    let fleet = fleet(&pipeline()).await;
    contact(&fleet, 1, &[BUYER]).await;
    let mut event = note_event(1, 1);
    fixtures::send_accepted(&fleet, std::slice::from_ref(&event)).await;
    ended_as(&fleet, &event, "written", None).await;
    event["attemptNumber"] = serde_json::json!(4);
    fixtures::send_accepted(&fleet, &[event.clone(), event.clone()]).await;
    fleet.until_idle(fixtures::WITHIN).await.expect("idle");
    assert_eq!(questions(&fleet).await, 1);
    assert_eq!(times_set(&fleet, 1, "lead_score").await, 1);
    let story = fleet.ledger.event_story(&key(&event)).await.expect("asked").expect("known");
    assert_eq!(story.history.len(), 3, "claimed, decided, written: {:?}", story.history);
}
