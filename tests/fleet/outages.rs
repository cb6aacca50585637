//! An outage pauses the fleet, costs no event an attempt, parks nothing, and ends by itself.

use std::time::Duration;

use lab::{Fleet, FleetPlan};
use ledger::CircuitBreaker;
use simulator::{Fault, FaultKind, Target};

use fixtures::{BUYER, WITHIN, ask, contact, ended_as, fleet, note_event, questions, quick, send_accepted};

/// An outage is recognised after a few failures, and probed every second or two.
pub(super) fn watchful() -> FleetPlan {
    FleetPlan { inferences: 2, ..quick() }
        .with("circuit_breaker.failure_threshold", "6")
        .with("circuit_breaker.poll_ms", "100")
        .with("circuit_breaker.probe_first_seconds", "1")
        .with("circuit_breaker.probe_max_seconds", "2")
        .with("circuit_breaker.half_open_seconds", "2")
        // Three failures would park: an outage must not count as one.
        .with("broker.max_attempts", "3")
        // Thirty questions and their first tries come to more than is assumed before an answer says the limit.
        .with("rate_limit.openai_tokens_per_minute", "1000000")
}

pub(super) async fn until(what: &str, within: Duration, condition: impl AsyncFn() -> bool) {
    let waiting = async {
        while !condition().await {
            tokio::time::sleep(Duration::from_millis(30)).await;
        }
    };
    tokio::time::timeout(within, waiting).await.unwrap_or_else(|_| panic!("not within {within:?}: {what}"));
}

/// The circuit of the dependency, or of its credential, that was opened.
async fn circuit(fleet: &Fleet, dependency: &str) -> Option<CircuitBreaker> {
    let circuits = fleet.ledger.circuit_breakers().await.expect("asked");
    circuits.into_iter().find(|one| one.circuit.to_string().starts_with(dependency))
}

pub(super) async fn state(fleet: &Fleet, dependency: &str) -> String {
    circuit(fleet, dependency).await.map_or("closed", |circuit| circuit.state.as_str()).to_owned()
}

/// How often the dependency was probed since the outage began.
async fn probes(fleet: &Fleet, dependency: &str) -> i32 {
    circuit(fleet, dependency).await.map_or(0, |circuit| circuit.probes)
}

/// The status of a member's `/readyz`, and what it says.
pub(super) async fn ready(fleet: &Fleet, program: &str) -> Vec<(u16, String)> {
    let mut answers = Vec::new();
    for index in fleet.indices(program) {
        let response = reqwest::get(format!("{}/readyz", fleet.members[index].admin_url)).await.expect("answers");
        answers.push((response.status().as_u16(), response.text().await.expect("text")));
    }
    answers
}

async fn calls(fleet: &Fleet) -> usize {
    fleet.simulator.calls(0).await.expect("asked").len()
}

/// Thirty events while `kind` strikes `target`, for longer than the retry schedule lasts: paused, shown, over, all written.
async fn outage(target: Target, kind: FaultKind, dependency: &str, reason: &str) {
    outage_of(&watchful(), target, kind, dependency, reason).await;
}

async fn outage_of(plan: &FleetPlan, target: Target, kind: FaultKind, dependency: &str, reason: &str) {
    let fleet = fleet(plan).await;
    let ids: Vec<i64> = (1..=30).collect();
    for id in &ids {
        contact(&fleet, *id, &[BUYER]).await;
    }
    fleet.simulator.fault(&Fault::new(target, kind)).await.expect("set");
    let started = std::time::Instant::now();
    send_accepted(&fleet, &ids.iter().map(|id| note_event(*id, 1)).collect::<Vec<_>>()).await;
    until("the circuit opens", WITHIN, async || state(&fleet, dependency).await == "open").await;
    let paused = started.elapsed();
    until("every replica says so", WITHIN, async || {
        let answers = ready(&fleet, "leadline-inference").await;
        answers.iter().all(|(status, text)| {
            *status == 503 && text.contains(&format!("{dependency}: circuit")) && text.contains(reason)
        })
    })
    .await;
    let gauge = fleet.members[fleet.indices("leadline-inference")[0]].admin_url.clone() + "/metrics";
    let label = format!("dependency=\"{dependency}\"}} 1");
    let is_shown = |line: &str| line.starts_with("leadline_circuit_breaker_open") && line.ends_with(&label);
    until("the metrics show it", WITHIN, async || {
        let metrics = reqwest::get(&gauge).await.expect("answers").text().await.expect("text");
        metrics.lines().any(is_shown)
    })
    .await;

    // A pause is a pause: a handful of probes, and nothing else. What was under way ends before the second probe.
    let paused_probes = probes(&fleet, dependency).await;
    let probed =
        async |times| until("probes", WITHIN, async || probes(&fleet, dependency).await >= paused_probes + times).await;
    probed(2).await;
    let before = calls(&fleet).await;
    probed(5).await;
    let calls = calls(&fleet).await - before;
    assert!((1..=40).contains(&calls), "{calls} calls within three probes of an outage");

    fleet.simulator.clear_faults().await.expect("cleared");
    let over = std::time::Instant::now();
    until("the circuit closes by itself", WITHIN, async || state(&fleet, dependency).await == "closed").await;
    for id in &ids {
        ended_as(&fleet, &note_event(*id, 1), "written", None).await;
    }
    let resumed = over.elapsed();
    assert_eq!(questions_answered(&fleet).await, 30, "nothing was paid for twice");
    let attempts: i64 = ask(&fleet, "select count(*) from event where state = 'parked'").await;
    assert_eq!(attempts, 0);
    until("ready again", WITHIN, async || {
        ready(&fleet, "leadline-inference").await.iter().all(|(status, _)| *status == 200)
    })
    .await;
    println!("{dependency} {reason}: paused after {paused:?}, all written {resumed:?} after its end");
}

