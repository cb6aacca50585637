//! One bad record never costs its neighbours their write.

use simulator::admin::Quirks;

use crate::fixtures::{BUYER, WITHIN, contact, ended_as, fleet, note, note_event, property, quick, send_accepted};

#[tokio::test]
async fn a_value_that_hubspot_does_not_take_parks_its_own_record_and_no_other() {
    let fleet = fleet(&quick().with("writer.batch_linger_ms", "400")).await;
    // A validation rule in the portal: no budget above ten million.
    let quirks = Quirks { maxima: [("ai_budget_estimate".to_owned(), 10_000_000)].into(), ..Quirks::default() };
    fleet.simulator.quirks(&quirks).await.expect("set");
    let ids: Vec<i64> = (1..=40).collect();
    for id in &ids {
        let note = if *id == 23 { "They have $900,000k ready for Q1." } else { BUYER };
        contact(&fleet, *id, &[note]).await;
    }
    send_accepted(&fleet, &ids.iter().map(|id| note_event(*id, 1)).collect::<Vec<_>>()).await;
    for id in ids.iter().filter(|id| **id != 23) {
        ended_as(&fleet, &note_event(*id, 1), "written", None).await;
        assert_eq!(property(&fleet, *id, "ai_budget_estimate").await.as_deref(), Some("50000"));
    }
    let story = ended_as(&fleet, &note_event(23, 1), "parked", Some("validation_error")).await;
    assert!(story.detail.as_deref().is_some_and(|detail| detail.contains("ai_budget_estimate")), "{:?}", story.detail);
    assert_eq!(property(&fleet, 23, "lead_score").await, None, "nothing of the bad record is half written");
    fleet.until_parked("leadline.writes", 1, WITHIN).await.expect("parked");
    let calls = fleet.simulator.calls(0).await.expect("asked");
    let largest = calls
        .iter()
        .filter(|call| call.path.ends_with("/batch/update"))
        .filter_map(|call| call.request["inputs"].as_array())
        .map(Vec::len)
        .max();
    assert!(largest.is_some_and(|largest| largest > 10), "it was one batch that had to be halved: {largest:?}");
}

#[tokio::test]
async fn a_record_that_a_batch_answer_leaves_out_is_not_taken_for_written() {
    let fleet = fleet(&quick().with("writer.batch_linger_ms", "400")).await;
    fleet.simulator.quirks(&Quirks { left_out_ids: vec![5], ..Quirks::default() }).await.expect("set");
    let ids: Vec<i64> = (1..=10).collect();
    for id in &ids {
        contact(&fleet, *id, &[BUYER]).await;
    }
    send_accepted(&fleet, &ids.iter().map(|id| note_event(*id, 1)).collect::<Vec<_>>()).await;
    for id in ids {
        ended_as(&fleet, &note_event(id, 1), "written", None).await;
        assert_eq!(property(&fleet, id, "ai_budget_estimate").await.as_deref(), Some("50000"), "contact {id}");
    }
    let calls = fleet.simulator.calls(0).await.expect("asked");
    assert!(
        calls.iter().any(|call| call.method == "PATCH" && call.path.ends_with("/contacts/5")),
        "it was written on its own"
    );
}

#[tokio::test]
async fn many_writes_go_in_one_call_and_one_goes_as_a_patch() {
    let plan = lab::FleetPlan { simulator_arguments: vec!["--calls-per-10s".to_owned(), "1000".to_owned()], ..quick() };
    let fleet = fleet(&plan.with("writer.batch_linger_ms", "400")).await;
    let ids: Vec<i64> = (1..=100).collect();
    for id in &ids {
        contact(&fleet, *id, &[BUYER]).await;
    }
    send_accepted(&fleet, &[note_event(1, 1)]).await;
    ended_as(&fleet, &note_event(1, 1), "written", None).await;
    let calls = fleet.simulator.calls(0).await.expect("asked");
    assert_eq!(calls.iter().filter(|call| call.method == "PATCH").count(), 1);
    let before = calls.last().map_or(0, |call| call.number);
    note(&fleet, 501, 1, "One more word.").await;
    send_accepted(&fleet, &ids.iter().map(|id| note_event(*id, 2)).collect::<Vec<_>>()).await;
    for id in ids {
        ended_as(&fleet, &note_event(id, 2), "written", None).await;
    }
    let calls = fleet.simulator.calls(before).await.expect("asked");
    let writes = calls.iter().filter(|call| call.method == "PATCH" || call.path.ends_with("/batch/update")).count();
    assert!(writes <= 30, "100 records were written in {writes} calls");
}
