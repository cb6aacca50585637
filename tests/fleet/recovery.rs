//! A webhook answered 200 is never lost, whatever is killed afterwards.

use std::time::Duration;

use lab::{FleetPlan, Proxy, proxy::Traffic};
use rustix::process::Signal;

use fixtures::{
    BUYER, WITHIN, ask, contact, end_event_leases, end_write_leases, ended_as, fleet, note_event, questions, quick,
    send, send_accepted, services, times_set, until, until_writer_sessions_end,
};

/// Whether a writer has taken a write command.
const BEING_WRITTEN: &str = "select exists (select from write_command where state = 'sending')";

#[tokio::test]
async fn a_killed_inference_workers_events_are_taken_up_again() {
    let mut fleet = fleet(&quick()).await;
    let ids: Vec<i64> = (1..=10).collect();
    for id in &ids {
        contact(&fleet, *id, &[BUYER]).await;
    }
    let held = simulator::Fault::new(simulator::Target::Openai, simulator::FaultKind::Held);
    fleet.simulator.fault(&held).await.expect("set");
    send_accepted(&fleet, &ids.iter().map(|id| note_event(*id, 1)).collect::<Vec<_>>()).await;
    // All of them: a claim that is on its way when the worker dies would begin a lease after the others have been ended.
    until("the worker has the events", async || events_claimed(&fleet).await == 10).await;
    let worker = fleet.indices("leadline-inference")[0];
    fleet.members[worker].process.kill();
    end_event_leases(&fleet).await;
    fleet.simulator.clear_faults().await.expect("cleared");
    fleet.restart(worker).expect("restarted");
    let mut taken_over = 0;
    for id in ids {
        let story = ended_as(&fleet, &note_event(id, 1), "written", None).await;
        taken_over += usize::from(story.history.iter().any(|entry| entry.attempt > 1));
        assert_eq!(times_set(&fleet, id, "lead_score").await, 1);
    }
    assert!(taken_over > 0, "the worker died while it had events");
}

/// How many events workers have.
async fn events_claimed(fleet: &lab::Fleet) -> i64 {
    let counts = fleet.ledger.event_counts().await.expect("asked");
    counts.iter().filter(|count| count.state == domain::EventState::Claimed).map(|count| count.events).sum()
}

#[tokio::test]
async fn a_killed_writers_commands_are_taken_up_again() {
    let mut fleet = fleet(&quick()).await;
    contact(&fleet, 1, &[BUYER]).await;
    let slow = simulator::Fault::new(simulator::Target::Hubspot, simulator::FaultKind::Latency(800))
        .containing("lead_score")
        .times(2);
    fleet.simulator.fault(&slow).await.expect("set");
    send_accepted(&fleet, &[note_event(1, 1)]).await;
    let decided = |state| state == domain::EventState::Decided;
    fleet.until_event(&fixtures::key(&note_event(1, 1)), decided, WITHIN).await.expect("decided");
    until("the writer has the command", async || ask(&fleet, BEING_WRITTEN).await).await;
    let writer = fleet.indices("leadline-writer")[0];
    fleet.members[writer].process.kill();
    until_writer_sessions_end(&fleet).await;
    end_write_leases(&fleet).await;
    fleet.restart(writer).expect("restarted");
    ended_as(&fleet, &note_event(1, 1), "written", None).await;
    assert_eq!(questions(&fleet).await, 1, "the answer was stored and is not paid for again");
}

#[tokio::test]
async fn sigterm_finishes_what_is_being_worked_on_and_loses_nothing() {
    let plan = FleetPlan { simulator_arguments: vec!["--model-latency-ms".to_owned(), "700".to_owned()], ..quick() };
    let mut fleet = fleet(&plan).await;
    let ids: Vec<i64> = (1..=10).collect();
    for id in &ids {
        contact(&fleet, *id, &[BUYER]).await;
    }
    send_accepted(&fleet, &ids.iter().map(|id| note_event(*id, 1)).collect::<Vec<_>>()).await;
    until("all are being worked on", async || events_claimed(&fleet).await == 10).await;
    let worker = fleet.indices("leadline-inference")[0];
    let by_itself = fleet.members[worker].process.stop(Duration::from_secs(10));
    assert!(by_itself, "it ended by itself");
    for id in &ids {
        let story = ended_as(&fleet, &note_event(*id, 1), "written", None).await;
        assert_eq!(story.inferences.len(), 1);
        assert_eq!(story.history.len(), 3, "finished under the first claim: {:?}", story.history);
    }
    assert_eq!(questions(&fleet).await, 10);
}

#[tokio::test]
async fn a_frozen_worker_that_wakes_after_its_lease_writes_nothing() {
    let plan = FleetPlan { simulator_arguments: vec!["--model-latency-ms".to_owned(), "1000".to_owned()], ..quick() };
    let mut fleet = fleet(&plan).await;
    contact(&fleet, 1, &[BUYER]).await;
    send_accepted(&fleet, &[note_event(1, 1)]).await;
    until("claimed", async || events_claimed(&fleet).await > 0).await;
    let key = fixtures::key(&note_event(1, 1));
    let story = fleet.ledger.event_story(&key).await.expect("asked").expect("known");
    let frozen = fleet.indices("leadline-inference")[0];
    fleet.members[frozen].process.signal(Signal::STOP);
    fleet.add("leadline-inference").await.expect("another worker");
    end_event_leases(&fleet).await;
    // A duplicate is what makes another worker look; RabbitMQ may hand the first to the frozen one.
    until("the other worker takes it over", async || {
        send_accepted(&fleet, &[note_event(1, 1)]).await;
        let story = fleet.ledger.event_story(&key).await.expect("asked").expect("known");
        story.history.iter().any(|entry| entry.attempt > 1)
    })
    .await;
    fleet.members[frozen].process.signal(Signal::CONT);
    ended_as(&fleet, &note_event(1, 1), "written", None).await;
    fleet.until_idle(WITHIN).await.expect("idle");
    assert_eq!(times_set(&fleet, 1, "lead_score").await, 1, "first claimed by {}", story.history[0].worker);
}