/// Answers that OpenAI was paid for.
async fn questions_answered(fleet: &Fleet) -> usize {
    let calls = fleet.simulator.calls(0).await.expect("asked");
    calls.iter().filter(|call| call.path == "/v1/chat/completions" && call.status == 200).count()
}

fn status(code: u16) -> FaultKind {
    FaultKind::Status { code, retry_after: None }
}

#[tokio::test]
async fn a_dead_token_pauses_the_fleet_until_it_is_good_again() {
    outage(Target::Hubspot, status(401), "hubspot", "unauthorized").await;
}

#[tokio::test]
async fn an_exhausted_quota_pauses_the_fleet_until_it_is_raised() {
    outage(Target::Openai, FaultKind::InsufficientQuota, "openai", "insufficient_quota").await;
}

#[tokio::test]
async fn a_dead_key_pauses_the_fleet_until_it_is_good_again() {
    outage(Target::Openai, status(401), "openai", "openai_unauthorized").await;
}

/// There is nobody who could confirm it but the one worker itself.
#[tokio::test]
async fn a_dead_key_pauses_a_fleet_of_one_until_it_is_good_again() {
    let plan = FleetPlan { inferences: 1, ..watchful() };
    outage_of(&plan, Target::Openai, status(401), "openai", "openai_unauthorized").await;
}

#[tokio::test]
async fn a_storm_of_503_pauses_the_fleet_until_it_is_over() {
    outage(Target::Hubspot, status(503), "hubspot", "hubspot_unavailable").await;
}

#[tokio::test]
async fn a_portal_in_another_data_centre_pauses_the_fleet_and_its_host_is_named() {
    outage(Target::Hubspot, status(488), "hubspot", "api-eu1.hubapi.com").await;
}

#[tokio::test]
async fn an_unknown_refusal_of_every_call_pauses_the_fleet_and_parks_nothing() {
    outage(Target::Hubspot, status(451), "hubspot", "hubspot_refused").await;
}

/// What fails by itself is no outage: it is parked after its attempts, and the others go on.
#[tokio::test]
async fn one_record_that_always_fails_is_no_outage() {
    let fleet = fleet(&watchful()).await;
    contact(&fleet, 1, &["The one that breaks it."]).await;
    let breaks = Fault::new(Target::Openai, status(500)).containing("The one that breaks it");
    fleet.simulator.fault(&breaks).await.expect("set");
    send_accepted(&fleet, &[note_event(1, 1)]).await;
    for id in 2..=40 {
        contact(&fleet, id, &[BUYER]).await;
        send_accepted(&fleet, &[note_event(id, 1)]).await;
        ended_as(&fleet, &note_event(id, 1), "written", None).await;
    }
    ended_as(&fleet, &note_event(1, 1), "parked", Some("openai_unavailable")).await;
    assert!(questions(&fleet).await >= 39);
}

/// The writer knows of HubSpot's outage what an inference worker noticed, and does not find out by itself.
#[tokio::test]
async fn the_whole_fleet_pauses_for_what_one_of_it_noticed() {
    let fleet = fleet(&watchful()).await;
    contact(&fleet, 1, &[BUYER]).await;
    fleet.simulator.fault(&Fault::new(Target::Hubspot, status(401))).await.expect("set");
    send_accepted(&fleet, &[note_event(1, 1)]).await;
    until("the writer says so", WITHIN, async || {
        let answers = ready(&fleet, "leadline-writer").await;
        answers.iter().all(|(status, text)| *status == 503 && text.contains("hubspot: circuit"))
    })
    .await;
    let listed = fleet.leadline(&["status"]).await.expect("runs");
    let said = String::from_utf8_lossy(&listed.stdout).into_owned();
    assert!(
        said.contains("circuit breakers that are not closed\n")
            && said.contains("hubspot")
            && said.contains("unauthorized"),
        "{said}"
    );
    fleet.simulator.clear_faults().await.expect("cleared");
    ended_as(&fleet, &note_event(1, 1), "written", None).await;
}
