//! What a purse has in hand of one budget: lots, each of a slice and worth nothing after its time.

use std::{collections::VecDeque, time::Instant};

/// What was borrowed and is not used yet, the oldest first.
#[derive(Debug, Default)]
pub struct Lots(VecDeque<Lot>);

#[derive(Debug)]
struct Lot {
    slice: i64,
    left: i64,
    until: Instant,
}

impl Lots {
    /// Adds what was lent.
    pub fn add(&mut self, slice: i64, amount: i64, until: Instant) {
        if amount > 0 {
            self.0.push_back(Lot { slice, left: amount, until });
        }
    }

    /// What is in hand.
    pub fn sum(&self) -> i64 {
        self.0.iter().map(|lot| lot.left).sum()
    }

    /// Takes `amount`, which must be in hand, and says in which slice (the last of it) it was borrowed.
    pub fn take(&mut self, mut amount: i64) -> i64 {
        let mut slice = 0;
        while let Some(lot) = self.0.front_mut().filter(|_| amount > 0) {
            let part = amount.min(lot.left);
            amount -= part;
            lot.left -= part;
            slice = lot.slice;
            if lot.left == 0 {
                self.0.pop_front();
            }
        }
        slice
    }

    /// Takes out what is worth nothing any more: slices and amounts, to be given back.
    pub fn expired(&mut self, now: Instant) -> Vec<(i64, i64)> {
        let mut expired = Vec::new();
        self.0.retain(|lot| {
            let is_over = lot.until <= now;
            if is_over {
                expired.push((lot.slice, lot.left));
            }
            !is_over
        });
        expired
    }

    /// When the first of it will be worth nothing.
    pub fn first_end(&self) -> Option<Instant> {
        self.0.iter().map(|lot| lot.until).min()
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::Lots;

    #[test]
    fn the_oldest_is_used_first_and_what_is_over_is_given_back() {
        let now = Instant::now();
        let mut lots = Lots::default();
        lots.add(7, 2, now + Duration::from_secs(1));
        lots.add(8, 5, now + Duration::from_secs(2));
        assert_eq!((lots.take(1), lots.sum()), (7, 6));
        assert_eq!((lots.take(2), lots.sum()), (8, 4), "one of the old lot, one of the new");
        assert_eq!(lots.expired(now + Duration::from_secs(1)), vec![]);
        assert_eq!(lots.expired(now + Duration::from_secs(2)), vec![(8, 4)]);
        assert_eq!((lots.sum(), lots.first_end()), (0, None));
    }
}
