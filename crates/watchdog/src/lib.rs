//! Tells whether the long-lived tasks of a process get on with their work. `/livez` fails while one of them does not, and what runs
//! the process (Kubernetes, for example) starts it again.
//!
//! Every call that a task makes has a bound of its own. The watchdog is for what those bounds miss: a task that waits for ever looks
//! from outside like one that has nothing to do.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::{Duration, Instant},
};

/// The tasks of this process that are watched.
static WATCHED: Mutex<Vec<Weak<Work>>> = Mutex::new(Vec::new());

/// A piece of work that is under way.
#[derive(Debug)]
struct Work {
    task: &'static str,
    limit: Duration,
    began: Instant,
}

/// A task that has been at one piece of work for longer than it may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HungTask {
    /// The task.
    pub task: &'static str,
    /// How long it has been at it.
    pub took: Duration,
    /// How long it may take.
    pub limit: Duration,
}

impl fmt::Display for HungTask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { task, took, limit } = self;
        write!(f, "{task}: at one piece of work for {} s, which takes {} s at most", took.as_secs(), limit.as_secs())
    }
}

/// Does `work` as a piece of the work of `task`, which takes `limit` at most.
pub async fn watch<T>(task: &'static str, limit: Duration, work: impl Future<Output = T>) -> T {
    let under_way = Arc::new(Work { task, limit, began: Instant::now() });
    watched().push(Arc::downgrade(&under_way));
    let result = work.await;
    drop(under_way);
    result
}

/// The tasks that hang now.
pub fn hung_tasks() -> Vec<HungTask> {
    let under_way = watched();
    let late = under_way.iter().filter_map(Weak::upgrade).filter_map(|work| {
        let took = work.began.elapsed();
        (took > work.limit).then_some(HungTask { task: work.task, took, limit: work.limit })
    });
    late.collect()
}

/// What is under way. Work that has ended is forgotten here, each time something begins.
fn watched() -> MutexGuard<'static, Vec<Weak<Work>>> {
    let mut watched = WATCHED.lock().unwrap_or_else(PoisonError::into_inner);
    watched.retain(|work| work.strong_count() > 0);
    watched
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{hung_tasks, watch};

    fn is_hung(task: &str) -> bool {
        hung_tasks().iter().any(|hung| hung.task == task)
    }

    #[tokio::test]
    async fn work_that_takes_too_long_is_seen_until_it_ends() {
        let (finish, finished) = tokio::sync::oneshot::channel::<()>();
        let work = tokio::spawn(watch("slow", Duration::ZERO, finished));
        tokio::task::yield_now().await;
        assert!(is_hung("slow"));
        finish.send(()).expect("it waits");
        work.await.expect("no panic").expect("finished");
        assert!(!is_hung("slow"));
    }

    #[tokio::test]
    async fn work_that_is_cancelled_or_in_time_does_not_hang() {
        let cancelled = tokio::spawn(watch("cancelled", Duration::ZERO, std::future::pending::<()>()));
        tokio::task::yield_now().await;
        assert!(is_hung("cancelled"));
        cancelled.abort();
        let _ = cancelled.await;
        assert!(!is_hung("cancelled"));
        let _in_time = tokio::spawn(watch("in time", Duration::from_secs(3_600), std::future::pending::<()>()));
        tokio::task::yield_now().await;
        assert!(!is_hung("in time"));
    }
}
