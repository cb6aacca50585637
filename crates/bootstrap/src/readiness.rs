//! The checks behind `/readyz`.

use broker::Publisher;
use service::Readiness;

/// Ready while messages can be published.
pub fn broker_readiness(publisher: &Publisher) -> Readiness {
    let publisher = publisher.clone();
    Readiness::default().with("broker", move || {
        let is_ready = publisher.is_ready();
        async move { is_ready.then_some(()).ok_or_else(|| "RabbitMQ is unreachable or blocks publishers".into()) }
    })
}

/// Ready while messages can be published, and the ledger answers and has the schema version that this binary needs.
#[cfg(feature = "clients")]
pub fn broker_and_ledger_readiness(publisher: &Publisher, ledger: &ledger::Ledger) -> Readiness {
    let ledger = ledger.clone();
    broker_readiness(publisher).with("ledger", move || {
        let ledger = ledger.clone();
        async move { Ok(ledger.check().await?) }
    })
}
