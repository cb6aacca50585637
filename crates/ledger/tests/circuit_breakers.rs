//! An outage is one for the whole fleet: opened once, probed by one worker at a time, closed when calls succeed again.

use std::time::Duration;

use domain::{Circuit, CircuitBreakerState, Dependency, EventId, PlaybookModel, Reason};
use ledger::{CircuitBreaker, ProbeDelays};

use crate::fixtures::{TestLedger, worker};

const HUBSPOT: Circuit = Circuit::Dependency(Dependency::HubSpot);
const DELAYS: ProbeDelays =
    ProbeDelays { first: Duration::from_secs(1_000), max: Duration::from_secs(5_000), others_first: Duration::ZERO };

async fn open(test: &TestLedger, worker: &str) -> bool {
    let worker = self::worker(worker);
    let opened = test.ledger.open_circuit_breaker(&HUBSPOT, Reason::HubSpotUnavailable, "503", &worker, DELAYS);
    opened.await.expect("asked")
}

async fn take_probe(test: &TestLedger, worker: &str) -> bool {
    test.ledger.take_probe(&HUBSPOT, &self::worker(worker), DELAYS).await.expect("asked")
}

async fn half_open(test: &TestLedger) -> bool {
    let close_after = Duration::from_secs(3_000);
    test.ledger.half_open_circuit_breaker(&HUBSPOT, &worker("a"), close_after).await.expect("asked")
}

async fn close(test: &TestLedger) -> bool {
    test.ledger.close_circuit_breaker(&HUBSPOT, &worker("a")).await.expect("asked")
}

async fn state(test: &TestLedger) -> CircuitBreaker {
    test.ledger.circuit_breakers().await.expect("asked").pop().expect("it was opened once")
}

/// Seconds until the next probe is due, or until it closes by itself.
async fn due_in(test: &TestLedger) -> f64 {
    test.value("select extract(epoch from due_at - clock_timestamp())::float8 from circuit_breaker").await
}

async fn make_due(test: &TestLedger) {
    test.run("update circuit_breaker set due_at = now()").await;
}

#[tokio::test]
async fn an_outage_is_opened_once_and_probed_by_one_worker_at_a_time() {
    let test = TestLedger::new().await;
    assert_eq!(test.ledger.circuit_breakers().await.expect("asked"), []);
    assert!(open(&test, "a").await);
    assert!(!open(&test, "b").await, "it is open already");
    let breaker = state(&test).await;
    assert_eq!((&breaker.circuit, breaker.state), (&HUBSPOT, CircuitBreakerState::Open));
    assert_eq!((breaker.reason, breaker.detail.as_deref()), (Some(Reason::HubSpotUnavailable), Some("503")));
    assert!(!breaker.is_due && breaker.opened_at.is_some() && breaker.probes == 0, "{breaker:?}");
    assert!(!take_probe(&test, "a").await, "not yet");

    make_due(&test).await;
    assert!(state(&test).await.is_due);
    let (a, b) = tokio::join!(take_probe(&test, "a"), take_probe(&test, "b"));
    assert!(a ^ b, "one of them");
    assert_eq!(state(&test).await.probes, 1);
}

#[tokio::test]
async fn the_wait_between_probes_doubles_up_to_its_maximum() {
    let test = TestLedger::new().await;
    assert!(open(&test, "a").await);
    for expected in [2_000.0, 4_000.0, 5_000.0, 5_000.0] {
        make_due(&test).await;
        assert!(take_probe(&test, "a").await);
        let wait = due_in(&test).await;
        assert!(wait > expected - 500.0 && wait <= expected, "{wait} of {expected}");
    }
}

#[tokio::test]
async fn a_probe_that_succeeds_half_opens_and_a_success_closes() {
    let test = TestLedger::new().await;
    assert!(!half_open(&test).await && !close(&test).await, "it was never opened");
    assert!(open(&test, "a").await);
    assert!(!close(&test).await, "an open one is half opened first");
    assert!(half_open(&test).await);
    assert!(!half_open(&test).await && !take_probe(&test, "a").await);
    let breaker = state(&test).await;
    assert!(breaker.state == CircuitBreakerState::HalfOpen && !breaker.is_due, "{breaker:?}");
    make_due(&test).await;
    assert!(state(&test).await.is_due, "it closes by itself when no call fails for a while");
    assert!(close(&test).await);
    let breaker = state(&test).await;
    assert!(breaker.state == CircuitBreakerState::Closed && !breaker.is_due, "{breaker:?}");
    assert!(open(&test, "b").await, "the next outage");
    assert_eq!(state(&test).await.probes, 0);
}

#[tokio::test]
async fn a_failure_while_half_open_opens_again_and_waits_longer() {
    let test = TestLedger::new().await;
    assert!(open(&test, "a").await);
    let opened_at = state(&test).await.opened_at;
    assert!(half_open(&test).await);
    assert!(open(&test, "b").await);
    let breaker = state(&test).await;
    assert_eq!((breaker.state, breaker.probes), (CircuitBreakerState::Open, 1));
    assert_eq!(breaker.opened_at, opened_at, "it is the same outage");
    let wait = due_in(&test).await;
    assert!(wait > 1_500.0 && wait <= 2_000.0, "{wait}");
}

