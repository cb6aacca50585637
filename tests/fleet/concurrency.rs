//! An inference waits; it does not cost a thread.

use lab::FleetPlan;

use fixtures::{BUYER, contact, ended_as, fleet, note_event, quick, send_accepted};

#[tokio::test]
async fn a_thousand_inferences_wait_at_once_on_a_handful_of_threads() {
    let arguments = ["--model-latency-ms", "5000", "--calls-per-10s", "1000000"].map(ToOwned::to_owned).to_vec();
    let plan = FleetPlan { simulator_arguments: arguments, ..quick() }
        .with("inference.concurrency", "2000")
        .with("hubspot.timeout_seconds", "20")
        .with("openai.timeout_seconds", "30")
        // Ten connections, as with OpenAI: one would hold back what its host does not take at once.
        .with("openai.http2_prior_knowledge", "true")
        .with("inference.lease_seconds", "180")
        .with("writer.lease_seconds", "90");
    let fleet = fleet(&plan).await;
    let ids: Vec<i64> = (1..=1_000).collect();
    for id in &ids {
        contact(&fleet, *id, &[BUYER]).await;
    }
    for batch in ids.chunks(100) {
        send_accepted(&fleet, &batch.iter().map(|id| note_event(*id, 1)).collect::<Vec<_>>()).await;
    }
    let worker = &fleet.members[fleet.indices("leadline-inference")[0]].process;
    // `setpriv`, through which it was started, has become it.
    let status = format!("/proc/{}/status", worker.id());
    let (mut most, mut threads, mut open) = (0, 0, 0);
    for _ in 0..200 {
        open = open.max(fleet.simulator.open_requests().await.expect("asked"));
        let counts = fleet.ledger.event_counts().await.expect("asked");
        let claimed: i64 =
            counts.iter().filter(|count| count.state == domain::EventState::Claimed).map(|count| count.events).sum();
        if claimed > most {
            most = claimed;
            let text = std::fs::read_to_string(&status).expect("it runs");
            let line = text.lines().find_map(|line| line.strip_prefix("Threads:")).expect("there");
            threads = line.trim().parse().expect("a number");
        }
        if counts.iter().any(|count| count.state == domain::EventState::Written && count.events == 1_000) {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    for id in ids {
        ended_as(&fleet, &note_event(id, 1), "written", None).await;
    }
    assert!(most >= 900, "they waited at once: {most}");
    assert!(open >= 900, "they were asked at once: {open}");
    assert!(threads < 24, "{threads} threads for {most} inferences");
    eprintln!("{most} events in progress at once on {threads} threads");
}
