//! How much was used in the last moments.

use std::time::{Duration, Instant};

/// The sums of two periods: the current one, and the one before, by which the actor acquires quota ahead.
#[derive(Debug)]
pub struct RecentDemand {
    /// How long a period is.
    period: Duration,
    since: Instant,
    current: Period,
    previous: Period,
}

#[derive(Debug, Default, Clone)]
struct Period {
    /// What was used of each limit.
    used: Vec<i64>,
    calls: u32,
}

impl RecentDemand {
    /// As many calls in a second as single events make, five in the twentieth of a second that one takes.
    const FEW_CALLS: f64 = 100.0;

    /// No demand yet, for so many limits. With a `period` as long as a slice of theirs, what is acquired ahead is used before it expires.
    pub fn new(limits: usize, period: Duration) -> Self {
        let empty = Period { used: vec![0; limits], calls: 0 };
        Self { period, since: Instant::now(), current: empty.clone(), previous: empty }
    }

    /// Adds what a call uses of each limit.
    pub fn add(&mut self, costs: &[i64]) {
        self.advance();
        self.current.used.iter_mut().zip(costs).for_each(|(sum, cost)| *sum += cost);
        self.current.calls += 1;
    }

    /// How much of a limit was used in the previous period.
    pub fn previous(&mut self, limit: usize) -> i64 {
        self.advance();
        self.previous.used[limit]
    }

    /// Whether so many calls come that those of some milliseconds are worth one request.
    pub fn is_frequent(&mut self) -> bool {
        self.advance();
        let calls = self.current.calls.max(self.previous.calls);
        f64::from(calls) > Self::FEW_CALLS * self.period.as_secs_f64()
    }

    /// Begins a new period if the current one has ended.
    fn advance(&mut self) {
        let elapsed = self.since.elapsed();
        if elapsed >= self.period {
            let empty = Period { used: vec![0; self.current.used.len()], calls: 0 };
            self.previous = std::mem::replace(&mut self.current, empty.clone());
            if elapsed >= 2 * self.period {
                self.previous = empty;
            }
            self.since = Instant::now();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::RecentDemand;

    #[test]
    fn the_calls_of_one_event_are_not_frequent_and_those_of_many_are() {
        let mut demand = RecentDemand::new(1, Duration::from_millis(50));
        for _ in 0..5 {
            demand.add(&[1]);
            assert!(!demand.is_frequent());
        }
        // Repeated, because a slow machine may end a period at any time.
        let is_frequent = |_| {
            (0..=5).for_each(|_| demand.add(&[1]));
            demand.is_frequent()
        };
        assert!((0..1_000).any(is_frequent));
    }
}
