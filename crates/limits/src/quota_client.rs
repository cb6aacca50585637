//! Quota of some limits, for all callers of this process.

use std::time::{Duration, Instant};

use ledger::{Ledger, RateLimitTerms};
use retry::{QuotaReport, RateLimited, Shortage};
use tokio::sync::{mpsc, oneshot, watch};

use crate::{
    TaskHealth,
    quota_actor::{QuotaActor, QuotaMessage, Usage, Waiter},
};

/// Acquires quota from the ledger for those who wait here, in the order in which they came. Cheap to clone; clones share what
/// was acquired.
#[derive(Debug, Clone)]
pub struct QuotaClient {
    messages: mpsc::UnboundedSender<QuotaMessage>,
    limits: usize,
    usage: watch::Receiver<Usage>,
}

impl QuotaClient {
    /// A client for the limits with these `terms`. `share` is the part of each limit that its callers may use up, from 0 to 1.
    /// `health` knows whether the task behind it works.
    pub fn open(ledger: Ledger, terms: Vec<RateLimitTerms>, share: f64, health: &TaskHealth) -> Self {
        let (messages, inbox) = mpsc::unbounded_channel();
        let limits = terms.len();
        let (publish, usage) = watch::channel(Usage { share: 0.0, at: Instant::now() });
        let actor = QuotaActor::new(ledger, terms, share, inbox, publish, health.of_one_task());
        tokio::spawn(actor.run_until_closed());
        Self { messages, limits, usage }
    }

    /// Waits until `costs` (one for each limit) can be used, but not longer than `max_wait`.
    pub async fn acquire(&self, costs: Vec<i64>, max_wait: Duration) -> Result<Acquired, RateLimited> {
        debug_assert_eq!(costs.len(), self.limits);
        let (reply, result) = oneshot::channel();
        let refunds = self.messages.clone();
        let waiter = Waiter { costs, wait_until: Instant::now() + max_wait, refunds, reply };
        // The actor begins anew after a panic, without those who waited; it ends only with the process's runtime.
        let stopped = RateLimited { after: max_wait, shortage: Shortage::Unknown };
        self.messages.send(QuotaMessage::Acquire(waiter)).map_err(|_| stopped)?;
        result.await.unwrap_or(Err(stopped))
    }

    /// Which part is used of what callers here may use up: what the ledger said when quota was last acquired, less what has left the
    /// `window` since, if it was used evenly.
    pub fn used_share(&self, window: Duration) -> f64 {
        let usage = *self.usage.borrow();
        usage.share * (1.0 - usage.at.elapsed().div_duration_f64(window)).max(0.0)
    }

    /// Returns `unused` of what was acquired of a limit (by its place in the terms). Negative: more was used than acquired.
    pub fn refund(&self, limit: usize, slice: i64, unused: i64) {
        refund(&self.messages, limit, slice, unused);
    }

    /// Reports what the answer to a call that was sent at `sent` says about each limit. After a rejection also for how long no
    /// caller of the fleet may acquire quota.
    pub fn report(&self, reports: Vec<Option<QuotaReport>>, sent: Instant, hold: Option<Duration>) {
        if hold.is_some() || reports.iter().any(Option::is_some) {
            let _ = self.messages.send(QuotaMessage::Report { reports, sent, hold });
        }
    }
}

fn refund(messages: &mpsc::UnboundedSender<QuotaMessage>, limit: usize, slice: i64, unused: i64) {
    if unused != 0 {
        let _ = messages.send(QuotaMessage::Refund { limit, slice, unused });
    }
}

/// Quota that a caller has. What it does not keep goes back to its limits when this is dropped, also when the caller was
/// cancelled before it got to know of it.
#[derive(Debug)]
pub struct Acquired {
    refunds: mpsc::UnboundedSender<QuotaMessage>,
    costs: Vec<i64>,
    /// The time slice that each cost was taken from; empty when it is kept.
    slices: Vec<i64>,
}

impl Acquired {
    pub(crate) fn new(refunds: mpsc::UnboundedSender<QuotaMessage>, costs: Vec<i64>, slices: Vec<i64>) -> Self {
        Self { refunds, costs, slices }
    }

    /// Keeps it all. Returns the time slices, for [`QuotaClient::refund`].
    pub fn keep(&mut self) -> Vec<i64> {
        std::mem::take(&mut self.slices)
    }

    /// Keeps `used` of each limit and gives the rest back; takes more from the limits if it was more than acquired.
    pub fn settle(&mut self, used: i64) {
        let slices = self.keep();
        for (limit, (cost, slice)) in self.costs.iter().zip(slices).enumerate() {
            refund(&self.refunds, limit, slice, cost.saturating_sub(used));
        }
    }
}

impl Drop for Acquired {
    fn drop(&mut self) {
        self.settle(0);
    }
}
