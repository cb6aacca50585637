//! Batching: many callers submit one item each, and one call processes them together.

mod bisect;
mod shared_call;
mod slots;

use std::{future::Future, sync::Arc, time::Duration};

pub use bisect::bisect;
pub use shared_call::SharedCall;
use slots::Slots;
use spans::batches::{self, Waiting};
use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};
use tracing::Instrument;

/// Collects single items for a short time and processes them as a batch. Cheap to clone; clones share their batches.
///
/// With one transaction for each event the fleet would reach a fraction of what RabbitMQ delivers, and with one HubSpot call
/// for each record a hundredth of what HubSpot's batch calls allow.
#[derive(Debug)]
pub struct Batcher<I, O, E> {
    name: &'static str,
    requests: mpsc::Sender<Request<I, O, E>>,
}

/// The next batch waits a linger after one of so many items, and a share of it after a smaller one: few items in a batch are a sign that
/// few are on their way.
const ITEMS_UNDER_LOAD: u32 = 5;

/// A batch of writes ends with its leases, and one of reads with the time-outs of its calls. One that takes this long waits for nothing.
const LONGEST_BATCH: Duration = Duration::from_secs(1_800);

impl<I, O, E> Clone for Batcher<I, O, E> {
    fn clone(&self) -> Self {
        Self { name: self.name, requests: self.requests.clone() }
    }
}

/// Where the result of an item is sent.
type Reply<O, E> = oneshot::Sender<Result<O, BatcherError<E>>>;

#[derive(Debug)]
struct Request<I, O, E> {
    item: I,
    reply: Reply<O, E>,
    /// In whose trace the item is.
    waiting: Waiting,
}

/// A batch that is being collected. Its first item may be heavier than `max`.
struct Batch<I, O, E> {
    requests: Vec<Request<I, O, E>>,
    weight: usize,
    weigh: fn(&I) -> usize,
    max: usize,
    /// The request that would have made the batch heavier than `max`: the first of the next batch.
    next: Option<Request<I, O, E>>,
}

impl<I, O, E> Batch<I, O, E> {
    fn new(first: Request<I, O, E>, weigh: fn(&I) -> usize, max: usize) -> Self {
        Self { weight: weigh(&first.item), requests: vec![first], weigh, max, next: None }
    }

    fn has_room(&self) -> bool {
        self.weight < self.max && self.next.is_none()
    }

    fn add(&mut self, request: Request<I, O, E>) {
        let weight = self.weight + (self.weigh)(&request.item);
        if weight > self.max {
            self.next = Some(request);
        } else {
            self.weight = weight;
            self.requests.push(request);
        }
    }
}

/// Why an item has no result.
#[derive(Debug, thiserror::Error)]
pub enum BatcherError<E> {
    /// The batch that it was in failed.
    #[error(transparent)]
    Failed(Arc<E>),
    /// The batcher no longer runs: processing panicked, or the service stops.
    #[error("the batcher no longer runs")]
    Closed,
}

/// How long and how much is collected.
#[derive(Clone)]
pub struct BatcherSettings {
    /// What a batch does, as traces name it.
    pub name: &'static str,
    /// A batch is started when its items weigh this much …
    pub max: usize,
    /// … or when this time has passed since its first item, and fewer than `max_in_flight` batches are in progress. While it
    /// waits for one of those to end, it still takes items. Nothing is waited for while none is in progress and the last one
    /// went longer ago than this, or than a fifth of this for each item where batches were small lately: only under load are
    /// there others that may come (as network cards coalesce interrupts).
    pub linger: Duration,
    /// How much longer than `linger` to wait at the moment, where calls are sometimes scarcer than time. Then every item waits.
    pub extra_linger: Option<ExtraLinger>,
    /// The most batches in progress at once.
    pub max_in_flight: usize,
    /// While batches take longer than this, fewer of them are in progress at once. `None` for those that may take any time.
    pub long: Option<Duration>,
}

