//! A credential that one worker says is rejected is paused for all when another one says so, too, or none says that it works.

use std::time::Duration;

use domain::{Circuit, CircuitBreakerState, Dependency, Fingerprint, PlaybookModel, Reason};
use ledger::{CircuitBreaker, CredentialRejection, ProbeDelays};

use crate::fixtures::{TestLedger, worker};

const COUNTS_FOR: Duration = Duration::from_secs(1_000);
const LEASE: Duration = Duration::from_secs(500);
const DELAYS: ProbeDelays = ProbeDelays {
    first: Duration::from_secs(1_000),
    max: Duration::from_secs(5_000),
    others_first: Duration::from_secs(300),
};

fn credential(key: &str) -> Circuit {
    Circuit::Credential(Dependency::OpenAi, Fingerprint::of("1", [key]))
}

/// Notes a rejection of the key, and returns whether it is confirmed.
async fn rejected(test: &TestLedger, key: &str, by: &str, is_repeated: bool) -> bool {
    let rejection =
        CredentialRejection { reason: Reason::OpenAiUnauthorized, detail: "401", is_repeated, counts_for: COUNTS_FOR };
    test.ledger.note_rejected_credential(&credential(key), rejection, &worker(by)).await.expect("noted")
}

async fn accepted(test: &TestLedger, by: &str) {
    test.ledger.note_accepted_credential(&credential("key"), &worker(by)).await.expect("noted");
}

async fn takes_check(test: &TestLedger, by: &str) -> bool {
    let (credential, worker) = (credential("key"), worker(by));
    test.ledger.take_credential_check(&credential, &worker, COUNTS_FOR, LEASE).await.expect("asked")
}

async fn row(test: &TestLedger, key: &str) -> CircuitBreaker {
    let rows = test.ledger.circuit_breakers().await.expect("asked");
    rows.into_iter().find(|row| row.circuit == credential(key)).expect("there")
}

async fn time_passes(test: &TestLedger, by: Duration) {
    let sql = format!(
        "update circuit_breaker set changed_at = changed_at - interval '{0} seconds',
                accepted_at = accepted_at - interval '{0} seconds', due_at = due_at - interval '{0} seconds'",
        by.as_secs()
    );
    test.run(&sql).await;
}

#[tokio::test]
async fn a_second_worker_with_the_same_credential_confirms_and_one_with_another_does_not() {
    let test = TestLedger::new().await;
    assert!(!rejected(&test, "key", "a", false).await);
    assert!(!rejected(&test, "key", "a", false).await, "the same worker after a restart of its client");
    assert!(!rejected(&test, "other", "b", false).await);
    let (key, other) = (row(&test, "key").await, row(&test, "other").await);
    assert_eq!((key.state, key.rejected_by), (CircuitBreakerState::Closed, vec![worker("a").0]));
    assert_eq!(other.rejected_by, [worker("b").0]);
    assert!(rejected(&test, "key", "c", false).await);
}

#[tokio::test]
async fn what_is_rejected_twice_and_works_for_nobody_is_confirmed() {
    let test = TestLedger::new().await;
    assert!(!rejected(&test, "key", "a", false).await);
    assert!(rejected(&test, "key", "a", true).await, "nobody else has it");
}

#[tokio::test]
async fn one_worker_looks_whether_it_works_and_while_it_does_the_first_is_alone() {
    let test = TestLedger::new().await;
    assert!(!takes_check(&test, "b").await, "nothing is rejected");
    assert!(!rejected(&test, "key", "a", false).await);
    assert!(!takes_check(&test, "a").await, "it is rejected itself");
    let (b, c) = tokio::join!(takes_check(&test, "b"), takes_check(&test, "c"));
    assert!(b ^ c, "one of them");
    accepted(&test, "b").await;
    time_passes(&test, COUNTS_FOR / 4).await;
    assert!(!takes_check(&test, "c").await, "it is known that it works");
    assert!(!rejected(&test, "key", "a", true).await && !rejected(&test, "key", "c", false).await);
    // Whoever it worked for is rejected as well.
    assert!(rejected(&test, "key", "b", false).await);
}

#[tokio::test]
async fn what_was_said_does_not_count_for_ever() {
    let test = TestLedger::new().await;
    assert!(!rejected(&test, "key", "a", false).await);
    accepted(&test, "b").await;
    time_passes(&test, COUNTS_FOR * 3 / 4).await;
    assert!(!rejected(&test, "key", "a", true).await);
    assert!(takes_check(&test, "b").await, "looked again in time");
    time_passes(&test, COUNTS_FOR / 2).await;
    assert!(rejected(&test, "key", "a", true).await, "nobody said it again");
    time_passes(&test, COUNTS_FOR * 2).await;
    assert!(!rejected(&test, "key", "c", false).await, "the first one is gone");
    accepted(&test, "c").await;
    assert_eq!(row(&test, "key").await.rejected_by, Vec::<String>::new(), "it works again where it was rejected");
}

