//! Nothing waits without end, whatever excuses its waiting; and one event that always fails pauses no others.

use fixtures::{
    BUYER, WITHIN, contact, ended_as, fleet, note, note_event, others_are_written, pipeline, property, send_accepted,
    sql,
};
use lab::FleetPlan;
use serde_json::json;
use simulator::{Fault, FaultKind, Target};

/// Events may become three seconds old.
fn impatient() -> FleetPlan {
    pipeline().with("broker.max_age_seconds", "3").with("broker.max_attempts", "1000")
}

/// A limit on money does not count as a failure.
#[tokio::test]
async fn an_event_that_only_waits_is_parked_with_its_last_reason_when_it_is_too_old() {
    // One question may cost about 7,600 µ$, and costs 1,250 in the end.
    let plan = impatient().with("openai.model", "gpt-4o").with("spend.micro_dollars_per_record_and_day", "8500");
    let fleet = fleet(&plan).await;
    contact(&fleet, 1, &[BUYER]).await;
    send_accepted(&fleet, &[note_event(1, 1)]).await;
    ended_as(&fleet, &note_event(1, 1), "written", None).await;
    note(&fleet, 501, 1, "The CTO joins the next call.").await;
    send_accepted(&fleet, &[note_event(1, 2)]).await;
    let story = ended_as(&fleet, &note_event(1, 2), "parked", Some("record_paused")).await;
    assert!(story.history.len() >= 4, "it waited before: {:?}", story.history);
    fleet.until_parked("leadline.events", 1, WITHIN).await.expect("parked");
    let message = fleet.namespace.take_messages("leadline.events.parked", 1).await.expect("taken").remove(0);
    let headers = &message["properties"]["headers"];
    assert_eq!(headers["x-leadline-attempts"], json!(0), "no attempt was counted");
    assert_eq!(headers["x-leadline-reason"], json!("record_paused"));
}

/// Another writer holds the record and does not let it go.
#[tokio::test]
async fn a_write_command_that_only_waits_is_parked_and_a_replay_gives_it_time_again() {
    let fleet = fleet(&impatient()).await;
    contact(&fleet, 1, &[BUYER]).await;
    sql(
        &fleet,
        "insert into record_lease (portal_id, object_type, object_id, worker, expires_at)
         values (9876543, '0-1', 1, 'another', now() + interval '1 hour')",
    )
    .await;
    send_accepted(&fleet, &[note_event(1, 1)]).await;
    ended_as(&fleet, &note_event(1, 1), "parked", Some("record_busy")).await;
    fleet.until_parked("leadline.writes", 1, WITHIN).await.expect("parked");
    sql(&fleet, "delete from record_lease").await;
    let replayed = fleet.leadline(&["parked", "replay", "--reason", "record_busy", "--yes"]).await.expect("runs");
    assert!(replayed.status.success(), "{}", String::from_utf8_lossy(&replayed.stderr));
    ended_as(&fleet, &note_event(1, 1), "written", None).await;
    assert!(property(&fleet, 1, "lead_score").await.is_some());
}

/// One event that gets 401 whatever happens, as from a gateway that blocks some texts, opens the circuit each time it is
/// tried. The others are written meanwhile, and it ends in the parking lot.
#[tokio::test]
async fn an_event_that_opens_the_circuit_again_and_again_is_parked_and_the_others_go_on() {
    let plan = pipeline()
        .with("circuit_breaker.poll_ms", "50")
        .with("circuit_breaker.probe_first_seconds", "1")
        .with("circuit_breaker.probe_max_seconds", "2")
        .with("circuit_breaker.half_open_seconds", "2");
    let fleet = fleet(&plan).await;
    contact(&fleet, 1, &["The one that is blocked."]).await;
    let blocked = Fault::new(Target::Openai, FaultKind::Status { code: 401, retry_after: None });
    fleet.simulator.fault(&blocked.containing("The one that is blocked")).await.expect("set");
    send_accepted(&fleet, &[note_event(1, 1)]).await;
    let poison = async {
        let story = ended_as(&fleet, &note_event(1, 1), "parked", Some("openai_unauthorized")).await;
        let waits = story.history.iter().filter(|entry| entry.state == domain::EventState::Waiting).count();
        assert!(waits <= 8, "four counted failures, and the first that seemed to be an outage: {:?}", story.history);
    };
    tokio::select! {
        () = poison => {}
        () = others_are_written(&fleet) => {}
    }
}
