//! A worker whose credential is rejected leaves the probes of a dependency to the others.

use std::time::Duration;

use domain::{Circuit, CircuitBreakerState, Credential, Dependency, Fingerprint, Reason};
use ledger::{CircuitBreaker, Ledger, LedgerSettings, PoolMode, ProbeDelays, Worker};
use maintenance::{CircuitBreakers, Probe, ProbeOutcome};

/// Longer than any test takes.
const WITHIN: Duration = Duration::from_secs(30);

/// Every probe is due at once.
const DELAYS: ProbeDelays = ProbeDelays { first: Duration::ZERO, max: Duration::ZERO, others_first: Duration::ZERO };

async fn ledger() -> Ledger {
    let settings = LedgerSettings {
        url: testbed::database().await.expect("a database").url.into(),
        application_name: "tests".to_owned(),
        max_connections: 2,
        acquire_timeout: WITHIN,
        statement_timeout: WITHIN,
        pool_mode: PoolMode::Session,
    };
    Ledger::connect(&settings).expect("a URL")
}

/// The row of a circuit, once it is open.
async fn opened(ledger: &Ledger, circuit: &Circuit) -> CircuitBreaker {
    let is_open = |row: &CircuitBreaker| row.circuit == *circuit && row.state == CircuitBreakerState::Open;
    let found = async {
        loop {
            let mut rows = ledger.circuit_breakers().await.expect("asked").into_iter();
            if let Some(row) = rows.find(is_open) {
                return row;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(WITHIN, found).await.unwrap_or_else(|_| panic!("{circuit} does not open"))
}

#[tokio::test]
async fn who_finds_its_credential_rejected_by_a_probe_leaves_the_outage_to_others() {
    let ledger = ledger().await;
    let outage = Circuit::from(Dependency::OpenAi);
    let good = Worker::named("good");
    let noted = ledger.open_circuit_breaker(&outage, Reason::OpenAiUnavailable, "503", &good, DELAYS).await;
    assert!(noted.expect("asked"));

    let fingerprint = Fingerprint::of("1", ["sk-wrong"]);
    let credential = Credential { dependency: Dependency::OpenAi, setting: "openai.api_key", fingerprint };
    let settings = settings::CircuitBreakerSection {
        poll_ms: 10,
        probe_first_seconds: 0,
        probe_max_seconds: 60,
        ..settings::CircuitBreakerSection::default()
    };
    let circuit_breakers = CircuitBreakers::new(&settings, [credential.clone()]);
    let rejected: Probe = Box::new(|| {
        Box::pin(async { ProbeOutcome::Rejected { reason: Reason::OpenAiUnauthorized, detail: "401".to_owned() } })
    });
    let probes = vec![(Dependency::OpenAi, rejected)];
    circuit_breakers.start_sync(ledger.clone(), Worker::named("wrong"), probes, None);

    // It says so again after a while, and nobody contradicts.
    opened(&ledger, &credential.circuit()).await;
    assert_eq!(opened(&ledger, &outage).await.probes, 1, "one is enough to know that it is no use");
}
