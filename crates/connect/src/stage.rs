use broker::{Link, Publisher};
use runtime::{admin::Readiness, config::Settings};

use crate::broker;

/// A service's two connections to RabbitMQ: one to consume up to `concurrency` messages at once, one to publish.
pub async fn stage(settings: &Settings, service: &str, concurrency: usize) -> Result<(Link, Publisher), String> {
    let prefetch = u16::try_from(concurrency).unwrap_or(u16::MAX);
    let link = Link::open(broker(settings, &format!("{service} consumer"))?, prefetch);
    let publisher = Publisher::open(broker(settings, &format!("{service} publisher"))?);
    Ok((link.await.map_err(|error| error.to_string())?, publisher.await.map_err(|error| error.to_string())?))
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