#[tokio::test]
async fn who_opened_a_circuit_leaves_the_probe_to_others_and_probes_when_there_are_none() {
    let test = TestLedger::new().await;
    let circuit = credential("key");
    let reason = Reason::OpenAiUnauthorized;
    let opened = test.ledger.open_circuit_breaker(&circuit, reason, "401", &worker("a"), DELAYS).await;
    assert!(opened.expect("asked"));
    let take = async |by| test.ledger.take_probe(&circuit, &worker(by), DELAYS).await.expect("asked");
    time_passes(&test, DELAYS.first).await;
    assert!(!take("a").await && take("b").await);
    time_passes(&test, DELAYS.first * 2).await;
    assert!(!take("b").await, "who probed last does not probe next");
    time_passes(&test, DELAYS.others_first).await;
    assert!(take("b").await, "there is no other");
}

#[tokio::test]
async fn a_credential_out_of_use_is_no_outage_for_ever() {
    let test = TestLedger::new().await;
    let circuit = credential("key");
    let reason = Reason::OpenAiUnauthorized;
    let opened = test.ledger.open_circuit_breaker(&circuit, reason, "401", &worker("a"), DELAYS).await;
    assert!(opened.expect("asked"));
    assert!(!rejected(&test, "key", "b", false).await, "it is open already");
    let open_outages = "select count(*) from outage where closed_at is null";
    assert_eq!(test.value::<i64>(open_outages).await, 1);
    time_passes(&test, DELAYS.first + Duration::from_secs(3_600)).await;
    assert_eq!(test.ledger.close_abandoned_circuit_breakers(Duration::from_secs(600)).await.expect("asked"), 1);
    assert_eq!(test.value::<i64>(open_outages).await, 0);
    assert_eq!(row(&test, "key").await.state, CircuitBreakerState::Closed);
}

#[tokio::test]
async fn a_model_that_is_away_while_the_key_is_rejected_is_not_given_up() {
    let test = TestLedger::new().await;
    let name = |name: &str| name.to_owned();
    let model = PlaybookModel { playbook: name("leads"), version: name("1"), model: name("gpt-4o") };
    let (model, key) = (Circuit::Model(model), credential("key"));
    for (circuit, reason) in [(&model, Reason::ModelNotFound), (&key, Reason::OpenAiUnauthorized)] {
        let opened = test.ledger.open_circuit_breaker(circuit, reason, "", &worker("a"), DELAYS).await;
        assert!(opened.expect("asked"));
    }
    let give_up = async || test.ledger.close_abandoned_circuit_breakers(Duration::from_secs(600)).await.expect("asked");
    let overdue = "update circuit_breaker set due_at = now() - interval '11 minutes' where playbook <> ''";
    let is_open = "select state = 'open' from circuit_breaker where playbook <> ''";
    test.run(overdue).await;
    assert_eq!(give_up().await, 0, "nobody may probe it");
    let half_open = test.ledger.half_open_circuit_breaker(&key, &worker("a"), Duration::ZERO).await;
    assert!(half_open.expect("asked"));
    assert_eq!(give_up().await, 0, "a message may be rejected still");
    assert!(test.ledger.close_circuit_breaker(&key, &worker("a")).await.expect("asked"));
    assert_eq!(give_up().await, 0, "it is due now, and not for long");
    assert!(test.value::<bool>(is_open).await);
    test.run(overdue).await;
    assert_eq!(give_up().await, 1, "nobody has that model");
}

#[tokio::test]
async fn no_event_stays_young_while_others_go_on_with_another_credential() {
    let test = TestLedger::new().await;
    let open_outages = "select count(*) from outage where closed_at is null";
    let open = async || {
        let reason = Reason::OpenAiUnauthorized;
        test.ledger.open_circuit_breaker(&credential("key"), reason, "401", &worker("a"), DELAYS).await.expect("asked")
    };
    assert!(open().await);
    let goes_on = async |accepted_ago| {
        test.ledger.note_other_credential(&credential("key"), &worker("b"), accepted_ago).await.expect("noted");
    };
    goes_on(Duration::from_secs(60)).await;
    assert_eq!(test.value::<i64>(open_outages).await, 1, "it has called nothing since");
    for _ in 0..2 {
        goes_on(Duration::ZERO).await;
        assert_eq!(test.value::<i64>(open_outages).await, 0);
        assert_eq!(row(&test, "key").await.state, CircuitBreakerState::Open, "for those that have it");
    }
    let half_open = test.ledger.half_open_circuit_breaker(&credential("key"), &worker("a"), Duration::ZERO).await;
    assert!(half_open.expect("asked") && open().await);
    assert_eq!(test.value::<i64>(open_outages).await, 1, "until one says it again");
}
