//! An outage is one for the whole fleet: opened once, probed by one worker at a time, closed when calls succeed again.

use std::time::Duration;

use domain::{CircuitBreakerState, Dependency, Reason};
use ledger::{CircuitBreaker, ProbeDelays};

use crate::fixtures::{TestLedger, worker};

const HUBSPOT: Dependency = Dependency::HubSpot;
const DELAYS: ProbeDelays = ProbeDelays { first: Duration::from_secs(1_000), max: Duration::from_secs(5_000) };

async fn open(test: &TestLedger, worker: &str) -> bool {
    let worker = self::worker(worker);
    let opened = test.ledger.open_circuit_breaker(HUBSPOT, Reason::HubSpotUnavailable, "503", &worker, DELAYS);
    opened.await.expect("asked")
}

async fn take_probe(test: &TestLedger, worker: &str) -> bool {
    test.ledger.take_probe(HUBSPOT, &self::worker(worker), DELAYS).await.expect("asked")
}

async fn half_open(test: &TestLedger) -> bool {
    let close_after = Duration::from_secs(3_000);
    test.ledger.half_open_circuit_breaker(HUBSPOT, &worker("a"), close_after).await.expect("asked")
}

async fn close(test: &TestLedger) -> bool {
    test.ledger.close_circuit_breaker(HUBSPOT, &worker("a")).await.expect("asked")
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
    assert_eq!((breaker.dependency, breaker.state), (HUBSPOT, CircuitBreakerState::Open));
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
