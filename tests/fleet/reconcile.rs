//! What the ledger has begun and whose message is lost is taken up again, by the fleet itself or by an operator.

use domain::EventState;
use lab::{Fleet, FleetPlan};

use fixtures::{
    BUYER, WITHIN, ask, contact, end_event_leases, fleet, key, note_event, purge, quick, send_accepted, sql, until,
};

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
    kill_and_lose_its_message(&mut fleet, worker).await;
    let nothing = fleet.leadline(&["reconcile"]).await.expect("runs");
    assert!(String::from_utf8_lossy(&nothing.stdout).contains("no message is lost"), "its lease is not over");
    end_event_leases(&fleet).await;
    let found = fleet.leadline(&["reconcile", "--after", "1"]).await.expect("runs");
    let said = String::from_utf8_lossy(&found.stdout).into_owned();
    assert!(said.contains(&key(&note_event(1, 1))) && said.contains("nothing was changed"), "{said}");
    let done = fleet.leadline(&["reconcile", "--after", "1", "--yes"]).await.expect("runs");
    let said = String::from_utf8_lossy(&done.stdout).into_owned();
    assert!(said.contains("published again: 1 events"), "{said}");
    let taken = fleet.namespace.queues().await.expect("asked");
    assert!(taken.iter().any(|queue| queue.name == "leadline.events"), "{taken:?}");
}

/// An event that kills each worker that processes it is given to a few of them, and no more.
#[tokio::test]
async fn an_event_that_no_worker_survives_is_parked() {
    // Longer than a worker takes to start, on a slow machine too: the test makes work overdue itself.
    let plan = reconciling().with("reconcile.max_requeues", "1").with("reconcile.stuck_after_seconds", "60");
    let mut fleet = fleet(&plan).await;
    contact(&fleet, 1, &[BUYER]).await;
    let hang = simulator::Fault::new(simulator::Target::Openai, simulator::FaultKind::Hang);
    fleet.simulator.fault(&hang).await.expect("set");
    send_accepted(&fleet, &[note_event(1, 1)]).await;
    let worker = fleet.indices("leadline-inference")[0];
    let claimed = "select exists (select from event where state = 'claimed' and requeues = 0)";
    until("the event is claimed", async || ask(&fleet, claimed).await).await;
    kill_and_lose_its_message(&mut fleet, worker).await;
    end_event_leases(&fleet).await;
    // The writer's reconciler publishes it again, once.
    until("it is published again", async || ask::<i32>(&fleet, "select requeues from event").await == 1).await;
    fleet.restart(worker).expect("restarted");
    let claimed = "select exists (select from event where state = 'claimed' and lease_expires_at > now())";
    until("the event is claimed again", async || ask(&fleet, claimed).await).await;
    kill_and_lose_its_message(&mut fleet, worker).await;
    sql(&fleet, "update event set requeued_at = now() - interval '1 hour'").await;
    end_event_leases(&fleet).await;
    let parked = |state| state == EventState::Parked;
    let story = fleet.until_event(&key(&note_event(1, 1)), parked, WITHIN).await.expect("parked");
    assert_eq!(story.reason.map(domain::Reason::as_str), Some("attempts_exhausted"));
    fleet.until_parked("leadline.events", 1, WITHIN).await.expect("in the parking lot");
}

/// Kills an inference worker that has the only event, and deletes the message that RabbitMQ takes back from it.
async fn kill_and_lose_its_message(fleet: &mut Fleet, worker: usize) {
    fleet.members[worker].process.kill();
    fleet.until_holds("leadline.events", 1, WITHIN).await.expect("the message is back in the queue");
    purge(fleet, "leadline.events").await;
}
