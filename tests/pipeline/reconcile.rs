//! What the ledger has begun and whose message is lost is taken up again, by the fleet itself or by an operator.

use std::time::Duration;

use domain::{
    Event, EventKey, EventState, ObjectId, ObjectType, PortalId, Reason,
    event::{EventKind, Subject},
};
use lab::FleetPlan;
use ledger::{ClaimRequest, Worker};

use fixtures::{
    BUYER, WITHIN, ask, contact, ended_as, fleet, happened, key, note_event, pipeline, property, purge, questions,
    send_accepted, sql, times_set, until,
};

fn reconciling() -> FleetPlan {
    pipeline().with("reconcile.interval_seconds", "1").with("reconcile.stuck_after_seconds", "3")
}

#[tokio::test]
async fn a_write_command_whose_message_was_lost_is_published_again_by_the_fleet() {
    let mut fleet = fleet(&FleetPlan { writers: 0, ..reconciling() }).await;
    for id in 1..=5 {
        contact(&fleet, id, &[BUYER]).await;
    }
    send_accepted(&fleet, &(1..=5).map(|id| note_event(id, 1)).collect::<Vec<_>>()).await;
    for id in 1..=5 {
        let decided = |state| state == EventState::Decided;
        fleet.until_event(&key(&note_event(id, 1)), decided, WITHIN).await.expect("decided");
    }
    fleet.until_holds("leadline.writes", 5, WITHIN).await.expect("published");
    purge(&fleet, "leadline.writes").await;
    fleet.add("leadline-writer").await.expect("a writer");
    for id in 1..=5 {
        ended_as(&fleet, &note_event(id, 1), "written", None).await;
        assert_eq!(times_set(&fleet, id, "lead_score").await, 1);
    }
    assert_eq!(questions(&fleet).await, 5);
}

#[tokio::test]
async fn an_event_whose_message_was_lost_in_a_retry_queue_is_published_again() {
    // It does not end by itself before the test has purged it.
    let fleet = fleet(&reconciling().with("broker.retry_delays_seconds", "15,600")).await;
    contact(&fleet, 1, &[BUYER]).await;
    let fault = simulator::Fault::new(
        simulator::Target::Hubspot,
        simulator::FaultKind::Status { code: 503, retry_after: None },
    )
    .on_path("/objects/contacts/batch/read")
    .times(4);
    fleet.simulator.fault(&fault).await.expect("set");
    send_accepted(&fleet, &[note_event(1, 1)]).await;
    fleet.until_event(&key(&note_event(1, 1)), |state| state == EventState::Waiting, WITHIN).await.expect("waiting");
    fleet.until_holds("leadline.events.retry.15s", 1, WITHIN).await.expect("in the retry queue");
    purge(&fleet, "leadline.events.retry.15s").await;
    ended_as(&fleet, &note_event(1, 1), "written", None).await;
    // The reconciler publishes first and records it afterwards, so the event may be written before the record. Our own
    // write comes back as an event as well, which was never lost.
    let requeues = "select max(requeues) from event";
    until("the requeue is recorded", async || ask::<i32>(&fleet, requeues).await > 0).await;
    assert_eq!(ask::<i32>(&fleet, requeues).await, 1);
}

/// A write command that every writer died of: the parking lot has it once, however often an operator looks.
#[tokio::test]
async fn an_operator_parks_what_every_worker_died_of_once() {
    let plan = FleetPlan { writers: 0, ..pipeline() }.with("reconcile.interval_seconds", "3600");
    let fleet = fleet(&plan).await;
    contact(&fleet, 1, &[BUYER]).await;
    send_accepted(&fleet, &[note_event(1, 1)]).await;
    let decided = |state| state == EventState::Decided;
    fleet.until_event(&key(&note_event(1, 1)), decided, WITHIN).await.expect("decided");
    fleet.until_holds("leadline.writes", 1, WITHIN).await.expect("published");
    purge(&fleet, "leadline.writes").await;
    sql(
        &fleet,
        "update write_command set state = 'sending', attempt = 1, worker = 'dead', requeues = 5,
                                  lease_expires_at = now() - interval '1 hour'",
    )
    .await;
    for _ in 0..2 {
        let done = fleet.leadline(&["reconcile", "--yes", "--after", "1"]).await.expect("runs");
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    }
    ended_as(&fleet, &note_event(1, 1), "parked", Some("attempts_exhausted")).await;
    fleet.until_parked("leadline.writes", 1, WITHIN).await.expect("parked, once");
}

