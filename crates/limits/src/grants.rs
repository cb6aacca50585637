//! What a quota client has in hand of one budget: grants, each of a slice and worth nothing after its time.

use std::{collections::VecDeque, time::Instant};

/// What was acquired and is not used yet, the oldest first.
#[derive(Debug, Default)]
pub struct Grants(VecDeque<SliceGrant>);

#[derive(Debug)]
struct SliceGrant {
    slice: i64,
    left: i64,
    until: Instant,
}

impl Grants {
    /// Adds what was lent.
    pub fn add(&mut self, slice: i64, amount: i64, until: Instant) {
        if amount > 0 {
            self.0.push_back(SliceGrant { slice, left: amount, until });
        }
    }

    /// What is in hand.
    pub fn sum(&self) -> i64 {
        self.0.iter().map(|grant| grant.left).sum()
    }

    /// Takes `amount`, which must be in hand, and says in which slice (the last of it) it was acquired.
    pub fn take(&mut self, mut amount: i64) -> i64 {
        let mut slice = 0;
        while let Some(grant) = self.0.front_mut().filter(|_| amount > 0) {
            let part = amount.min(grant.left);
            amount -= part;
            grant.left -= part;
            slice = grant.slice;
            if grant.left == 0 {
                self.0.pop_front();
            }
        }
        slice
    }

    /// Takes out what is worth nothing any more: slices and amounts, to be given back.
    pub fn expired(&mut self, now: Instant) -> Vec<(i64, i64)> {
        let mut expired = Vec::new();
        self.0.retain(|grant| {
            let is_over = grant.until <= now;
            if is_over {
                expired.push((grant.slice, grant.left));
            }
            !is_over
        });
        expired
    }

    /// When the first of it will be worth nothing.
    pub fn first_end(&self) -> Option<Instant> {
        self.0.iter().map(|grant| grant.until).min()
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::Grants;

    #[test]
    fn the_oldest_is_used_first_and_what_is_over_is_given_back() {
        let now = Instant::now();
        let mut grants = Grants::default();
        grants.add(7, 2, now + Duration::from_secs(1));
        grants.add(8, 5, now + Duration::from_secs(2));
        assert_eq!((grants.take(1), grants.sum()), (7, 6));
        assert_eq!((grants.take(2), grants.sum()), (8, 4), "one of the old grant, one of the new");
        assert_eq!(grants.expired(now + Duration::from_secs(1)), vec![]);
        assert_eq!(grants.expired(now + Duration::from_secs(2)), vec![(8, 4)]);
        assert_eq!((grants.sum(), grants.first_end()), (0, None));
    }
}
