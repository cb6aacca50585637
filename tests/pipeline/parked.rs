//! What is parked can be seen, replayed and given up, by reason, playbook, time and id.

use std::process::Output;

use lab::Fleet;
use serde_json::json;
use simulator::{Fault, FaultKind, Target};

use fixtures::{
    BUYER, WITHIN, ask, contact, ended, ended_as, fleet, key, note_event, pipeline, property, questions, send,
    send_accepted, times_set,
};

async fn leadline(fleet: &Fleet, arguments: &[&str]) -> String {
    let Output { status, stdout, stderr } = fleet.leadline(arguments).await.expect("runs");
    let said = format!("{}{}", String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
    assert!(status.success(), "{arguments:?}: {said}");
    said
}

/// Three reasons for parking: the model declined twice, an element is no event, HubSpot does not take a value.
async fn parked_fleet() -> Fleet {
    let fleet = fleet(&pipeline()).await;
    for id in 1..=4 {
        contact(&fleet, id, &[BUYER]).await;
    }
    let declines = Fault::new(Target::Openai, FaultKind::Refusal).times(2);
    fleet.simulator.fault(&declines).await.expect("set");
    send_accepted(&fleet, &[note_event(1, 1), note_event(2, 1)]).await;
    ended_as(&fleet, &note_event(1, 1), "parked", Some("refused")).await;
    ended_as(&fleet, &note_event(2, 1), "parked", Some("refused")).await;
    let mut unknown = note_event(3, 1);
    unknown["subscriptionType"] = json!("contact.teleported");
    assert_eq!(send(&fleet, &[unknown]).await.status, 200);
    let invalid = FaultKind::Status { code: 400, retry_after: None };
    let fault = Fault::new(Target::Hubspot, invalid).on_path("/contacts/batch/update").containing(r#""id":"4""#);
    fleet.simulator.fault(&fault).await.expect("set");
    send_accepted(&fleet, &[note_event(4, 1)]).await;
    ended_as(&fleet, &note_event(4, 1), "parked", Some("validation_error")).await;
    fleet.until_parked("leadline.events", 3, WITHIN).await.expect("parked");
    fleet.until_parked("leadline.writes", 1, WITHIN).await.expect("parked");
    fleet
}

#[tokio::test]
async fn it_is_listed_with_its_reasons_and_narrowed_down() {
    let fleet = parked_fleet().await;
    let all = leadline(&fleet, &["parked", "list"]).await;
    for part in ["refused", "unknown_event_type", "validation_error", "lead-qualification", "4 parked"] {
        assert!(all.contains(part), "{part} in\n{all}");
    }
    for (filter, count) in [
        (["--reason", "refused"], "2 parked"),
        (["--stage", "writes"], "1 parked"),
        (["--playbook", "lead-qualification"], "3 parked"),
        (["--since", "1h"], "4 parked"),
        (["--until", "1h"], "nothing is parked that matches the filter"),
        (["--id", &key(&note_event(1, 1))], "1 parked"),
    ] {
        let said = leadline(&fleet, &[&["parked", "list"], &filter[..]].concat()).await;
        assert!(said.contains(count), "{filter:?}: {count} in\n{said}");
    }
    let shown = leadline(&fleet, &["parked", "show", &key(&note_event(1, 1))]).await;
    assert!(shown.contains("refused") && shown.contains("\"objectId\":1") && shown.contains("history"), "{shown}");
    // Looking takes nothing away.
    fleet.until_parked("leadline.events", 3, WITHIN).await.expect("all there");
    let status = leadline(&fleet, &["status"]).await;
    assert!(status.contains("leadline.events.parked") && status.contains("validation_error"), "{status}");
}

#[tokio::test]
async fn a_replay_goes_on_where_it_failed_once() {
    let fleet = parked_fleet().await;
    let refusal = fleet.leadline(&["parked", "replay", "--yes"]).await.expect("runs");
    assert!(!refusal.status.success(), "without a filter it needs --all");
    let dry = leadline(&fleet, &["parked", "replay", "--reason", "refused"]).await;
    assert!(dry.contains("2 parked") && dry.contains("nothing was replayed"), "{dry}");
    fleet.until_parked("leadline.events", 3, WITHIN).await.expect("a dry run changes nothing");

    let done = leadline(&fleet, &["parked", "replay", "--reason", "refused", "--yes", "--per-second", "100"]).await;
    assert!(done.contains("2 replayed, 0 were no longer parked, 0 stay parked"), "{done}");
    fleet.simulator.clear_faults().await.expect("mended");
    let until_written = |id| {
        let fleet = &fleet;
        async move {
            fleet.until_event(&key(&note_event(id, 1)), |state| state == domain::EventState::Written, WITHIN).await
        }
    };
    until_written(1).await.expect("written");
    until_written(2).await.expect("written");
    fleet.until_parked("leadline.events", 1, WITHIN).await.expect("no longer in the parking lot");

    let asked = questions(&fleet).await;
    leadline(&fleet, &["parked", "replay", "--stage", "writes", "--yes"]).await;
    until_written(4).await.expect("written");
    assert_eq!(questions(&fleet).await, asked, "a write command is replayed without asking again");
    assert_eq!(property(&fleet, 4, "lead_score").await.as_deref(), Some("85"));
    assert_eq!(times_set(&fleet, 4, "lead_score").await, 1);
    fleet.until_parked("leadline.writes", 0, WITHIN).await.expect("no longer in the parking lot");

    // A second replay finds nothing to do; an unknown type is still unknown, and stays.
    let again = fleet.leadline(&["parked", "replay", "--all", "--yes"]).await.expect("runs");
    let said = String::from_utf8_lossy(&again.stdout).into_owned();
    assert!(
        said.contains("0 replayed, 0 were no longer parked, 1 stay parked") && said.contains("teleported"),
        "{said}"
    );
    fleet.until_parked("leadline.events", 1, WITHIN).await.expect("it stays");
}

/// An operator whose command dies half-way, or who has two windows open.
#[tokio::test]
async fn a_replay_of_an_event_that_was_resumed_changes_nothing() {
    let fleet = fleet(&pipeline()).await;
    contact(&fleet, 1, &[BUYER]).await;
    fleet.simulator.fault(&Fault::new(Target::Openai, FaultKind::Refusal).times(1)).await.expect("set");
    send_accepted(&fleet, &[note_event(1, 1)]).await;
    ended_as(&fleet, &note_event(1, 1), "parked", Some("refused")).await;
    fleet.until_parked("leadline.events", 1, WITHIN).await.expect("parked");
    // `event requeue` publishes from the ledger and leaves the parking lot's message.
    leadline(&fleet, &["event", "requeue", &key(&note_event(1, 1))]).await;
    ended_as_written(&fleet).await;
    let said = leadline(&fleet, &["parked", "replay", "--all", "--yes"]).await;
    assert!(said.contains("0 replayed, 1 were no longer parked"), "{said}");
    fleet.until_parked("leadline.events", 0, WITHIN).await.expect("cleared away");
    fleet.until_idle(WITHIN).await.expect("idle");
    assert_eq!(times_set(&fleet, 1, "lead_score").await, 1);
    let refused = fleet.leadline(&["event", "requeue", &key(&note_event(1, 1))]).await.expect("runs");
    assert!(
        !refused.status.success() && String::from_utf8_lossy(&refused.stderr).contains("the event has ended (written)")
    );
}

async fn ended_as_written(fleet: &Fleet) {
    let written = |state| state == domain::EventState::Written;
    fleet.until_event(&key(&note_event(1, 1)), written, WITHIN).await.expect("written");
}

#[tokio::test]
async fn what_is_given_up_is_dropped_as_discarded() {
    let fleet = parked_fleet().await;
    let dry = leadline(&fleet, &["parked", "discard", "--all"]).await;
    assert!(dry.contains("nothing was discarded"), "{dry}");
    let said = leadline(&fleet, &["parked", "discard", "--all", "--yes", "--per-second", "1000"]).await;
    assert!(said.contains("4 discarded"), "{said}");
    fleet.until_parked("leadline.events", 0, WITHIN).await.expect("empty");
    fleet.until_parked("leadline.writes", 0, WITHIN).await.expect("empty");
    for id in [1, 2, 4] {
        let story = ended(&fleet, &note_event(id, 1)).await;
        assert_eq!(
            (story.state.as_str(), story.reason.map(domain::Reason::as_str)),
            ("dropped", Some("discarded")),
            "{story:?}"
        );
    }
    let parked: i64 = ask(&fleet, "select count(*) from parked").await;
    assert_eq!(parked, 0);
}

/// The parking lot was purged: the ledger still knows what was in it.
#[tokio::test]
async fn what_was_purged_from_the_parking_lot_is_replayed_from_the_ledger() {
    let fleet = parked_fleet().await;
    for queue in ["leadline.events.parked", "leadline.writes.parked"] {
        let path = format!("queues/{}/{queue}/contents", fleet.namespace.name);
        fleet.namespace.management(reqwest::Method::DELETE, &path, None).await.expect("purged");
    }
    fleet.simulator.clear_faults().await.expect("mended");
    let said = leadline(&fleet, &["parked", "replay", "--all", "--yes"]).await;
    assert!(said.contains("3 replayed"), "{said}");
    for id in [1, 2, 4] {
        let written = |state| state == domain::EventState::Written;
        fleet.until_event(&key(&note_event(id, 1)), written, WITHIN).await.expect("written");
    }
}
