//! How much was used in the last moments.

use std::time::{Duration, Instant};

/// The sums of two periods: the current one, and the one before, by which the actor acquires quota ahead.
#[derive(Debug)]
pub struct RecentDemand {
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
    /// About as long as a time slice of a limit: what is acquired ahead is then used before it expires.
    const PERIOD: Duration = Duration::from_millis(50);

    /// As many calls as a single event makes in a period.
    const FEW_CALLS: u32 = 5;

    /// No demand yet, for so many limits.
    pub fn new(limits: usize) -> Self {
        let empty = Period { used: vec![0; limits], calls: 0 };
        Self { since: Instant::now(), current: empty.clone(), previous: empty }
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
        self.current.calls.max(self.previous.calls) > Self::FEW_CALLS
    }

    /// Begins a new period if the current one has ended.
    fn advance(&mut self) {
        let elapsed = self.since.elapsed();
        if elapsed >= Self::PERIOD {
            let empty = Period { used: vec![0; self.current.used.len()], calls: 0 };
            self.previous = std::mem::replace(&mut self.current, empty.clone());
            if elapsed >= 2 * Self::PERIOD {
                self.previous = empty;
            }
            self.since = Instant::now();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::RecentDemand;

    #[test]
    fn the_calls_of_one_event_are_not_frequent_and_those_of_many_are() {
        let mut demand = RecentDemand::new(1);
        for _ in 0..RecentDemand::FEW_CALLS {
            demand.add(&[1]);
            assert!(!demand.is_frequent());
        }
        // Repeated, because a slow machine may end a period at any time.
        let is_frequent = |_| {
            (0..=RecentDemand::FEW_CALLS).for_each(|_| demand.add(&[1]));
            demand.is_frequent()
        };
        assert!((0..1_000).any(is_frequent));
    }
}
