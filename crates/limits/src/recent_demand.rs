//! How much was used in the last moments.

use std::time::{Duration, Instant};

/// The sums of two periods: the current one, and the one before, by which the actor acquires quota ahead.
#[derive(Debug)]
pub struct RecentDemand {
    since: Instant,
    current: Vec<i64>,
    previous: Vec<i64>,
}

impl RecentDemand {
    /// About as long as a time slice of a limit: what is acquired ahead is then used before it expires.
    const PERIOD: Duration = Duration::from_millis(50);

    /// No demand yet, for so many limits.
    pub fn new(limits: usize) -> Self {
        Self { since: Instant::now(), current: vec![0; limits], previous: vec![0; limits] }
    }

    /// Adds what a call uses of each limit.
    pub fn add(&mut self, costs: &[i64]) {
        self.advance();
        self.current.iter_mut().zip(costs).for_each(|(sum, cost)| *sum += cost);
    }

    /// How much of a limit was used in the previous period.
    pub fn previous(&mut self, limit: usize) -> i64 {
        self.advance();
        self.previous[limit]
    }

    /// Begins a new period if the current one has ended.
    fn advance(&mut self) {
        let elapsed = self.since.elapsed();
        if elapsed >= Self::PERIOD {
            let empty = vec![0; self.current.len()];
            self.previous = std::mem::replace(&mut self.current, empty.clone());
            if elapsed >= 2 * Self::PERIOD {
                self.previous = empty;
            }
            self.since = Instant::now();
        }
    }
}