#[tokio::test]
async fn a_broker_that_goes_away_and_comes_back_is_met_with_503_and_then_with_200() {
    let services = services();
    let (_, broker) = services.amqp_url.rsplit_once('@').expect("a user");
    let proxy = Proxy::to(broker.to_owned()).await.expect("a proxy");
    let namespace = testbed::TestNamespace::new(&services).await.expect("a namespace");
    let through = namespace.amqp_url.replace(broker, &proxy.address.to_string());
    let plan = FleetPlan { broker_url: Some(through), ..quick() }
        .with("broker.confirm_timeout_ms", "500")
        .with("broker.reconnect_max_seconds", "1");
    let mut fleet = lab::Fleet::start(namespace, &plan).await.expect("a fleet");
    contact(&fleet, 1, &[BUYER]).await;
    contact(&fleet, 2, &[BUYER]).await;
    send_accepted(&fleet, &[note_event(1, 1)]).await;
    ended_as(&fleet, &note_event(1, 1), "written", None).await;

    proxy.set(Traffic::Stalls);
    let unconfirmed = send(&fleet, &[note_event(2, 1)]).await;
    assert_eq!(unconfirmed.status, 503, "{}", unconfirmed.answer);
    assert!(unconfirmed.latency_ms < 2_000.0, "within HubSpot's timeout: {} ms", unconfirmed.latency_ms);
    proxy.set(Traffic::Cut);
    let ready = format!("{}/readyz", fleet.members[fleet.indices("leadline-receiver")[0]].admin_url);
    until("the receiver knows", async || reqwest::get(&ready).await.expect("answers").status() == 503).await;
    let away = send(&fleet, &[note_event(2, 1)]).await;
    assert_eq!(away.status, 503, "{}", away.answer);
    assert!(away.latency_ms < 200.0, "refused at once: {} ms", away.latency_ms);

    proxy.set(Traffic::Flows);
    let back = async {
        while send(&fleet, &[note_event(2, 1)]).await.status != 200 {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), back).await.expect("taken up again");
    ended_as(&fleet, &note_event(2, 1), "written", None).await;
    assert_eq!(times_set(&fleet, 2, "lead_score").await, 1);
    for member in &mut fleet.members {
        let by_itself = member.process.stop(Duration::from_secs(10));
        assert!(by_itself, "{} still stops gracefully after that:\n{}", member.process.name(), member.process.log());
    }
}

/// A writer is frozen while it reads what is there, so that its write is still to come; meanwhile its commands are taken
/// over, and a newer event is written. It wakes and may even reach HubSpot: nothing of that stays.
#[tokio::test]
async fn a_frozen_writer_that_wakes_after_its_lease_changes_nothing_that_stays() {
    let plan = quick().with("reconcile.interval_seconds", "1").with("reconcile.stuck_after_seconds", "2");
    let mut fleet = fleet(&plan).await;
    contact(&fleet, 1, &[BUYER]).await;
    let slow = simulator::Fault::new(simulator::Target::Hubspot, simulator::FaultKind::Latency(900))
        .on_path("/contacts/batch/read")
        .containing("lead_score")
        .times(1);
    fleet.simulator.fault(&slow).await.expect("set");
    send_accepted(&fleet, &[note_event(1, 1)]).await;
    until("the writer has the command", async || ask(&fleet, BEING_WRITTEN).await).await;
    let frozen = fleet.indices("leadline-writer")[0];
    fleet.members[frozen].process.signal(Signal::STOP);
    end_write_leases(&fleet).await;
    fleet.add("leadline-writer").await.expect("another writer");
    ended_as(&fleet, &note_event(1, 1), "written", None).await;
    fixtures::note(&fleet, 77, 1, "They are not interested any more: no budget.").await;
    send_accepted(&fleet, &[note_event(1, 2)]).await;
    let story = ended_as(&fleet, &note_event(1, 2), "written", None).await;
    let newest = story.writes.iter().find(|write| write.property == "lead_score").expect("written").after.clone();
    assert_ne!(newest, "85", "the newer note changes the score");
    fleet.members[frozen].process.signal(Signal::CONT);
    // It finishes what it has in hand before it ends.
    assert!(fleet.members[frozen].process.stop(Duration::from_secs(30)), "it ended by itself");
    until("what it lost is verified", async || fleet.ledger.records_to_verify(10).await.expect("asked").is_empty())
        .await;
    fleet.until_idle(WITHIN).await.expect("idle");
    assert_eq!(fixtures::property(&fleet, 1, "lead_score").await, Some(newest));
    assert_eq!(fixtures::tasks(&fleet).await.len(), 1, "the frozen writer's task was not made again");
    let writes: i64 = fixtures::ask(&fleet, "select count(*) from write where property = 'lead_score'").await;
    assert_eq!(writes, 2, "one for each event");
}