/// The event of a `leadline playbook run --write` that died: no message was ever made from it, and none can be.
#[tokio::test]
async fn an_event_that_is_no_webhook_is_parked_and_not_looked_at_for_ever() {
    let fleet = fleet(&FleetPlan { receivers: 0, inferences: 0, writers: 0, ..pipeline() }).await;
    let subject = Subject::Record { object_type: ObjectType::Contact, object_id: ObjectId(1) };
    let at = time::OffsetDateTime::now_utc();
    let event = Event {
        key: EventKey::new(PortalId(9_876_543), EventKind::Manual, &subject, None, 1, "lead-qualification@1"),
        portal_id: PortalId(9_876_543),
        kind: EventKind::Manual,
        subject,
        property_name: None,
        occurred_at: at,
        change_source: None,
        source_id: None,
        payload: serde_json::json!({"by": "leadline playbook run --write"}).into(),
    };
    let request = ClaimRequest { event: &event, message_copy_id: domain::EventId::new().0, trace_id: None };
    let worker = Worker::named("dead");
    fleet.ledger.claim(&[request], &worker, Duration::from_secs(60)).await.expect("claimed");
    sql(&fleet, "update event set lease_expires_at = now() - interval '1 hour'").await;
    let done = fleet.leadline(&["reconcile", "--yes"]).await.expect("runs");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let story = fleet.ledger.event_story(event.key.as_str()).await.expect("asked").expect("known");
    assert_eq!((story.state, story.reason), (EventState::Parked, Some(Reason::EventInvalid)));
}

/// They have a queue of their own that no outage pauses, also when they are published again.
#[tokio::test]
async fn a_privacy_deletion_whose_message_was_lost_goes_to_its_own_queue_again() {
    let plan = FleetPlan { receivers: 0, inferences: 0, writers: 0, ..pipeline() };
    let fleet = fleet(&plan).await;
    let body = serde_json::json!([happened("contact", 1, "privacyDeletion", None, 1)]).to_string();
    let element = hubspot::webhook::parse(body.as_bytes()).expect("an array").pop().expect("one element");
    let event = element.event.expect("an event");
    let request = ClaimRequest { event: &event, message_copy_id: domain::EventId::new().0, trace_id: None };
    fleet.ledger.claim(&[request], &Worker::named("dead"), Duration::from_secs(60)).await.expect("claimed");
    sql(&fleet, "update event set lease_expires_at = now() - interval '10 hours'").await;
    for (messages, arguments) in [(1, &["event", "requeue", event.key.as_str()][..]), (2, &["reconcile", "--yes"])] {
        let done = fleet.leadline(arguments).await.expect("runs");
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        fleet.until_holds("leadline.erasures", messages, WITHIN).await.expect("published");
        sql(&fleet, "update event set requeued_at = requeued_at - interval '10 hours'").await;
    }
    sql(&fleet, "update event set state = 'parked', reason = 'attempts_exhausted', lease_expires_at = null").await;
    let listed = fleet.leadline(&["parked", "list", "--stage", "erasures"]).await.expect("runs");
    let said = String::from_utf8_lossy(&listed.stdout);
    assert!(said.contains("1 parked"), "{said}");
}

/// A writer was frozen with its call at the socket, and wakes when a newer value is there: HubSpot has no compare-and-set.
#[tokio::test]
async fn an_older_value_that_landed_on_a_newer_one_is_mended_and_a_persons_is_not() {
    let fleet = fleet(&reconciling()).await;
    for id in [1, 2] {
        contact(&fleet, id, &[BUYER]).await;
        send_accepted(&fleet, &[note_event(id, 1)]).await;
        ended_as(&fleet, &note_event(id, 1), "written", None).await;
    }
    let edit = |source: &str, source_id: &str| simulator::admin::Edit {
        properties: [("lead_score".to_owned(), "3".to_owned())].into(),
        source: source.to_owned(),
        source_id: source_id.to_owned(),
        announce: false,
    };
    fleet.simulator.edit("contact", 1, &edit("INTEGRATION", "1234567")).await.expect("our own late call");
    fleet.simulator.edit("contact", 2, &edit("CRM_UI", "userId:42")).await.expect("a person");
    let records: Vec<_> = [1, 2]
        .map(|id| domain::RecordRef {
            portal_id: domain::PortalId(9_876_543),
            object_type: domain::ObjectType::Contact,
            object_id: domain::ObjectId(id),
        })
        .to_vec();
    fleet.ledger.mark_for_verification(&records).await.expect("marked");
    let mended = async {
        while property(&fleet, 1, "lead_score").await.as_deref() != Some("85") {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        while !fleet.ledger.records_to_verify(10).await.expect("asked").is_empty() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(WITHIN, mended).await.expect("mended");
    assert_eq!(property(&fleet, 2, "lead_score").await.as_deref(), Some("3"), "what a person set stays");
}
