//! The quota of one limit that this process holds: grants that each belong to a time slice and expire.

use std::{collections::VecDeque, time::Instant};

/// What was acquired and is not used yet, the oldest first.
#[derive(Debug, Default)]
pub struct Grants(VecDeque<SliceGrant>);

#[derive(Debug)]
struct SliceGrant {
    slice: i64,
    remaining: i64,
    expires_at: Instant,
}

impl Grants {
    /// Adds what was acquired in `slice`.
    pub fn add(&mut self, slice: i64, amount: i64, expires_at: Instant) {
        if amount > 0 {
            self.0.push_back(SliceGrant { slice, remaining: amount, expires_at });
        }
    }

    /// How much can be used.
    pub fn available(&self) -> i64 {
        self.0.iter().map(|grant| grant.remaining).sum()
    }

    /// Uses `amount`, which must be available, from the oldest grants. Returns the slice of the last grant that it took from.
    pub fn take(&mut self, mut amount: i64) -> i64 {
        let mut slice = 0;
        while let Some(grant) = self.0.front_mut().filter(|_| amount > 0) {
            let part = amount.min(grant.remaining);
            amount -= part;
            grant.remaining -= part;
            slice = grant.slice;
            if grant.remaining == 0 {
                self.0.pop_front();
            }
        }
        slice
    }

    /// Removes what has expired, and returns it as slices and amounts, to be given back to the ledger.
    pub fn remove_expired(&mut self, now: Instant) -> Vec<(i64, i64)> {
        let mut expired = Vec::new();
        self.0.retain(|grant| {
            let is_expired = grant.expires_at <= now;
            if is_expired {
                expired.push((grant.slice, grant.remaining));
            }
            !is_expired
        });
        expired
    }

    /// When the next grant expires.
    pub fn next_expiry(&self) -> Option<Instant> {
        self.0.iter().map(|grant| grant.expires_at).min()
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::Grants;

    #[test]
    fn the_oldest_grant_is_used_first_and_what_has_expired_is_returned() {
        let now = Instant::now();
        let mut grants = Grants::default();
        grants.add(7, 2, now + Duration::from_secs(1));
        grants.add(8, 5, now + Duration::from_secs(2));
        assert_eq!((grants.take(1), grants.available()), (7, 6));
        assert_eq!((grants.take(2), grants.available()), (8, 4), "one of the old grant, one of the new");
        assert_eq!(grants.remove_expired(now + Duration::from_secs(1)), vec![]);
        assert_eq!(grants.remove_expired(now + Duration::from_secs(2)), vec![(8, 4)]);
        assert_eq!((grants.available(), grants.next_expiry()), (0, None));
    }
}
