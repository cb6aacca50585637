//! Tasks that run every few minutes, on one worker of the fleet at a time. Any service that has the ledger may run them.

use std::{error::Error, future::Future, time::Duration};

use ledger::{Ledger, LedgerError, Worker};
use settings::{DriftSection, Settings};
use tokio_util::sync::CancellationToken;

use crate::{
    drift::{UsedVersion, check_drift},
    erasure::Eraser,
    reconciler::Reconciler,
    retention::prune,
};

/// How often the age of the oldest unfinished event is measured.
const AGE_INTERVAL: Duration = Duration::from_secs(15);

/// How often it is asked whether a record is to be erased: often enough that a person is gone within a minute.
const ERASE_INTERVAL: Duration = Duration::from_secs(10);

/// How often a channel is told what waits for approval: soon enough for a person, seldom enough to be one message.
const ANNOUNCE_INTERVAL: Duration = Duration::from_secs(30);

/// How often it is looked for proposals that are too old.
const EXPIRE_INTERVAL: Duration = Duration::from_secs(60);

/// How many of them are given up in one transaction.
const EXPIRED_AT_ONCE: i64 = 500;

/// How often a worker tries to get the lease of a task, if the task is not due more often.
const LEASE_INTERVAL: Duration = Duration::from_secs(30);

/// A pass makes many statements, each with a bound of its own. One that takes this long makes no progress.
const LONGEST_PASS: Duration = Duration::from_secs(3_600);

/// Starts the tasks, which run until `stop`: reconcile, delete old data, and measure the age of the oldest unfinished event.
pub fn run_maintenance(
    settings: &Settings,
    ledger: Ledger,
    reconciler: Reconciler,
    worker: Worker,
    stop: &CancellationToken,
) {
    let interval = Duration::from_secs(settings.reconcile.interval_seconds);
    let task = SingletonTask::new("reconcile", interval, ledger.clone(), worker.clone());
    tokio::spawn(stop.clone().run_until_cancelled_owned(task.repeat(move || {
        let reconciler = reconciler.clone();
        async move { watchdog::watch("reconcile", LONGEST_PASS, reconciler.pass()).await.map(drop) }
    })));

    let retention = settings.retention.clone();
    let interval = Duration::from_secs(retention.interval_seconds);
    let task = SingletonTask::new("retention", interval, ledger.clone(), worker);
    let pruned = ledger.clone();
    tokio::spawn(stop.clone().run_until_cancelled_owned(task.repeat(move || {
        let (ledger, retention) = (pruned.clone(), retention.clone());
        async move { watchdog::watch("retention", LONGEST_PASS, prune(&ledger, &retention)).await.map(drop) }
    })));

    tokio::spawn(stop.clone().run_until_cancelled_owned(async move {
        loop {
            if let Ok(age) = ledger.oldest_unfinished().await {
                metrics::gauge!("leadline_oldest_unfinished_seconds").set(age.as_secs_f64());
            }
            if let Ok(waiting) = ledger.waiting_proposals().await {
                let count = u32::try_from(waiting.count).unwrap_or(u32::MAX);
                metrics::gauge!("leadline_proposals_waiting").set(f64::from(count));
                metrics::gauge!("leadline_oldest_proposal_seconds").set(waiting.oldest.as_secs_f64());
            }
            tokio::time::sleep(AGE_INTERVAL).await;
        }
    }));
}

/// Starts the task that erases the records whose erasure was asked for. It runs until `stop`.
pub fn run_erasures(eraser: Eraser, ledger: Ledger, worker: Worker, stop: &CancellationToken) {
    let task = SingletonTask::new("erase", ERASE_INTERVAL, ledger, worker);
    tokio::spawn(stop.clone().run_until_cancelled_owned(task.repeat(move || {
        let eraser = eraser.clone();
        async move { eraser.pass().await }
    })));
}

