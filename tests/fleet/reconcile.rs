//! What the ledger has begun and whose message is lost is taken up again, by the fleet itself or by an operator.

use std::time::Duration;

use domain::EventState;
use lab::FleetPlan;

use fixtures::{BUYER, WITHIN, contact, fleet, key, note_event, purge, quick, send_accepted};

fn reconciling() -> FleetPlan {
    quick().with("reconcile.interval_seconds", "1").with("reconcile.stuck_after_seconds", "3")
}

/// A worker died with the only message: the broker lost it, too.
#[tokio::test]
async fn an_operator_sees_what_was_left_behind_and_takes_it_up_again() {
    let plan = FleetPlan { simulator_arguments: vec!["--model-latency-ms".to_owned(), "60000".to_owned()], ..quick() }
        .with("reconcile.interval_seconds", "3600");
    let mut fleet = fleet(&plan).await;
    contact(&fleet, 1, &[BUYER]).await;
    send_accepted(&fleet, &[note_event(1, 1)]).await;
    fleet.until_event(&key(&note_event(1, 1)), |state| state == EventState::Claimed, WITHIN).await.expect("claimed");
    let worker = fleet.indices("leadline-inference")[0];
    fleet.members[worker].process.kill();
    tokio::time::sleep(Duration::from_millis(500)).await;
    purge(&fleet, "leadline.events").await;
    let nothing = fleet.leadline(&["reconcile"]).await.expect("runs");
    assert!(String::from_utf8_lossy(&nothing.stdout).contains("no message is lost"), "its lease is not over");
    let started = std::time::Instant::now();
    let said = loop {
        let found = fleet.leadline(&["reconcile", "--after", "1"]).await.expect("runs");
        let said = String::from_utf8_lossy(&found.stdout).into_owned();
        if !said.contains("no message is lost") {
            break said;
        }
        assert!(started.elapsed() < WITHIN, "its lease has been over for long");
        tokio::time::sleep(Duration::from_millis(500)).await;
    };
    assert!(said.contains(&key(&note_event(1, 1))) && said.contains("nothing was changed"), "{said}");
    let done = fleet.leadline(&["reconcile", "--after", "1", "--yes"]).await.expect("runs");
    let said = String::from_utf8_lossy(&done.stdout).into_owned();
    assert!(said.contains("published again: 1 events"), "{said}");
    let taken = fleet.namespace.queues().await.expect("asked");
    assert!(taken.iter().any(|queue| queue.name == "leadline.events"), "{taken:?}");
}

/// An event that kills whoever works on it does so a few times, and no more.
#[tokio::test]
async fn an_event_that_no_worker_survives_is_parked() {
    let plan = FleetPlan { inferences: 1, ..reconciling() }
        .with("reconcile.max_requeues", "1")
        .with("inference.lease_seconds", "8");
    let mut fleet = fleet(&FleetPlan { writers: 1, ..plan }).await;
    contact(&fleet, 1, &[BUYER]).await;
    let hang = simulator::Fault::new(simulator::Target::Openai, simulator::FaultKind::Hang);
    fleet.simulator.fault(&hang).await.expect("set");
    send_accepted(&fleet, &[note_event(1, 1)]).await;
    for _ in 0..2 {
        fleet
            .until_event(&key(&note_event(1, 1)), |state| state == EventState::Claimed, WITHIN)
            .await
            .expect("claimed");
        let worker = fleet.indices("leadline-inference")[0];
        fleet.members[worker].process.kill();
        tokio::time::sleep(Duration::from_millis(500)).await;
        purge(&fleet, "leadline.events").await;
        // Its message is gone with the worker; the writer's reconciler publishes it again, once.
        tokio::time::sleep(Duration::from_secs(13)).await;
        fleet.restart(worker).expect("restarted");
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    let worker = fleet.indices("leadline-inference")[0];
    fleet.members[worker].process.kill();
    purge(&fleet, "leadline.events").await;
    let parked = |state| state == EventState::Parked;
    let story = fleet.until_event(&key(&note_event(1, 1)), parked, WITHIN).await.expect("parked");
    assert_eq!(story.reason.map(domain::Reason::as_str), Some("attempts_exhausted"));
    fleet.until_parked("leadline.events", 1, WITHIN).await.expect("in the lot");
}