/// Says how much longer batches should wait at the moment.
pub type ExtraLinger = Arc<dyn Fn() -> Duration + Send + Sync>;

impl<I, O, E> Batcher<I, O, E>
where
    I: Clone + Send + Sync + 'static,
    O: Send + 'static,
    E: std::error::Error + Send + Sync + 'static,
{
    /// Starts a batcher whose items all weigh 1.
    ///
    /// `process` returns one result for each item of a batch, in the same order. It should drop the batch before it returns:
    /// otherwise the items are copied when the batch is split. If a batch fails and `may_be_one_item` says that a single item
    /// can be the cause, the batch is split in halves that are processed separately, so that one bad item fails alone.
    pub fn start<F, Fut>(settings: BatcherSettings, process: F, may_be_one_item: fn(&E) -> bool) -> Self
    where
        F: Fn(Arc<Vec<I>>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Vec<O>, E>> + Send + 'static,
    {
        Self::start_weighted(settings, |_| 1, process, may_be_one_item)
    }

    /// The same for items of different weights. An item that is heavier than the maximum is processed alone.
    pub fn start_weighted<F, Fut>(
        settings: BatcherSettings,
        weigh: fn(&I) -> usize,
        process: F,
        may_be_one_item: fn(&E) -> bool,
    ) -> Self
    where
        F: Fn(Arc<Vec<I>>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Vec<O>, E>> + Send + 'static,
    {
        let (requests, mut received) = mpsc::channel::<Request<I, O, E>>(settings.max * 2);
        let (process, name) = (Arc::new(process), settings.name);
        let slots = Slots::new(settings.max_in_flight, settings.long);
        tokio::spawn(async move {
            let (mut next, mut load, mut rested) = (None, Load::NONE, Instant::now());
            loop {
                let first = match next.take() {
                    Some(request) => request,
                    None => match received.recv().await {
                        Some(request) => request,
                        None => return,
                    },
                };
                if Instant::now() > rested + settings.linger {
                    load = Load::NONE;
                }
                let extra_linger = settings.extra_linger.as_ref().map_or(Duration::ZERO, |extra_linger| extra_linger());
                let mut batch = Batch::new(first, weigh, settings.max);
                let deadline = tokio::time::sleep_until(Instant::now() + settings.linger + extra_linger);
                tokio::pin!(deadline);
                while batch.has_room() {
                    tokio::select! {
                        biased;
                        request = received.recv() => match request {
                            Some(request) => batch.add(request),
                            None => break,
                        },
                        () = idle(&slots, rested), if extra_linger.is_zero() => break,
                        () = &mut deadline => break,
                    }
                }
                let slot = loop {
                    tokio::select! {
                        biased;
                        slot = slots.acquire() => break slot,
                        Some(request) = received.recv(), if batch.has_room() => batch.add(request),
                    }
                };
                load = load.after(batch.requests.len(), !batch.has_room());
                (next, rested) = (batch.next.take(), Instant::now() + load.rest(settings.linger));
                let process = process.clone();
                tokio::spawn(async move {
                    let span = batches::batch(name, batch.requests.iter().map(|request| request.waiting.clone()));
                    let run = run_batch(batch.requests, &*process, may_be_one_item).instrument(span);
                    watchdog::watch("batch", LONGEST_BATCH, run).await;
                    drop(slot);
                });
            }
        });
        Self { name, requests }
    }

    /// Adds an item to the next batch and waits for its result.
    ///
    /// # Errors
    /// [`BatcherError::Failed`] with the error of the batch, or of the smallest part of it that the item was in.
    pub async fn submit(&self, item: I) -> Result<O, BatcherError<E>> {
        let span = batches::wait(self.name);
        let (reply, result) = oneshot::channel();
        let request = Request { item, reply, waiting: Waiting::of(&span) };
        let submit = async {
            self.requests.send(request).await.map_err(|_| BatcherError::Closed)?;
            result.await.unwrap_or(Err(BatcherError::Closed))
        };
        submit.instrument(span).await
    }
}

/// How many items batches had lately, at most 4 times [`ITEMS_UNDER_LOAD`].
#[derive(Debug, Clone, Copy)]
struct Load(u32);

impl Load {
    const NONE: Self = Self(0);

    /// What it is after a batch of so many. A batch may be full of few heavy items, and may leave a small one behind, which is no sign
    /// that fewer come.
    fn after(self, items: usize, is_full: bool) -> Self {
        let most = 4 * ITEMS_UNDER_LOAD;
        let items = if is_full { most } else { u32::try_from(items).unwrap_or(most).min(most) };
        Self(items.max(self.0 / 2))
    }

    /// How long the next batch waits for more.
    fn rest(self, linger: Duration) -> Duration {
        linger * self.0.min(ITEMS_UNDER_LOAD) / ITEMS_UNDER_LOAD
    }
}

/// Waits until no batch is in progress and the last one is `rested`, and for tasks that are about to submit: those of a burst
/// are ready to run.
async fn idle(slots: &Slots, rested: Instant) {
    slots.idle().await;
    tokio::time::sleep_until(rested).await;
    tokio::task::yield_now().await;
}

async fn run_batch<I, O, E, F, Fut>(requests: Vec<Request<I, O, E>>, process: &F, may_be_one_item: fn(&E) -> bool)
where
    I: Clone,
    F: Fn(Arc<Vec<I>>) -> Fut,
    Fut: Future<Output = Result<Vec<O>, E>>,
{
    let (items, mut replies): (Vec<_>, Vec<_>) =
        requests.into_iter().map(|request| (request.item, Some(request.reply))).unzip();
    let reply = |index: usize, result: Result<O, Arc<E>>| {
        if let Some(reply) = replies.get_mut(index).and_then(Option::take) {
            // The receiver is dropped when its delivery was aborted at the end of the grace period.
            let _ = reply.send(result.map_err(BatcherError::Failed));
        }
    };
    bisect(items, process, may_be_one_item, reply).await;
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{Arc, Mutex},
        time::Duration,
    };

    use super::{Batcher, BatcherError, BatcherSettings, Load};

    #[derive(Debug, thiserror::Error)]
    #[error("{0}")]
    struct Bad(&'static str);

    fn settings() -> BatcherSettings {
        BatcherSettings {
            name: "double",
            max: 10,
            linger: Duration::from_millis(20),
            extra_linger: None,
            max_in_flight: 1,
            long: None,
        }
    }

    #[tokio::test]
    async fn items_are_processed_together_and_a_bad_one_fails_alone() {
        let sizes = Arc::new(Mutex::new(Vec::new()));
        let seen = sizes.clone();
        let process = move |items: Arc<Vec<i32>>| {
            seen.lock().expect("unpoisoned").push(items.len());
            async move {
                if items.contains(&7) { Err(Bad("seven")) } else { Ok(items.iter().map(|item| item * 2).collect()) }
            }
        };
        let batcher = Batcher::start(settings(), process, |_| true);
        let tasks: Vec<_> = (0..10)
            .map(|item| {
                let batcher = batcher.clone();
                tokio::spawn(async move { batcher.submit(item).await })
            })
            .collect();
        for (item, task) in (0..10).zip(tasks) {
            match task.await.expect("no panic") {
                Ok(result) => assert_eq!(result, item * 2),
                Err(error) => assert!(item == 7 && matches!(error, BatcherError::Failed(_)), "{item}: {error}"),
            }
        }
        assert_eq!(sizes.lock().expect("unpoisoned")[0], 10, "all in one batch");
    }

    #[tokio::test]
    async fn a_batch_is_as_full_as_its_items_weights_allow() {
        let batches = Arc::new(Mutex::new(Vec::new()));
        let seen = batches.clone();
        let process = move |items: Arc<Vec<usize>>| {
            seen.lock().expect("unpoisoned").push(items.to_vec());
            async move { Ok::<_, Bad>(items.to_vec()) }
        };
        let batcher = Batcher::start_weighted(settings(), |item| *item, process, |_| false);
        let results = futures_util::future::join_all([4, 4, 3, 12, 7, 3].map(|item| batcher.submit(item))).await;
        let results: Vec<_> = results.into_iter().map(|result| result.expect("a result")).collect();
        assert_eq!(results, [4, 4, 3, 12, 7, 3]);
        let batches = batches.lock().expect("unpoisoned");
        assert_eq!(*batches, [vec![4, 4], vec![3], vec![12], vec![7, 3]], "ten at most, but a heavier item alone");
    }

    #[tokio::test]
    async fn a_failure_of_the_whole_batch_is_not_split() {
        let calls = Arc::new(Mutex::new(0));
        let seen = calls.clone();
        let process = move |_: Arc<Vec<i32>>| {
            *seen.lock().expect("unpoisoned") += 1;
            async { Err::<Vec<i32>, _>(Bad("unreachable")) }
        };
        let batcher = Batcher::start(settings(), process, |_| false);
        let (first, second) = tokio::join!(batcher.submit(1), batcher.submit(2));
        assert!(matches!((first, second), (Err(BatcherError::Failed(_)), Err(BatcherError::Failed(_)))));
        assert_eq!(*calls.lock().expect("unpoisoned"), 1);
    }

    #[tokio::test]
    async fn an_item_alone_waits_for_nothing_and_those_that_follow_it_wait_for_each_other() {
        let sizes = Arc::new(Mutex::new(Vec::new()));
        let seen = sizes.clone();
        let process = move |items: Arc<Vec<i32>>| {
            seen.lock().expect("unpoisoned").push(items.len());
            async move { Ok::<_, Bad>(items.to_vec()) }
        };
        let for_ever = Duration::from_secs(86_400);
        let batcher = Batcher::start(BatcherSettings { linger: for_ever, max: 3, ..settings() }, process, |_| false);
        batcher.submit(0).await.expect("a result");
        assert_eq!(*sizes.lock().expect("unpoisoned"), [1], "at once");
        let submit = |item| {
            let batcher = batcher.clone();
            tokio::spawn(async move { batcher.submit(item).await })
        };
        let two = [submit(1), submit(2)];
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
        assert_eq!(*sizes.lock().expect("unpoisoned"), [1], "the first one went less than a linger ago");
        batcher.submit(3).await.expect("a result");
        for waiting in two {
            waiting.await.expect("no panic").expect("a result");
        }
        assert_eq!(*sizes.lock().expect("unpoisoned"), [1, 3], "a full batch");
    }

    #[test]
    fn the_fewer_items_batches_had_lately_the_sooner_the_next_one_goes() {
        let rest = |batches: &[(usize, bool)]| {
            let load = batches.iter().fold(Load::NONE, |load, (items, is_full)| load.after(*items, *is_full));
            load.rest(Duration::from_millis(100)).as_millis()
        };
        assert_eq!(rest(&[(1, false); 3]), 20);
        assert_eq!((rest(&[(4, false)]), rest(&[(5, false)]), rest(&[(50, false)])), (80, 100, 100));
        assert_eq!(rest(&[(2, true)]), 100, "full of heavy ones");
        assert_eq!(rest(&[(100, true), (2, false), (2, false)]), 100, "what full ones leave behind");
        assert_eq!(rest(&[(6, false), (1, false), (1, false)]), 20);
    }

    #[tokio::test]
    async fn what_follows_a_batch_goes_although_nothing_more_comes() {
        let process = |items: Arc<Vec<i32>>| async move { Ok::<_, Bad>(items.to_vec()) };
        let batcher = Batcher::start(settings(), process, |_| false);
        for item in 0..3 {
            assert_eq!(batcher.submit(item).await.expect("a result"), item);
        }
    }
}