/// Starts the task that holds versions of playbooks back whose rates leave their bounds, if there is such a task. It runs until `stop`.
pub fn run_drift_checks(
    settings: &DriftSection,
    used: Vec<UsedVersion>,
    ledger: Ledger,
    worker: Worker,
    stop: &CancellationToken,
) {
    if !settings.enabled {
        return;
    }
    let interval = Duration::from_secs(settings.interval_seconds);
    let settings = settings.clone();
    tokio::spawn(stop.clone().run_until_cancelled_owned(async move {
        // Workers may run other versions than this one: a lease for each, so that the holder of one checks it.
        let tasks: Vec<_> = used
            .iter()
            .map(|version| {
                let task = SingletonTask::new("check drift", interval, ledger.clone(), worker.clone());
                (task.about(&format!("{}@{}", version.playbook, version.version)), version)
            })
            .collect();
        loop {
            tokio::time::sleep(interval.min(LEASE_INTERVAL)).await;
            for (task, version) in &tasks {
                let check = || async {
                    let check = check_drift(&ledger, &settings, version, &worker);
                    watchdog::watch("check drift", LONGEST_PASS, check).await.map(drop)
                };
                task.take_turn(check).await;
            }
        }
    }));
}

/// Starts the task that gives up proposals which nobody has decided about in time. It runs until `stop`.
pub fn run_expiry(ledger: Ledger, worker: Worker, stop: &CancellationToken) {
    let task = SingletonTask::new("expire proposals", EXPIRE_INTERVAL, ledger.clone(), worker);
    tokio::spawn(stop.clone().run_until_cancelled_owned(task.repeat(move || {
        let ledger = ledger.clone();
        async move { expire_proposals(&ledger).await }
    })));
}

/// Starts the task that tells a channel what waits for approval, as `work` does. It runs until `stop`.
pub fn run_announcements<F, Fut, E>(ledger: Ledger, worker: Worker, stop: &CancellationToken, work: F)
where
    F: Fn() -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<(), E>> + Send + 'static,
    E: Error + Send + 'static,
{
    let task = SingletonTask::new("announce proposals", ANNOUNCE_INTERVAL, ledger, worker);
    tokio::spawn(stop.clone().run_until_cancelled_owned(task.repeat(work)));
}

/// Gives up every proposal that is too old.
async fn expire_proposals(ledger: &Ledger) -> Result<(), LedgerError> {
    loop {
        let expired = ledger.expire_proposals(EXPIRED_AT_ONCE).await?;
        if expired == 0 {
            return Ok(());
        }
        tracing::info!(expired, "proposals were given up, because nobody decided about them in time");
    }
}

/// A task that one worker of the fleet does once in each interval. A lease in the ledger decides which one.
struct SingletonTask {
    name: &'static str,
    lease: String,
    interval: Duration,
    ledger: Ledger,
    worker: Worker,
}

impl SingletonTask {
    /// A task whose lease has its name.
    fn new(name: &'static str, interval: Duration, ledger: Ledger, worker: Worker) -> Self {
        Self { name, lease: name.to_owned(), interval, ledger, worker }
    }

    /// The task for one of several things, with a lease for each.
    fn about(self, what: &str) -> Self {
        Self { lease: format!("{} {what}", self.name), ..self }
    }

    /// Does `work`, which is watched by itself, whenever this worker gets the lease.
    async fn repeat<F, Fut, E>(self, work: F)
    where
        F: Fn() -> Fut,
        Fut: Future<Output = Result<(), E>>,
        E: Error,
    {
        loop {
            tokio::time::sleep(self.interval.min(LEASE_INTERVAL)).await;
            self.take_turn(&work).await;
        }
    }

    /// Does `work` if this worker gets the lease now. Errors are logged; the next interval is a new attempt.
    async fn take_turn<F, Fut, E>(&self, work: F)
    where
        F: FnOnce() -> Fut,
        Fut: Future<Output = Result<(), E>>,
        E: Error,
    {
        let lease = self.ledger.acquire_singleton_lease(&self.lease, &self.worker, self.interval);
        match watchdog::watch(self.name, LONGEST_PASS, lease).await {
            Ok(true) => {
                if let Err(error) = work().await {
                    tracing::warn!(task = self.lease, %error, "the task failed; it runs again after its interval");
                }
            }
            Ok(false) => {}
            Err(error) => tracing::warn!(task = self.lease, %error, "the task's lease could not be acquired"),
        }
    }
}
