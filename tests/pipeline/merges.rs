//! Two records become one: the playbooks look at the one that survives.

use serde_json::json;
use simulator::admin::Merge;

use fixtures::{BUYER, contact, ended_as, fleet, happened, pipeline, property, questions, send_accepted, until};

#[tokio::test]
async fn a_merge_makes_the_playbook_look_at_the_record_that_survives() {
    let fleet = fleet(&pipeline()).await;
    contact(&fleet, 1, &[BUYER]).await;
    contact(&fleet, 2, &["The controller is back from leave."]).await;
    let merge = Merge { kind: "contact".to_owned(), primary: 1, merged: vec![2], announce: false };
    let survivor = fleet.simulator.merge(&merge).await.expect("merged");
    let mut event = happened("contact", 1, "merge", None, 1);
    event["primaryObjectId"] = json!(1);
    event["mergedObjectIds"] = json!([2]);
    event["newObjectId"] = json!(survivor);
    event["numberOfPropertiesMoved"] = json!(0);
    let mut again = event.clone();
    again["attemptNumber"] = json!(1);
    send_accepted(&fleet, &[event.clone()]).await;
    let story = ended_as(&fleet, &event, "written", None).await;
    send_accepted(&fleet, &[again]).await;
    assert_eq!(story.inferences[0].object_id, survivor);
    let prompt = story.inferences[0].prompt.as_ref().expect("kept").to_string();
    assert!(prompt.contains("50k") && prompt.contains("controller"), "the notes of both: {prompt}");
    assert!(property(&fleet, survivor, "lead_score").await.is_some());

    // As HubSpot itself tells of a merge.
    contact(&fleet, 3, &["They asked for references."]).await;
    let merge = Merge { kind: "contact".to_owned(), primary: 3, merged: vec![survivor], announce: true };
    let last = fleet.simulator.merge(&merge).await.expect("merged");
    until("the survivor of both merges was looked at", async || questions(&fleet).await == 2).await;
    until("it is written", async || {
        property(&fleet, last, "ai_lead_summary").await.is_some_and(|summary| !summary.is_empty())
    })
    .await;
    assert_eq!(questions(&fleet).await, 2, "a redelivery asks nothing");
}
