//! What no webhook told of is found in HubSpot, and does not delay what happens now.

use std::time::Duration;

use domain::EventState;
use lab::FleetPlan;

use fixtures::{
    BUYER, PlaybookFolder, WITHIN, backfill, contact, ended_as, fleet, key, note_event, pipeline, send_accepted,
};

/// A hundred events wait on the lane of the backfill, one at a time; what happens now is answered at once.
#[tokio::test]
async fn a_backfill_does_not_delay_live_events() {
    let plan = FleetPlan { simulator_arguments: vec!["--model-latency-ms".to_owned(), "400".to_owned()], ..pipeline() }
        .with("inference.backfill_concurrency", "1");
    let fleet = fleet(&plan).await;
    for id in 1..=60 {
        contact(&fleet, id, &[&format!("{BUYER} {id}")]).await;
    }
    fleet.simulator.complete_search_index().await.expect("indexed");
    backfill(&fleet, &[]).await;
    contact(&fleet, 100, &[BUYER]).await;
    let started = std::time::Instant::now();
    send_accepted(&fleet, &[note_event(100, 1)]).await;
    ended_as(&fleet, &note_event(100, 1), "written", None).await;
    let took = started.elapsed();
    let counts = fleet.ledger.event_counts().await.expect("asked");
    let done: i64 =
        counts.iter().filter(|count| count.state == domain::EventState::Written).map(|count| count.events).sum();
    assert!(done < 40, "the backfill is still at it: {done} of 60");
    assert!(took < Duration::from_secs(5), "the live event took {took:?}");
    fleet.until_event(&key(&note_event(100, 1)), EventState::is_final, WITHIN).await.expect("written");
}

/// More than HubSpot gives to one question. Of the shipped playbook's triggers only the contact's creation is left: HubSpot takes
/// five searches a second.
#[tokio::test]
async fn a_search_goes_on_past_ten_thousand_results() {
    let shipped = include_str!("../../deploy/playbooks/lead-qualification.toml");
    let creation = "[[triggers]]\nevent = \"contact.creation\"\n";
    let (before, rest) = shipped.split_once("[[triggers]]").expect("triggers");
    let (_, after) = rest.split_once("object_type = \"0-46\"\n").expect("the last trigger");
    assert!(rest.contains(creation));
    let folder = PlaybookFolder::new("creation", &[&format!("{before}{creation}{after}")]);
    let plan = FleetPlan {
        receivers: 0,
        inferences: 0,
        writers: 0,
        simulator_arguments: ["--contacts", "10250"].map(ToOwned::to_owned).to_vec(),
        ..pipeline().with("hubspot.timeout_seconds", "10")
    };
    let fleet = fleet(&plan.with("inference.playbooks", folder.path())).await;
    fleet.simulator.complete_search_index().await.expect("indexed");
    let said = backfill(&fleet, &["--dry-run", "--json"]).await;
    let found: serde_json::Value = serde_json::from_str(&said).expect("JSON and nothing else");
    let row = &found["triggers"][0];
    assert_eq!(
        (&row["trigger"], &row["in_hubspot"], &row["in_ledger"]),
        (&"contact.creation".into(), &10_250.into(), &0.into())
    );
    assert_eq!((&found["missing"], &found["queued"]), (&10_250.into(), &0.into()), "{said}");
}
