//! How far something is that takes longer than one waits without a word: one line on the standard error output, where a terminal shows it.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::task::JoinHandle;

use super::visible;
use crate::times::duration;

/// What takes less long needs no words.
const PATIENCE: Duration = Duration::from_secs(2);

/// How often the line is drawn anew.
const TICK: Duration = Duration::from_millis(200);

/// The line that is shown: whatever else is printed goes above it.
static SHOWN: Mutex<Option<ProgressBar>> = Mutex::new(None);

/// Does something while no line of progress is on the terminal.
pub fn out_of_the_way<T>(print: impl FnOnce() -> T) -> T {
    // Only a clone: what is printed may come from within the bar's own calls.
    let bar = SHOWN.lock().unwrap_or_else(PoisonError::into_inner).clone();
    match bar {
        Some(bar) => bar.suspend(print),
        None => print(),
    }
}

/// How far something is. The line goes when this is dropped.
pub struct Progress {
    bar: ProgressBar,
    begun: Instant,
    /// What is counted, for example `events queued`.
    what: &'static str,
    total: u64,
    later: JoinHandle<()>,
}

impl Progress {
    /// Something that has `total` parts, or of which that is not known (0). `what` says it: "12 of 40 `replayed`".
    pub fn start(what: &'static str, total: impl TryInto<u64>) -> Self {
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden());
        if let Ok(style) = ProgressStyle::with_template("{spinner} {wide_msg}") {
            bar.set_style(style);
        }
        let shown = bar.clone();
        let later = tokio::spawn(async move {
            tokio::time::sleep(PATIENCE).await;
            // Draws nothing where the standard error output is no terminal.
            shown.set_draw_target(ProgressDrawTarget::stderr());
            shown.enable_steady_tick(TICK);
            *SHOWN.lock().unwrap_or_else(PoisonError::into_inner) = Some(shown);
        });
        let progress = Self { bar, begun: Instant::now(), what, total: total.try_into().unwrap_or(0), later };
        progress.tell(0);
        progress
    }

    /// So many parts are done.
    pub fn tell(&self, done: impl TryInto<u64>) {
        self.tell_with(done, "");
    }

    /// So many parts are done, and what else there is to say.
    pub fn tell_with(&self, done: impl TryInto<u64>, more: &str) {
        let done = done.try_into().unwrap_or(0);
        self.bar.set_message(visible(&words(self.what, done, self.total, self.begun.elapsed(), more)));
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.later.abort();
        *SHOWN.lock().unwrap_or_else(PoisonError::into_inner) = None;
        self.bar.finish_and_clear();
    }
}

/// How far it is after `took`, and about how long it takes at the pace so far.
fn words(what: &str, done: u64, total: u64, took: Duration, more: &str) -> String {
    let more = if more.is_empty() { String::new() } else { format!(", {more}") };
    match (done, total) {
        (0, 0) => format!("{what}{more}, for {} so far", duration(took)),
        (_, 0) => format!("{done} {what}{more}"),
        (0, _) => format!("0 of {total} {what}{more}"),
        // An estimate of the whole may be too small.
        _ if done >= total => format!("{done} {what}{more}, almost done"),
        _ => {
            #[expect(clippy::cast_precision_loss, reason = "an estimate")]
            let left = took.mul_f64((total - done) as f64 / done as f64);
            format!("{done} of {total} {what}{more}, about {} left", duration(left))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::words;

    #[test]
    fn the_estimate_goes_on_at_the_pace_so_far() {
        let took = Duration::from_secs(20);
        assert_eq!(words("answered", 10, 40, took, ""), "10 of 40 answered, about 1 min 0 s left");
        assert_eq!(
            words("answered", 10, 40, took, "$0.001500 so far"),
            "10 of 40 answered, $0.001500 so far, about 1 min 0 s left"
        );
        assert_eq!(words("answered", 0, 40, took, ""), "0 of 40 answered");
        assert_eq!(words("rows erased", 13_200, 13_000, took, ""), "13200 rows erased, almost done");
        assert_eq!(words("records found", 300, 0, took, ""), "300 records found");
        assert_eq!(words("waits for a table", 0, 0, took, ""), "waits for a table, for 20 s so far");
    }
}
