//! What is to be told to the ledger: what answers said, rejections, and what was not used.

use std::time::{Duration, Instant};

use ledger::{ObservedQuota, Refund};
use retry::QuotaReport;

/// Refunds are sent with the next request to the ledger, and at the latest after this time.
const REFUND_WITHIN: Duration = Duration::from_millis(500);

/// When less than one part in so many of a quota remains, the ledger is told at once.
const SCARCE: i64 = 10;

/// What the next request tells the ledger, besides what it asks for.
pub struct Outgoing {
    /// What answers said about each limit.
    observed: Vec<Option<ObservedQuota>>,
    /// When the call was sent whose answer is the newest of `observed`.
    observed_sent: Instant,
    /// After a rejection: for how long nothing is to be granted.
    pub hold: Option<Duration>,
    /// What was acquired and not used.
    pub refunds: Vec<Refund>,
    /// When the first of `refunds` was added.
    refunds_since: Option<Instant>,
    /// Whether this cannot wait until quota is needed.
    pub is_urgent: bool,
}

impl Outgoing {
    /// Nothing to tell, of so many limits.
    pub fn new(limits: usize) -> Self {
        Self {
            observed: vec![None; limits],
            observed_sent: Instant::now(),
            hold: None,
            refunds: Vec::new(),
            refunds_since: None,
            is_urgent: false,
        }
    }

    /// Adds what was not used of a limit in a slice.
    pub fn add_refund(&mut self, limit: usize, slice: i64, amount: i64) {
        self.refunds_since.get_or_insert_with(Instant::now);
        match self.refunds.iter_mut().find(|refund| (refund.limit, refund.slice) == (limit, slice)) {
            Some(refund) => refund.amount = refund.amount.saturating_add(amount),
            None => self.refunds.push(Refund { limit, slice, amount }),
        }
    }

    /// Adds what the answer to a call that was sent at `sent` says about each limit.
    pub fn add_reports(&mut self, reports: Vec<Option<QuotaReport>>, sent: Instant) {
        self.observed_sent = sent;
        for (observed, report) in self.observed.iter_mut().zip(reports) {
            let Some(report) = report else { continue };
            let (quota, remaining) = (report.quota(), report.remaining());
            // One request carries the newest report. It can wait for the next request, unless little remains.
            self.is_urgent |= remaining.saturating_mul(SCARCE) < quota && observed.is_none();
            *observed = Some(ObservedQuota { quota, remaining, age: Duration::ZERO });
        }
    }

    /// Adds a rejection: nothing is to be granted for as long.
    pub fn add_hold(&mut self, hold: Duration) {
        self.hold = Some(self.hold.unwrap_or_default().max(hold));
        self.is_urgent = true;
    }

    /// The reports with their present age.
    pub fn observed(&self) -> Vec<Option<ObservedQuota>> {
        let age = self.observed_sent.elapsed();
        self.observed.iter().map(|observed| observed.map(|observed| ObservedQuota { age, ..observed })).collect()
    }

    /// When the refunds must be sent at the latest.
    pub fn refunds_due_at(&self) -> Option<Instant> {
        self.refunds_since.map(|since| since + REFUND_WITHIN)
    }

    /// The ledger does not answer: they are sent later.
    pub fn delay_refunds(&mut self) {
        self.refunds_since = self.refunds_since.map(|_| Instant::now());
    }

    /// Whether the refunds must be sent now.
    pub fn is_late(&self) -> bool {
        self.refunds_due_at().is_some_and(|due| due <= Instant::now())
    }

    /// The ledger has got it.
    pub fn clear(&mut self) {
        self.forget_reports();
        self.refunds.clear();
        self.refunds_since = None;
    }

    /// Forgets what others said. Returns whether there was anything.
    pub fn forget_reports(&mut self) -> bool {
        let said = self.hold.take().is_some() | self.observed.iter().any(Option::is_some);
        self.observed.fill(None);
        said
    }

    /// The ledger refuses the request itself, and would refuse it again. What others said is the first suspect; what is to be
    /// given back is let go when it is refused alone.
    pub fn drop_refused(&mut self) {
        if !self.forget_reports() {
            self.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use retry::QuotaReport;

    use super::Outgoing;

    #[test]
    fn what_the_ledger_refuses_is_not_said_again() {
        let mut outgoing = Outgoing::new(1);
        outgoing.add_reports(vec![QuotaReport::new(10, 5)], Instant::now());
        outgoing.add_hold(Duration::from_secs(1));
        outgoing.add_refund(0, 1, 5);
        outgoing.drop_refused();
        assert_eq!((outgoing.hold, outgoing.observed(), outgoing.refunds.len()), (None, vec![None], 1));
        outgoing.drop_refused();
        assert!(outgoing.refunds.is_empty() && !outgoing.is_late(), "it was refused alone");
    }
}
