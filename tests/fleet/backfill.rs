//! What no webhook told of is found in HubSpot, and does not delay what happens now.

use std::time::Duration;

use lab::FleetPlan;
use simulator::admin::Edit;

use fixtures::{BUYER, WITHIN, ask, backfill, contact, fleet, property, questions, quick, times_set};

fn logged(at: i64) -> Edit {
    Edit {
        properties: [("notes_last_updated".to_owned(), (1_764_000_000_000 + at).to_string())].into(),
        source: "CRM_UI".to_owned(),
        source_id: "userId:42".to_owned(),
        announce: true,
    }
}

/// The receiver is down until HubSpot gives up.
#[tokio::test]
async fn what_happened_while_no_receiver_was_there_is_queued_and_answered_once() {
    let plan = FleetPlan {
        inferences: 2,
        simulator_arguments: ["--webhook-retries", "2"].map(ToOwned::to_owned).to_vec(),
        ..quick()
    };
    let mut fleet = fleet(&plan).await;
    let receiver = fleet.indices("leadline-receiver")[0];
    fleet.members[receiver].process.stop(Duration::from_secs(10));
    for id in 1..=25 {
        contact(&fleet, id, &[BUYER]).await;
        fleet.simulator.edit("contact", id, &logged(id)).await.expect("edited");
    }
    let given_up = async {
        loop {
            let deliveries = fleet.simulator.deliveries().await.expect("asked");
            let tried: usize =
                deliveries.iter().filter(|delivery| delivery.attempt == 2).map(|delivery| delivery.events).sum();
            if tried >= 25 {
                assert!(deliveries.iter().all(|delivery| delivery.status == 0), "no receiver was there");
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(WITHIN, given_up).await.expect("HubSpot gives up");
    fleet.restart(receiver).expect("restarted");
    fleet.until_ready().await.expect("ready");
    // One contact's change was told after all, by a webhook of now.
    fleet.simulator.edit("contact", 25, &logged(1_000)).await.expect("edited");
    let written = async {
        while times_set(&fleet, 25, "lead_score").await == 0 {
            tokio::time::sleep(Duration::from_millis(30)).await;
        }
    };
    tokio::time::timeout(WITHIN, written).await.expect("written");
    fleet.until_idle(WITHIN).await.expect("idle");
    fleet.simulator.complete_search_index().await.expect("indexed");

    let events = "select count(*) from event";
    let before: i64 = ask(&fleet, events).await;
    let dry = backfill(&fleet, &["--dry-run"]).await;
    assert_eq!(numbers_of(&dry, "contact.propertyChange"), [25, 1, 24], "{dry}");
    assert!(dry.contains("would be queued"), "{dry}");
    fleet.until_idle(WITHIN).await.expect("idle");
    assert_eq!(ask::<i64>(&fleet, events).await, before, "a dry run queues nothing");

    backfill(&fleet, &[]).await;
    for id in 1..=24 {
        let written = async {
            while property(&fleet, id, "lead_score").await.is_none() {
                tokio::time::sleep(Duration::from_millis(30)).await;
            }
        };
        tokio::time::timeout(WITHIN, written).await.unwrap_or_else(|_| panic!("contact {id}\n{}", fleet.logs()));
    }
    fleet.until_idle(WITHIN).await.expect("idle");
    assert_eq!(questions(&fleet).await, 25, "each contact once, though its creation was missed, too");
    fleet.simulator.complete_search_index().await.expect("indexed");
    let again = backfill(&fleet, &[]).await;
    assert_eq!(numbers_of(&again, "contact.propertyChange"), [25, 25, 0], "{again}");
    fleet.until_idle(WITHIN).await.expect("idle");
    assert_eq!(questions(&fleet).await, 25);
}

/// The numbers in the row of a trigger: changes in HubSpot, in the ledger, missing.
fn numbers_of(said: &str, trigger: &str) -> Vec<u64> {
    let row = said.lines().find(|line| line.starts_with(trigger)).unwrap_or_else(|| panic!("{trigger} in\n{said}"));
    row.split_whitespace().filter_map(|word| word.parse().ok()).collect()
}
