//! What is done every few minutes, by any service that knows the ledger, on one worker of the fleet at a time.

use std::{future::Future, time::Duration};

use ledger::{Ledger, Worker};
use settings::Settings;
use tokio_util::sync::CancellationToken;

use crate::{reconciler::Reconciler, retention::prune};

/// How often the age of the oldest unfinished event is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(15);

/// Reconciles, lets old data go, and measures the backlog's age, until `stop`.
pub fn run_maintenance(
    settings: &Settings,
    ledger: Ledger,
    reconciler: Reconciler,
    worker: Worker,
    stop: &CancellationToken,
) {
    let every = Duration::from_secs(settings.reconcile.interval_seconds);
    let singleton_lease = SingletonTask { name: "reconcile", every, ledger: ledger.clone(), worker: worker.clone() };
    tokio::spawn(stop.clone().run_until_cancelled_owned(singleton_lease.keep(move || {
        let reconciler = reconciler.clone();
        async move { reconciler.pass().await.map(drop).map_err(|error| error.to_string()) }
    })));

    let retention = settings.retention.clone();
    let every = Duration::from_secs(retention.interval_seconds);
    let singleton_lease = SingletonTask { name: "retention", every, ledger: ledger.clone(), worker };
    let breaker_sync = ledger.clone();
    tokio::spawn(stop.clone().run_until_cancelled_owned(singleton_lease.keep(move || {
        let (ledger, retention) = (breaker_sync.clone(), retention.clone());
        async move { prune(&ledger, &retention).await.map(drop).map_err(|error| error.to_string()) }
    })));

    tokio::spawn(stop.clone().run_until_cancelled_owned(async move {
        loop {
            if let Ok(age) = ledger.oldest_unfinished().await {
                metrics::gauge!("leadline_oldest_unfinished_seconds").set(age.as_secs_f64());
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }));
}

/// Something that one worker of the fleet does every so often. The ledger says whose turn it is.
struct SingletonTask {
    name: &'static str,
    every: Duration,
    ledger: Ledger,
    worker: Worker,
}

impl SingletonTask {
    async fn keep<F, Fut>(self, work: F)
    where
        F: Fn() -> Fut,
        Fut: Future<Output = Result<(), String>>,
    {
        loop {
            tokio::time::sleep(self.every.min(Duration::from_secs(30))).await;
            let done = match self.ledger.acquire_singleton_lease(self.name, &self.worker, self.every).await {
                Ok(true) => work().await,
                Ok(false) => Ok(()),
                Err(error) => Err(error.to_string()),
            };
            if let Err(error) = done {
                tracing::warn!(singleton_lease = self.name, error, "not done; it comes round again");
            }
        }
    }
}
