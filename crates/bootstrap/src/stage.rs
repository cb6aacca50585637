use broker::{Connection, Publisher};
use service::Readiness;
use settings::Settings;

use crate::broker;

/// A connection to RabbitMQ to consume on.
pub async fn connection(settings: &Settings, purpose: &str) -> Result<Connection, String> {
    Connection::open(broker(settings, &format!("{purpose} consumer"))?).await.map_err(|error| error.to_string())
}

/// A service's two connections to RabbitMQ: one to consume, one to publish.
pub async fn stage(settings: &Settings, service: &str) -> Result<(Connection, Publisher), String> {
    let publisher = Publisher::open(broker(settings, &format!("{service} publisher"))?);
    Ok((connection(settings, service).await?, publisher.await.map_err(|error| error.to_string())?))
}

/// Ready when messages can be published.
pub fn readiness(publisher: &Publisher) -> Readiness {
    let publisher = publisher.clone();
    Readiness::default().with("broker", move || {
        let is_ready = publisher.is_ready();
        async move { is_ready.then_some(()).ok_or_else(|| "away, or blocks publishers".to_owned()) }
    })
}

/// Ready when messages can be published, and the ledger answers and has the schema that this binary needs.
#[cfg(feature = "clients")]
pub fn readiness_with_ledger(publisher: &Publisher, ledger: &ledger::Ledger) -> Readiness {
    let ledger = ledger.clone();
    readiness(publisher).with("ledger", move || {
        let ledger = ledger.clone();
        async move { ledger.check().await.map_err(|error| error.to_string()) }
    })
}
