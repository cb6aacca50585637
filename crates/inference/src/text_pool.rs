//! The threads on which long texts are converted, counted, split and compared, so that a worker goes on with other events
//! meanwhile.

use std::{future::pending, panic::resume_unwind, sync::Arc};

use tokio::{sync::Semaphore, task::spawn_blocking};

/// Work on at most this many bytes of text is done in place: it takes about a millisecond, and most texts are that short.
const MAX_IN_PLACE: usize = 8_192;

/// Texts of at most this many bytes do not wait for longer ones. A ticket with a few mails has as much; a text that
/// is as long as HubSpot allows has more.
const MAX_MIDDLE: usize = 49_152;

/// A few threads for work on long texts. Cheap to clone; clones share the threads.
#[derive(Debug, Clone)]
pub struct TextPool {
    middle: Arc<Semaphore>,
    long: Arc<Semaphore>,
}

impl TextPool {
    /// A pool of this many threads, but at least two: one is kept for texts of up to 48 KiB, the others are for longer ones.
    pub fn new(threads: usize) -> Self {
        let long = threads.saturating_sub(1).max(1);
        Self { middle: Arc::new(Semaphore::new(1)), long: Arc::new(Semaphore::new(long)) }
    }

    /// Does `work` on about `size` bytes of text: at once if they are few, else on one of the threads, after the work on texts
    /// of such a size that waits already. The work is done to its end even when its caller has stopped waiting, and its thread
    /// is taken until then.
    ///
    /// # Panics
    /// When `work` does, so that the panic ends this event and no other.
    pub(crate) async fn run<T: Send + 'static>(&self, size: usize, work: impl FnOnce() -> T + Send + 'static) -> T {
        if size <= MAX_IN_PLACE {
            return work();
        }
        let threads = if size <= MAX_MIDDLE { &self.middle } else { &self.long };
        // The semaphore is never closed.
        let permit = threads.clone().acquire_owned().await.ok();
        let worked = spawn_blocking(move || {
            let _permit = permit;
            work()
        });
        match worked.await {
            Ok(result) => result,
            Err(error) => match error.try_into_panic() {
                Ok(panic) => resume_unwind(panic),
                // The runtime shuts down, and this task with it.
                Err(_) => pending().await,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{
            Arc,
            atomic::{AtomicUsize, Ordering},
        },
        time::Duration,
    };

    use futures_util::future::join_all;
    use tokio::sync::{Semaphore, oneshot};

    use super::{MAX_IN_PLACE, MAX_MIDDLE, TextPool};

    #[tokio::test]
    async fn long_texts_take_no_more_threads_than_there_are_and_shorter_ones_do_not_wait_for_them() {
        let pool = TextPool::new(3);
        for (size, threads) in [(MAX_MIDDLE + 1, 2), (MAX_MIDDLE, 1)] {
            let (running, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
            let works = (0..16).map(|_| {
                let (running, most) = (running.clone(), most.clone());
                pool.run(size, move || {
                    most.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                    std::thread::yield_now();
                    running.fetch_sub(1, Ordering::SeqCst);
                })
            });
            join_all(works).await;
            assert!(most.load(Ordering::SeqCst) <= threads);
        }

        // All threads for long texts are busy, and others wait for them.
        let release = Arc::new(Semaphore::new(0));
        let mut busy = Vec::new();
        let mut begun = Vec::new();
        for _ in 0..8 {
            let (began, has_begun) = oneshot::channel();
            let (pool, release) = (pool.clone(), release.clone());
            let handle = tokio::runtime::Handle::current();
            busy.push(tokio::spawn(async move {
                pool.run(MAX_MIDDLE + 1, move || {
                    let _ = began.send(());
                    drop(handle.block_on(release.acquire()));
                })
                .await;
            }));
            begun.push(has_begun);
        }
        for has_begun in begun.drain(..2) {
            has_begun.await.expect("begun");
        }
        let shorter = async { (pool.run(MAX_IN_PLACE, || 1).await, pool.run(MAX_MIDDLE, || 2).await) };
        let shorter = tokio::time::timeout(Duration::from_secs(30), shorter).await;
        assert_eq!(shorter.expect("they do not wait"), (1, 2));
        release.close();
        for busy in busy {
            busy.await.expect("ended");
        }
    }

    #[tokio::test]
    #[should_panic(expected = "of this text")]
    async fn a_panic_ends_the_work_that_it_happened_in() {
        TextPool::new(1).run(MAX_IN_PLACE + 1, || panic!("of this text")).await;
    }
}
