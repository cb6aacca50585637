//! A bound on log lines that strangers can cause.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

const WINDOW: Duration = Duration::from_secs(60);

/// Lets so many lines of each kind through in a minute. What is left out is counted, and the next line says how much it was.
#[derive(Debug)]
pub struct LogLimit {
    per_minute: u32,
    /// By kind; kinds are named in the code, so there are few.
    windows: Mutex<HashMap<&'static str, Window>>,
}

#[derive(Debug)]
struct Window {
    began: Instant,
    lines: u32,
    left_out: u64,
}

impl LogLimit {
    /// A limit of `per_minute` lines of each kind.
    pub fn new(per_minute: u32) -> Self {
        Self { per_minute, windows: Mutex::default() }
    }

    /// Whether a line of this `kind` may be written now: how many were left out since the last one, or `None`.
    pub fn admit(&self, kind: &'static str) -> Option<u64> {
        self.admit_at(kind, Instant::now())
    }

    fn admit_at(&self, kind: &'static str, now: Instant) -> Option<u64> {
        let mut windows = self.windows.lock().unwrap_or_else(PoisonError::into_inner);
        let window = windows.entry(kind).or_insert(Window { began: now, lines: 0, left_out: 0 });
        if now.saturating_duration_since(window.began) >= WINDOW {
            (window.began, window.lines) = (now, 0);
        }
        if window.lines >= self.per_minute {
            window.left_out += 1;
            return None;
        }
        window.lines += 1;
        Some(std::mem::take(&mut window.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_one_kind_is_a_few_lines_a_minute_and_hides_no_other_kind() {
        let (limit, start) = (LogLimit::new(3), Instant::now());
        let admitted = (0..1_000).filter_map(|_| limit.admit_at("bad_signature", start)).count();
        assert_eq!(admitted, 3);
        assert_eq!(limit.admit_at("unavailable", start), Some(0));
        assert_eq!(limit.admit_at("bad_signature", start + WINDOW), Some(997), "it says how many were left out");
        assert_eq!(limit.admit_at("bad_signature", start + WINDOW), Some(0));
    }
}
