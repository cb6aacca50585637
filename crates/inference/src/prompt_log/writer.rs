//! Writes lines beside the work on events, which have been paid for and must be committed in time.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use tokio::sync::Semaphore;

use crate::TextPool;

/// The most bytes of lines that wait to be written. Lines beyond them are left out, so that a slow log costs lines and no memory.
const MAX_WAITING_BYTES: usize = 16 * 1024 * 1024;

/// Writes lines on threads of its own: events do not wait for those that redact.
#[derive(Debug, Clone)]
pub(super) struct Writer {
    waiting: Arc<Semaphore>,
    threads: TextPool,
}

impl Default for Writer {
    fn default() -> Self {
        Self { waiting: Arc::new(Semaphore::new(MAX_WAITING_BYTES)), threads: TextPool::new(1) }
    }
}

impl Writer {
    /// Has `write` write a line of about `bytes` bytes, soon, or never while too many wait. A panic of it ends its line alone.
    pub(super) fn submit(&self, bytes: usize, write: impl FnOnce() + Send + 'static) {
        // A line that is longer than all that may wait waits alone.
        let permits = u32::try_from(bytes.min(MAX_WAITING_BYTES)).unwrap_or(u32::MAX);
        let Ok(permit) = self.waiting.clone().try_acquire_many_owned(permits) else {
            count("left_out");
            return;
        };
        let threads = self.threads.clone();
        // Not in the span of the event, which ends when its message is done.
        tokio::spawn(async move {
            let written = threads.run(bytes, move || catch_unwind(AssertUnwindSafe(write))).await;
            count(if written.is_ok() { "written" } else { "failed" });
            drop(permit);
        });
    }
}

fn count(outcome: &'static str) {
    metrics::counter!("leadline_prompt_log_lines_total", "outcome" => outcome).increment(1);
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use metrics_exporter_prometheus::PrometheusBuilder;
    use tokio::sync::oneshot;

    use super::{MAX_WAITING_BYTES, Writer};

    #[tokio::test]
    async fn a_log_that_is_slow_or_broken_costs_lines_and_nothing_else() {
        let recorder = PrometheusBuilder::new().build_recorder();
        let handle = recorder.handle();
        let _recorder = metrics::set_default_local_recorder(&recorder);
        let writer = Writer::default();

        let (release, slow) = mpsc::channel::<()>();
        let (wrote, written) = oneshot::channel();
        writer.submit(MAX_WAITING_BYTES - 1, move || {
            let _ = slow.recv();
            let _ = wrote.send(());
        });
        // None of these waits, and the one that has no room is left out.
        writer.submit(2, || unreachable!("it is left out"));
        let (failed, has_failed) = oneshot::channel::<()>();
        writer.submit(1, move || {
            let _failed = failed;
            panic!("of this line");
        });
        assert!(has_failed.await.is_err(), "it was tried while the first one still waits");
        drop(release);
        written.await.expect("the slow one, too");
        // All of them are done when there is room for as much again.
        let all = u32::try_from(MAX_WAITING_BYTES).expect("fits");
        drop(writer.waiting.acquire_many(all).await.expect("open"));
        for outcome in ["left_out", "failed", "written"] {
            let line = format!("leadline_prompt_log_lines_total{{outcome=\"{outcome}\"}} 1");
            assert!(handle.render().contains(&line), "{line} in\n{}", handle.render());
        }
    }
}