/// A model, as a version of a playbook asks it.
fn model(version: &str) -> PlaybookModel {
    let (playbook, model) = ("leads".to_owned(), "gpt-4o".to_owned());
    PlaybookModel { playbook, version: version.to_owned(), model }
}

async fn state_of(test: &TestLedger, model: &PlaybookModel) -> CircuitBreakerState {
    let circuit = Circuit::Model(model.clone());
    let rows = test.ledger.circuit_breakers().await.expect("asked");
    rows.into_iter().find(|row| row.circuit == circuit).map_or(CircuitBreakerState::Closed, |row| row.state)
}

#[tokio::test]
async fn a_model_is_away_for_one_version_of_one_playbook_and_no_event_grows_younger_by_it() {
    let test = TestLedger::new().await;
    let circuit = Circuit::Model(model("1"));
    let opened = test.ledger.open_circuit_breaker(&circuit, Reason::ModelNotFound, "404", &worker("a"), DELAYS).await;
    assert!(opened.expect("asked"));
    assert_eq!(state_of(&test, &model("1")).await, CircuitBreakerState::Open);
    assert_eq!(state_of(&test, &model("2")).await, CircuitBreakerState::Closed, "the edited playbook asks");
    assert!(open(&test, "a").await, "a dependency has a circuit of its own");
    let outages: Vec<String> = test.value("select array(select dependency from outage)").await;
    assert_eq!(outages, ["hubspot"], "only the whole fleet's pause leaves the age of events alone");
}

#[tokio::test]
async fn one_worker_at_a_time_asks_a_model_that_may_be_back_and_one_that_died_is_followed() {
    let test = TestLedger::new().await;
    let (model, lease) = (model("1"), Duration::from_secs(1_000));
    let circuit = Circuit::Model(model.clone());
    let take = async |name| test.ledger.take_turn(&model, &worker(name), lease).await.expect("asked");
    assert!(!take("a").await, "it was never opened");
    let opened = test.ledger.open_circuit_breaker(&circuit, Reason::ModelNotFound, "404", &worker("a"), DELAYS).await;
    assert!(opened.expect("asked") && !take("a").await, "no one asks while it is open");
    let half_open = test.ledger.half_open_circuit_breaker(&circuit, &worker("a"), Duration::ZERO).await;
    assert!(half_open.expect("asked"));
    let (a, b) = tokio::join!(take("a"), take("b"));
    assert!(a ^ b, "one of them");
    let holder = worker(if a { "a" } else { "b" });
    assert!(!take("c").await);
    test.ledger.give_turn_back(&model, &worker("c")).await.expect("asked");
    assert!(!take("c").await, "it was not the turn of that one");
    test.ledger.give_turn_back(&model, &holder).await.expect("asked");
    assert!(take("c").await);
    make_due(&test).await;
    assert!(take("d").await, "the lease of the killed one has ended");
    assert!(test.ledger.close_circuit_breaker(&circuit, &worker("d")).await.expect("asked"));
    assert!(!take("e").await, "all ask again");
}

#[tokio::test]
async fn refusals_of_one_parameter_are_counted_by_event_until_the_model_answers() {
    let test = TestLedger::new().await;
    let model = model("1");
    let (first, second, third) = (EventId::new(), EventId::new(), EventId::new());
    let note = async |parameter, event| {
        test.ledger.note_refused_parameter(&model, parameter, event, &worker("a")).await.expect("noted")
    };
    assert_eq!(note("temperature", first).await, Some(1));
    assert_eq!(note("temperature", first).await, Some(1), "the same event");
    assert_eq!(note("temperature", second).await, Some(2));
    assert_eq!(state_of(&test, &model).await, CircuitBreakerState::Closed);
    assert_eq!(note("tools", third).await, Some(1), "another parameter");
    test.ledger.forget_refused_parameter(&model).await.expect("forgotten");
    assert_eq!(note("tools", first).await, Some(1), "it has answered in between");
    let circuit = Circuit::Model(model.clone());
    let opened =
        test.ledger.open_circuit_breaker(&circuit, Reason::OpenAiInvalidRequest, "400", &worker("a"), DELAYS).await;
    assert!(opened.expect("asked"));
    assert_eq!(note("tools", second).await, None, "it is open already");
}

#[tokio::test]
async fn the_circuit_of_a_playbook_that_was_edited_is_closed_when_no_worker_looks_after_it_any_more() {
    let test = TestLedger::new().await;
    let circuit = Circuit::Model(model("1"));
    let opened = test.ledger.open_circuit_breaker(&circuit, Reason::ModelNotFound, "404", &worker("a"), DELAYS).await;
    assert!(opened.expect("asked") && open(&test, "a").await);
    let close = async || test.ledger.close_abandoned_circuit_breakers(Duration::from_secs(600)).await.expect("asked");
    assert_eq!(close().await, 0);
    test.run("update circuit_breaker set due_at = now() - interval '1 hour'").await;
    assert_eq!(close().await, 1, "HubSpot's stays open, whatever becomes of its workers");
    assert_eq!(state_of(&test, &model("1")).await, CircuitBreakerState::Closed);
}
