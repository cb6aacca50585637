//! Whether a service can do its work: its dependencies are asked, and not more often than needed.

use std::{
    pin::Pin,
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::{Duration, Instant},
};

use futures_util::{
    FutureExt,
    future::{BoxFuture, Shared, join_all},
};

use crate::error::ServiceFailure;

type Check = Box<dyn Fn() -> Pin<Box<dyn Future<Output = Result<(), ServiceFailure>> + Send>> + Send + Sync>;

type Note = Box<dyn Fn() -> Option<String> + Send + Sync>;

/// The checks that `/readyz` runs, one for each dependency of the service.
#[derive(Default)]
pub struct Readiness {
    checks: Vec<(&'static str, Check)>,
    notes: Vec<Note>,
}

impl Readiness {
    /// Adds the check of the dependency `name`. The error that it returns is shown by `/readyz`.
    #[must_use]
    pub fn with<F, Fut>(mut self, name: &'static str, check: F) -> Self
    where
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), ServiceFailure>> + Send + 'static,
    {
        self.checks.push((name, Box::new(move || Box::pin(check()))));
        self
    }

    /// Adds a warning that `/readyz` shows and that leaves the service ready; `None` while there is nothing to warn about.
    #[must_use]
    pub fn with_note(mut self, note: impl Fn() -> Option<String> + Send + Sync + 'static) -> Self {
        self.notes.push(Box::new(note));
        self
    }

    /// Asks every dependency at the same time; what has not answered after `timeout` counts as failed.
    async fn ask(&self, timeout: Duration) -> Report {
        let checks = self.checks.iter().map(|(name, check)| async move {
            let result = tokio::time::timeout(timeout, check()).await;
            (name, result.unwrap_or_else(|_| Err("no answer in time".into())))
        });
        let mut report = Report { is_ready: true, lines: String::new() };
        for (name, result) in join_all(checks).await {
            match result {
                Ok(()) => report.lines.push_str(&format!("{name}: ok\n")),
                Err(error) => {
                    report.is_ready = false;
                    report.lines.push_str(&format!("{name}: {error}\n"));
                }
            }
        }
        for note in self.notes.iter().filter_map(|note| note()) {
            report.lines.push_str(&format!("warning: {note}\n"));
        }
        report
    }
}

/// What the dependencies answered.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) is_ready: bool,
    /// One for each check.
    pub(crate) lines: String,
}

/// A report that may still be on its way.
#[derive(Clone)]
struct Asked {
    report: Shared<BoxFuture<'static, Arc<Report>>>,
    /// When the dependencies had answered, whether or not anybody waited for it.
    answered: Arc<OnceLock<Instant>>,
}

/// Notes the time when it is dropped, also when a check panics.
struct AnsweredNow(Arc<OnceLock<Instant>>);

impl Drop for AnsweredNow {
    fn drop(&mut self) {
        self.0.get_or_init(Instant::now);
    }
}

/// Readiness that is asked for at most once in a while, however many want to know it.
pub(crate) struct CachedReadiness {
    readiness: Arc<Readiness>,
    timeout: Duration,
    keep: Duration,
    last: Mutex<Option<Asked>>,
}

impl CachedReadiness {
    /// Asks within `timeout`, and gives the same answer for the time `keep`.
    pub(crate) fn new(readiness: Readiness, timeout: Duration, keep: Duration) -> Self {
        Self { readiness: Arc::new(readiness), timeout, keep, last: Mutex::default() }
    }

    /// What the dependencies answer, or answered a moment ago.
    pub(crate) async fn report(&self) -> Arc<Report> {
        let report = {
            let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
            let is_current = |asked: &&Asked| asked.answered.get().is_none_or(|at| at.elapsed() < self.keep);
            let current = last.as_ref().filter(is_current).cloned();
            current.unwrap_or_else(|| last.insert(self.ask()).clone()).report
        };
        report.await
    }

    /// Asks in a task of its own, which goes on when the client that caused it is gone: clients that come and go would
    /// otherwise ask again each time.
    fn ask(&self) -> Asked {
        let (readiness, timeout) = (self.readiness.clone(), self.timeout);
        let answered = Arc::new(OnceLock::new());
        let now = AnsweredNow(answered.clone());
        let asked = tokio::spawn(async move {
            let _now = now;
            readiness.ask(timeout).await
        });
        let report = async move {
            Arc::new(
                asked.await.unwrap_or_else(|error| Report { is_ready: false, lines: format!("checks: {error}\n") }),
            )
        };
        Asked { report: report.boxed().shared(), answered }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    #[tokio::test]
    async fn an_answer_for_which_nobody_waited_is_no_answer_for_those_who_ask_later() {
        let is_well = Arc::new(AtomicBool::new(true));
        let asked = is_well.clone();
        let check = move || {
            let is_well = asked.load(Ordering::SeqCst);
            async move { if is_well { Ok(()) } else { Err("gone".into()) } }
        };
        let cached =
            CachedReadiness::new(Readiness::default().with("ledger", check), Duration::from_secs(30), Duration::ZERO);
        // The client hangs up at once, and the check goes on to its end.
        assert!(cached.report().now_or_never().is_none());
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        is_well.store(false, Ordering::SeqCst);
        assert!(!cached.report().await.is_ready);
    }
}
