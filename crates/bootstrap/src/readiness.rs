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

/// Not ready while there is no connection to consume the messages of `stage`.
#[cfg(feature = "clients")]
pub fn add_consumer_readiness(readiness: Readiness, stage: &'static str, connection: &broker::Connection) -> Readiness {
    let connection = connection.clone();
    readiness.with(stage, move || {
        let is_ready = connection.is_ready();
        async move { is_ready.then_some(()).ok_or_else(|| "RabbitMQ is unreachable for its consumer".into()) }
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

/// Not ready while a task that acquires quota is broken: no call is made under its limit. `broken` says how many are.
#[cfg(feature = "clients")]
pub fn add_quota_readiness(readiness: Readiness, broken: impl Fn() -> usize + Send + Sync + 'static) -> Readiness {
    readiness.with("rate limits", move || {
        let broken = broken();
        async move {
            let why = || format!("{broken} tasks that acquire quota panicked and do not work again yet").into();
            (broken == 0).then_some(()).ok_or_else(why)
        }
    })
}

/// Warns, on `/readyz` and in a metric, of versions of HubSpot's API in use whose support ends.
#[cfg(feature = "clients")]
pub fn warn_of_ending_versions(readiness: Readiness, settings: &settings::Settings) -> Readiness {
    let ends = crate::api_versions(settings).ends();
    for end in &ends {
        let midnight = end.day.midnight().assume_utc().unix_timestamp();
        #[expect(clippy::cast_precision_loss, reason = "seconds of this century")]
        metrics::gauge!("leadline_hubspot_api_end_timestamp_seconds", "version" => end.version).set(midnight as f64);
    }
    readiness.with_note(move || {
        let today = time::OffsetDateTime::now_utc().date();
        let near: Vec<_> = ends.iter().filter(|end| end.is_near(today)).map(ToString::to_string).collect();
        (!near.is_empty()).then(|| near.join("; "))
    })
}
