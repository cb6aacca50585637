//! The threads on which long texts are converted, counted, split and compared, so that a worker goes on with other events
//! meanwhile.

use std::{future::pending, panic::resume_unwind, sync::Arc};

use tokio::{sync::Semaphore, task::spawn_blocking};

/// Work on at most this many bytes of text is done in place: it takes about a millisecond, and most texts are that short.
const MAX_IN_PLACE: usize = 8_192;

/// A few threads for work on long texts. Cheap to clone; clones share the threads.
#[derive(Debug, Clone)]
pub struct TextPool {
    threads: Arc<Semaphore>,
}

impl TextPool {
    /// A pool of at most this many threads.
    pub fn new(threads: usize) -> Self {
        Self { threads: Arc::new(Semaphore::new(threads)) }
    }

    /// Does `work` on about `size` bytes of text: at once if they are few, else on one of the threads, after the work that
    /// waits already. The work is done to its end even when its caller has stopped waiting, and its thread is taken until then.
    ///
    /// # Panics
    /// When `work` does, so that the panic ends this event and no other.
    pub(crate) async fn run<T: Send + 'static>(&self, size: usize, work: impl FnOnce() -> T + Send + 'static) -> T {
        if size <= MAX_IN_PLACE {
            return work();
        }
        // The semaphore is never closed.
        let permit = self.threads.clone().acquire_owned().await.ok();
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
    use std::sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    };

    use futures_util::future::join_all;
    use tokio::sync::{Notify, oneshot};

    use super::{MAX_IN_PLACE, TextPool};

    #[tokio::test]
    async fn long_texts_take_no_more_threads_than_there_are_and_short_ones_none() {
        let pool = TextPool::new(2);
        let (running, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let long = (0..16).map(|_| {
            let (running, most) = (running.clone(), most.clone());
            pool.run(MAX_IN_PLACE + 1, move || {
                most.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                std::thread::yield_now();
                running.fetch_sub(1, Ordering::SeqCst);
            })
        });
        join_all(long).await;
        assert!(most.load(Ordering::SeqCst) <= 2);

        // Both threads are busy, and a short text does not wait for them.
        let release = Arc::new(Notify::new());
        let mut busy = Vec::new();
        for _ in 0..2 {
            let (began, has_begun) = oneshot::channel();
            let (pool, release) = (pool.clone(), release.clone());
            let handle = tokio::runtime::Handle::current();
            busy.push(tokio::spawn(async move {
                pool.run(MAX_IN_PLACE + 1, move || {
                    let _ = began.send(());
                    handle.block_on(release.notified());
                })
                .await;
            }));
            has_begun.await.expect("begun");
        }
        assert_eq!(pool.run(MAX_IN_PLACE, || 1).await, 1);
        release.notify_one();
        release.notify_one();
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
