//! Whether RabbitMQ keeps what was answered 200 when a queue is full. A policy can change that at any moment, so it is looked at again
//! and again.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use broker::{ConnectionError, Publisher};
use service::Readiness;
use tokio_util::sync::CancellationToken;

/// The broker's own bounds are shorter.
const LONGEST_CHECK: Duration = Duration::from_secs(600);

/// What was found out last.
#[derive(Debug, Default)]
struct Found {
    drops: bool,
    /// Why it is not known now, if it is not.
    unknown: Option<String>,
}

impl Found {
    fn note(&mut self, refuses: Result<bool, ConnectionError>) {
        match refuses {
            Ok(refuses) => {
                if self.drops == refuses {
                    tracing::warn!(drops = !refuses, "what full queues of RabbitMQ do has changed");
                }
                *self = Self { drops: !refuses, unknown: None };
                metrics::gauge!("leadline_broker_drops_messages").set(if refuses { 0.0 } else { 1.0 });
            }
            // What was found out last holds until it is known better.
            Err(error) => self.unknown = Some(error.to_string()),
        }
    }
}

/// What was found out last about full queues.
#[derive(Debug, Clone, Default)]
pub struct FullQueues(Arc<Mutex<Found>>);

impl FullQueues {
    /// Whether they drop messages.
    pub fn drop_messages(&self) -> bool {
        lock(&self.0).drops
    }
}

/// Looks every `interval`, until `stop`, whether full queues drop messages. The returned readiness fails while they do: what is accepted
/// then may be lost.
pub fn watch(
    readiness: Readiness,
    publisher: Publisher,
    interval: Duration,
    stop: &CancellationToken,
) -> (Readiness, FullQueues) {
    let full_queues = FullQueues::default();
    let found = full_queues.0.clone();
    let (of_check, of_note) = (full_queues.clone(), found.clone());
    tokio::spawn(stop.clone().run_until_cancelled_owned(async move {
        loop {
            let refuses = watchdog::watch("overflow check", LONGEST_CHECK, publisher.refuses_when_full()).await;
            lock(&found).note(refuses);
            tokio::time::sleep(interval).await;
        }
    }));
    let readiness = readiness.with("queues", move || {
        let drops = of_check.drop_messages();
        async move { if drops { Err(DROPS.into()) } else { Ok(()) } }
    });
    let readiness = readiness.with_note(move || {
        let unknown = lock(&of_note).unknown.clone()?;
        Some(format!("whether full queues drop messages is not known: {unknown}"))
    });
    (readiness, full_queues)
}

/// What `/readyz` says.
const DROPS: &str = "a policy of RabbitMQ makes full queues drop messages that were answered 200: take `overflow` out of it, or leave out the \
                     queues that begin with `leadline.` (docs/operations.md)";

fn lock(found: &Mutex<Found>) -> MutexGuard<'_, Found> {
    found.lock().unwrap_or_else(PoisonError::into_inner)
}
