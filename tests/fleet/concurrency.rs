//! An inference waits; it does not cost a thread.

use lab::FleetPlan;

use fixtures::{BUYER, contact, ended_as, fleet, note_event, quick, send_accepted, until};
use simulator::{Fault, FaultKind, Target};

#[tokio::test]
async fn a_thousand_inferences_wait_at_once_on_a_handful_of_threads() {
    let arguments = ["--calls-per-10s", "1000000"].map(ToOwned::to_owned).to_vec();
    let plan = FleetPlan { simulator_arguments: arguments, ..quick() }
        .with("inference.concurrency", "2000")
        .with("hubspot.timeout_seconds", "20")
        .with("openai.timeout_seconds", "180")
        // Ten connections, as with OpenAI: one would hold back what its host does not take at once.
        .with("openai.http2_prior_knowledge", "true")
        .with("inference.lease_seconds", "600");
    let fleet = fleet(&plan).await;
    let ids: Vec<i64> = (1..=1_000).collect();
    for id in &ids {
        contact(&fleet, *id, &[BUYER]).await;
    }
    // The model answers when all have asked.
    fleet.simulator.fault(&Fault::new(Target::Openai, FaultKind::Held)).await.expect("set");
    for batch in ids.chunks(100) {
        send_accepted(&fleet, &batch.iter().map(|id| note_event(*id, 1)).collect::<Vec<_>>()).await;
    }
    until("all are asked at once", async || fleet.simulator.open_requests().await.expect("asked") == ids.len()).await;
    let worker = &fleet.members[fleet.indices("leadline-inference")[0]].process;
    // `setpriv`, through which it was started, has become it.
    let status = std::fs::read_to_string(format!("/proc/{}/status", worker.id())).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("Threads:")).expect("there");
    let threads: u32 = line.trim().parse().expect("a number");
    assert!(threads < 24, "{threads} threads for a thousand inferences");
    fleet.simulator.clear_faults().await.expect("cleared");
    for id in ids {
        ended_as(&fleet, &note_event(id, 1), "written", None).await;
    }
}
