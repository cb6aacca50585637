//! The fleet's own writes never start the fleet again, and other people's always do.

use sandbox::admin::Quirks;
use serde_json::json;

use crate::scene::{BUYER, WITHIN, accepted, contact, ended_as, fleet, noted, questions, quick};

#[tokio::test]
async fn echoes_of_our_own_writes_start_nothing_not_even_when_they_come_twice_and_in_disorder() {
    let fleet = fleet(&quick()).await;
    let manners = Quirks { duplicate_webhooks: true, shuffled_webhooks: true, ..Quirks::default() };
    fleet.sandbox.quirks(&manners).await.expect("set");
    contact(&fleet, 1, &[BUYER]).await;
    accepted(&fleet, &[noted(1, 1)]).await;
    ended_as(&fleet, &noted(1, 1), "written", None).await;
    // The sandbox sends the echoes by itself, shortly after the write.
    let echoed = async {
        while fleet.sandbox.deliveries().await.expect("asked").iter().map(|delivery| delivery.events).sum::<usize>()
            < 10
        {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(WITHIN, echoed).await.expect("five properties were written, ten echoes come");
    fleet.until_idle(WITHIN).await.expect("idle");
    let counts = fleet.ledger.event_counts().await.expect("asked");
    let echoes = counts.iter().find(|count| count.reason.as_deref() == Some("echo")).expect("echoes are in the ledger");
    assert_eq!((echoes.state.as_str(), echoes.events), ("dropped", 5));
    assert_eq!(questions(&fleet).await, 1);
}

#[tokio::test]
async fn another_integrations_change_is_real_input_but_a_property_of_ours_is_not() {
    let fleet = fleet(&quick()).await;
    contact(&fleet, 1, &[BUYER]).await;
    let mut other = noted(1, 1);
    other["changeSource"] = json!("INTEGRATION");
    other["sourceId"] = json!("999");
    let mut copied = other.clone();
    copied["propertyName"] = json!("lead_score");
    accepted(&fleet, &[other.clone(), copied.clone()]).await;
    ended_as(&fleet, &other, "written", None).await;
    ended_as(&fleet, &copied, "skipped", Some("playbook_property")).await;
}
