//! Every failure becomes retry now, retry later, park or drop, by the error's own classification.

use lab::Fleet;
use serde_json::json;
use simulator::{Fault, FaultKind, Target};

use fixtures::{BUYER, WITHIN, ask, contact, ended_as, fleet, note_event, pipeline, send_accepted};

async fn fault(fleet: &Fleet, target: Target, kind: FaultKind, times: Option<u32>) {
    let fault = Fault::new(target, kind).times(times);
    fleet.simulator.fault(&fault).await.expect("set");
}

fn status(code: u16, retry_after: Option<u64>) -> FaultKind {
    FaultKind::Status { code, retry_after }
}

#[tokio::test]
async fn what_passes_is_retried_in_the_process_and_needs_no_retry_queue() {
    let fleet = fleet(&pipeline().with("hubspot.attempts", "6")).await;
    contact(&fleet, 1, &[BUYER]).await;
    for (target, kind) in [
        (Target::Hubspot, status(503, None)),
        (Target::Hubspot, status(429, Some(1))),
        (Target::Hubspot, FaultKind::Cut),
        (Target::Hubspot, FaultKind::Garbage),
        (Target::Openai, status(500, None)),
        (Target::Openai, status(429, Some(1))),
    ] {
        fault(&fleet, target, kind, Some(1)).await;
    }
    send_accepted(&fleet, &[note_event(1, 1)]).await;
    let story = ended_as(&fleet, &note_event(1, 1), "written", None).await;
    assert_eq!(story.history.len(), 3, "no retry queue was needed: {:?}", story.history);
    let took = story.history[2].at - story.history[0].at;
    assert!(took >= time::Duration::seconds(2), "both Retry-After of a second were waited for: {took}");
}

#[tokio::test]
async fn what_lasts_goes_through_the_retry_queues_and_is_written_when_it_is_over() {
    let fleet = fleet(&pipeline()).await;
    contact(&fleet, 1, &[BUYER]).await;
    // Four tries in the process, then the first retry queue, four more, then the second. What is associated with the record is read
    // at the same time.
    let away = Fault::new(Target::Hubspot, status(503, None)).on_path("/objects/contacts/batch/read").times(8);
    fleet.simulator.fault(&away).await.expect("set");
    send_accepted(&fleet, &[note_event(1, 1)]).await;
    let story = ended_as(&fleet, &note_event(1, 1), "written", None).await;
    let states: Vec<_> = story.history.iter().map(|entry| entry.state.as_str()).collect();
    assert_eq!(states, ["claimed", "waiting", "claimed", "waiting", "claimed", "decided", "written"]);
    assert_eq!(story.history[1].reason.map(domain::Reason::as_str), Some("hubspot_unavailable"));
    assert!(
        story.history[2].at - story.history[1].at >= time::Duration::milliseconds(900),
        "a retry queue of a second"
    );
}

#[tokio::test]
async fn a_burst_beyond_hubspots_limit_is_written_in_the_end_and_parks_nothing() {
    let plan =
        lab::FleetPlan { simulator_arguments: vec!["--calls-per-10s".to_owned(), "60".to_owned()], ..pipeline() };
    let fleet = fleet(&plan).await;
    let ids: Vec<i64> = (1..=40).collect();
    for id in &ids {
        contact(&fleet, *id, &[BUYER]).await;
    }
    send_accepted(&fleet, &ids.iter().map(|id| note_event(*id, 1)).collect::<Vec<_>>()).await;
    for id in ids {
        let story = ended_as(&fleet, &note_event(id, 1), "written", None).await;
        assert_eq!(story.inferences.len(), 1);
    }
}

#[tokio::test]
async fn what_never_ends_is_parked_after_the_last_attempt_with_its_reason() {
    let fleet = fleet(&pipeline()).await;
    contact(&fleet, 1, &[BUYER]).await;
    fault(&fleet, Target::Openai, status(500, None), None).await;
    send_accepted(&fleet, &[note_event(1, 1)]).await;
    let story = ended_as(&fleet, &note_event(1, 1), "parked", Some("openai_unavailable")).await;
    let claims = story.history.iter().filter(|entry| entry.state == domain::EventState::Claimed).count();
    assert_eq!(claims, 4, "broker.max_attempts");
    fleet.until_parked("leadline.events", 1, WITHIN).await.expect("parked");
    let message = fleet.namespace.take_messages("leadline.events.parked", 1).await.expect("taken").remove(0);
    let headers = &message["properties"]["headers"];
    assert_eq!(headers["x-leadline-reason"], json!("openai_unavailable"));
    assert!(
        headers["x-leadline-detail"].as_str().is_some_and(|detail| detail.contains("OpenAI answered 500")),
        "{headers}"
    );
    let body: serde_json::Value = serde_json::from_str(message["payload"].as_str().expect("text")).expect("JSON");
    assert_eq!(body["payload"]["objectId"], json!(1), "what HubSpot sent is in the parked message");
}

#[tokio::test]
async fn a_missing_scope_is_parked_at_once_and_named() {
    let fleet = fleet(&pipeline()).await;
    contact(&fleet, 1, &[BUYER]).await;
    fault(&fleet, Target::Hubspot, status(403, None), None).await;
    send_accepted(&fleet, &[note_event(1, 1)]).await;
    let story = ended_as(&fleet, &note_event(1, 1), "parked", Some("missing_scope")).await;
    assert!(story.detail.as_deref().is_some_and(|d| d.contains("crm.objects.contacts.write")), "{:?}", story.detail);
    assert_eq!(story.history.len(), 2);
}

#[tokio::test]
async fn an_event_of_a_record_that_does_not_exist_is_dropped() {
    let fleet = fleet(&pipeline()).await;
    send_accepted(&fleet, &[note_event(404, 1)]).await;
    ended_as(&fleet, &note_event(404, 1), "dropped", Some("record_gone")).await;
}

#[tokio::test]
async fn one_event_that_hangs_does_not_hold_up_the_others() {
    let fleet = fleet(&pipeline().with("openai.timeout_seconds", "5")).await;
    contact(&fleet, 1, &["This one hangs."]).await;
    let hang = Fault::new(Target::Openai, FaultKind::Hang).containing("This one hangs").times(1);
    fleet.simulator.fault(&hang).await.expect("set");
    send_accepted(&fleet, &[note_event(1, 1)]).await;
    let ids: Vec<i64> = (2..=30).collect();
    for id in &ids {
        contact(&fleet, *id, &[BUYER]).await;
    }
    send_accepted(&fleet, &ids.iter().map(|id| note_event(*id, 1)).collect::<Vec<_>>()).await;
    for id in ids {
        ended_as(&fleet, &note_event(id, 1), "written", None).await;
    }
    // The time-out ends the hanging try, and the next one is answered.
    ended_as(&fleet, &note_event(1, 1), "written", None).await;
}

#[tokio::test]
async fn an_event_of_a_portal_that_is_not_ours_is_parked() {
    let fleet = fleet(&pipeline()).await;
    let mut event = note_event(1, 1);
    event["portalId"] = json!(42);
    send_accepted(&fleet, std::slice::from_ref(&event)).await;
    let story = ended_as(&fleet, &event, "parked", Some("wrong_portal")).await;
    assert!(story.detail.as_deref().is_some_and(|d| d.contains("42") && d.contains("9876543")));
}

#[tokio::test]
async fn a_message_that_is_no_event_is_parked_and_blocks_no_other() {
    let fleet = fleet(&pipeline()).await;
    contact(&fleet, 1, &[BUYER]).await;
    for queue in ["leadline.events", "leadline.writes"] {
        let body =
            json!({"properties": {}, "routing_key": queue, "payload": "{\"what\": [", "payload_encoding": "string"});
        let path = format!("exchanges/{}/{queue}.exchange/publish", fleet.namespace.name);
        fleet.namespace.management(reqwest::Method::POST, &path, Some(body)).await.expect("published");
    }
    send_accepted(&fleet, &[note_event(1, 1)]).await;
    ended_as(&fleet, &note_event(1, 1), "written", None).await;
    fleet.until_parked("leadline.events", 1, WITHIN).await.expect("parked");
    fleet.until_parked("leadline.writes", 1, WITHIN).await.expect("parked");
}

#[tokio::test]
async fn counts_in_the_views_are_what_happened() {
    let fleet = fleet(&pipeline()).await;
    contact(&fleet, 1, &[BUYER]).await;
    send_accepted(&fleet, &[note_event(1, 1), note_event(404, 1)]).await;
    ended_as(&fleet, &note_event(1, 1), "written", None).await;
    ended_as(&fleet, &note_event(404, 1), "dropped", Some("record_gone")).await;
    let written: i64 = ask(&fleet, "select sum(written)::bigint from throughput_by_minute").await;
    assert_eq!(written, 1);
    let properties: i64 = ask(&fleet, "select properties_written from event_status where state = 'written'").await;
    assert_eq!(properties, 5);
    let inferences: i64 = ask(&fleet, "select sum(inferences)::bigint from cost_by_playbook_and_day").await;
    assert_eq!(inferences, 1);
    let failures: i64 = ask(&fleet, "select count(*) from failures_by_reason").await;
    assert_eq!(failures, 0);
}
