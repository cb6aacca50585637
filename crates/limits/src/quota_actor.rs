//! The task behind a [`crate::quota_client::QuotaClient`]: it alone holds the quota, so that nothing is locked.

use std::{
    collections::VecDeque,
    panic::AssertUnwindSafe,
    time::{Duration, Instant},
};

use futures_util::FutureExt;
use ledger::{AcquireRequest, Grant, Ledger, LedgerError, RateLimitTerms, Window};
use retry::{QuotaReport, RateLimited, Shortage};
use tokio::sync::{mpsc, oneshot, watch};

use crate::{
    grants::Grants, outgoing::Outgoing, quota_client::Acquired, recent_demand::RecentDemand, task_health::OneTaskHealth,
};

/// A request is a statement or two. Each waits at most a minute for a connection and a minute for its answer (the settings' bounds), the
/// way there and back not counted.
const LONGEST_REQUEST: Duration = Duration::from_secs(300);

/// The pause after the ledger did not answer.
const PAUSE_AFTER_ERROR: Duration = Duration::from_millis(500);

/// The pause after a grant that was not enough, so that other replicas can acquire their part; and between requests while many calls come,
/// so that each request is for several.
const PAUSE_AFTER_GRANT: Duration = Duration::from_millis(15);

/// For how long quota of limits of a day alone is acquired ahead. A process that ends, or has nothing more to do, keeps as much until the
/// day ends.
const AHEAD_OF_A_DAY: Duration = Duration::from_millis(50);

/// What callers send to the actor.
#[derive(Debug)]
pub enum QuotaMessage {
    /// A caller waits for quota.
    Acquire(Waiter),
    /// Less (or, if negative, more) of a limit was used than acquired.
    Refund {
        /// The limit's place in the terms.
        limit: usize,
        /// The slice that it was taken from.
        slice: i64,
        /// How much.
        unused: i64,
    },
    /// What an answer says about the limits.
    Report {
        /// By limit.
        reports: Vec<Option<QuotaReport>>,
        /// When the call was sent.
        sent: Instant,
        /// After a rejection: for how long no caller may acquire quota.
        hold: Option<Duration>,
    },
}

/// A caller that waits.
#[derive(Debug)]
pub struct Waiter {
    /// What it needs of each limit.
    pub costs: Vec<i64>,
    /// When it stops waiting.
    pub wait_until: Instant,
    /// Where it gives back what it does not use.
    pub refunds: mpsc::UnboundedSender<QuotaMessage>,
    /// Gets the quota, or when to try again.
    pub reply: oneshot::Sender<Result<Acquired, RateLimited>>,
}

/// Answers the callers of a quota client in their order, and asks the ledger for what they need.
pub struct QuotaActor {
    limits: Limits,
    inbox: mpsc::UnboundedReceiver<QuotaMessage>,
    waiting: VecDeque<Waiter>,
    grants: Vec<Grants>,
    recent_demand: RecentDemand,
    outgoing: Outgoing,
    /// Callers that wait are not a reason to ask the ledger before this time.
    next_request_at: Instant,
    /// Why there is nothing for those who wait.
    shortage: Shortage,
    usage: watch::Sender<Usage>,
    health: OneTaskHealth,
}

/// The limits in the ledger.
struct Limits {
    ledger: Ledger,
    terms: Vec<RateLimitTerms>,
    names: Vec<String>,
    /// The part of each limit that callers here may use up.
    share: f64,
    is_defined: bool,
}

/// How much of the limits on a rolling window the ledger said was used.
#[derive(Debug, Clone, Copy)]
pub struct Usage {
    /// The part that is used of what callers here may use up. Of several limits the largest.
    pub share: f64,
    /// When the ledger was asked.
    pub at: Instant,
}

impl Limits {
    /// The largest share that is used of a limit on a rolling window. A day that is nearly used up is no reason to
    /// wait: it lasts for hours.
    fn used_share(&self, grant: &Grant) -> f64 {
        let rolling = self.terms.iter().zip(&grant.used_share).filter(|(terms, _)| terms.window != Window::Day);
        rolling.map(|(_, used)| used / self.share).fold(0.0, f64::max)
    }
}

impl QuotaActor {
    pub fn new(
        ledger: Ledger,
        terms: Vec<RateLimitTerms>,
        share: f64,
        inbox: mpsc::UnboundedReceiver<QuotaMessage>,
        usage: watch::Sender<Usage>,
        health: OneTaskHealth,
    ) -> Self {
        let names = terms.iter().map(|terms| terms.name.clone()).collect();
        let slice = terms.iter().filter_map(|terms| terms.window.slice()).min();
        Self {
            grants: terms.iter().map(|_| Grants::default()).collect(),
            recent_demand: RecentDemand::new(terms.len(), slice.unwrap_or(AHEAD_OF_A_DAY)),
            outgoing: Outgoing::new(terms.len()),
            limits: Limits { ledger, terms, names, share, is_defined: false },
            inbox,
            waiting: VecDeque::new(),
            next_request_at: Instant::now(),
            shortage: Shortage::Unknown,
            usage,
            health,
        }
    }

    /// Runs until all clients are gone. After a panic it begins anew: without those who waited, who try again later, and without
    /// what others said, which may be the cause.
    pub async fn run_until_closed(mut self) {
        while AssertUnwindSafe(self.run()).catch_unwind().await.is_err() {
            tracing::error!(limits = ?self.limits.names, "the task that acquires quota panicked; it begins anew");
            self.health.panicked();
            self.waiting.clear();
            self.outgoing.forget_reports();
            tokio::time::sleep(PAUSE_AFTER_ERROR).await;
        }
    }

    async fn run(&mut self) {
        loop {
            let message = match self.wake_at() {
                Some(at) => tokio::time::timeout_at(at.into(), self.inbox.recv()).await.ok(),
                None => Some(self.inbox.recv().await),
            };
            match message {
                Some(Some(message)) => self.receive(message),
                Some(None) => return,
                None => {}
            }
            while let Ok(message) = self.inbox.try_recv() {
                self.receive(message);
            }
            // Before those are answered for whom there will be nothing in time, and after: one of them may have been the first.
            self.serve();
            self.expire();
            self.serve();
            let is_due = !self.waiting.is_empty() && self.next_request_at <= Instant::now();
            if is_due || self.outgoing.is_late() || self.outgoing.is_urgent {
                watchdog::watch("quota", LONGEST_REQUEST, self.request()).await;
                self.serve();
            }
        }
    }

    /// When there is something to do even if no message arrives.
    fn wake_at(&self) -> Option<Instant> {
        let request = (!self.waiting.is_empty()).then_some(self.next_request_at);
        let refund = self.outgoing.refunds_due_at();
        let expiry = self.grants.iter().filter_map(Grants::next_expiry).min();
        let wait_end = self.waiting.iter().map(|waiter| waiter.wait_until).min();
        [request, refund, expiry, wait_end].into_iter().flatten().min()
    }

    fn receive(&mut self, message: QuotaMessage) {
        match message {
            QuotaMessage::Acquire(waiter) => self.waiting.push_back(waiter),
            QuotaMessage::Refund { limit, slice, unused } => self.outgoing.add_refund(limit, slice, unused),
            QuotaMessage::Report { reports, sent, hold } => {
                if let Some(hold) = hold {
                    self.outgoing.add_hold(hold);
                    let name = self.limits.names[0].clone();
                    metrics::counter!("leadline_rate_limit_rejections_total", "limit" => name).increment(1);
                }
                self.outgoing.add_reports(reports, sent);
            }
        }
    }

    /// Returns grants that were not used in time, and answers callers whose wait ends before there can be anything for them.
    fn expire(&mut self) {
        let now = Instant::now();
        for (limit, grants) in self.grants.iter_mut().enumerate() {
            for (slice, amount) in grants.remove_expired(now) {
                self.outgoing.add_refund(limit, slice, amount);
            }
        }
        let after = self.next_request_at.saturating_duration_since(now);
        for waiter in std::mem::take(&mut self.waiting) {
            if waiter.reply.is_closed() {
                continue;
            }
            if self.next_request_at > waiter.wait_until.max(now) {
                let _ = waiter.reply.send(Err(RateLimited { after, shortage: self.shortage }));
            } else {
                self.waiting.push_back(waiter);
            }
        }
    }

    /// Gives quota to the callers that wait, in their order, while there is enough for the first of them.
    fn serve(&mut self) {
        while let Some(first) = self.waiting.front() {
            if first.costs.iter().zip(&self.grants).any(|(cost, grants)| grants.available() < *cost) {
                return;
            }
            let Some(waiter) = self.waiting.pop_front() else { return };
            let slices = waiter.costs.iter().zip(&mut self.grants).map(|(cost, grants)| grants.take(*cost)).collect();
            self.recent_demand.add(&waiter.costs);
            self.health.worked();
            // If the caller no longer waits, what was acquired is dropped, and so given back.
            let _ = waiter.reply.send(Ok(Acquired::new(waiter.refunds, waiter.costs, slices)));
        }
    }

    /// Asks the ledger for what the callers need, and tells it what is outgoing.
    async fn request(&mut self) {
        self.outgoing.is_urgent = false;
        if !self.limits.is_defined {
            self.limits.is_defined = match self.limits.ledger.define_rate_limits(&self.limits.terms).await {
                Ok(()) => true,
                Err(error) => return self.pause(&error),
            };
        }
        let (mut need, mut want) = (Vec::new(), Vec::new());
        for (limit, grants) in self.grants.iter().enumerate() {
            let available = grants.available();
            let first = self.waiting.front().map_or(0, |waiter| waiter.costs[limit]);
            let all = self.needed(limit);
            // While no caller waits, the request only tells the ledger something.
            let ahead = if all > 0 { self.recent_demand.previous(limit) } else { 0 };
            need.push((first - available).max(0));
            want.push(all.saturating_add(ahead).saturating_sub(available).max(0));
        }
        let observed = self.outgoing.observed();
        let requested_at = Instant::now();
        let request = AcquireRequest {
            names: &self.limits.names,
            need: &need,
            want: &want,
            usable_share: self.limits.share,
            observed: &observed,
            pause: self.outgoing.hold,
            refunds: &self.outgoing.refunds,
        };
        match self.limits.ledger.acquire_quota(&request).await {
            Ok(grant) => {
                self.health.worked();
                self.shortage = Shortage::UsedUp;
                self.outgoing.clear();
                self.add_grant(&grant, requested_at, &need);
            }
            Err(error) => self.pause(&error),
        }
    }

    fn add_grant(&mut self, grant: &Grant, requested_at: Instant, need: &[i64]) {
        for (limit, name) in self.limits.names.iter().enumerate() {
            // Counted from before the request, so that a grant ends here no later than in the ledger.
            let expires_at = requested_at + grant.valid[limit];
            self.grants[limit].add(grant.slices[limit], grant.granted[limit], expires_at);
            #[expect(clippy::cast_precision_loss, reason = "for monitoring")]
            metrics::gauge!("leadline_rate_limit_allowed", "limit" => name.clone()).set(grant.allowed[limit] as f64);
            metrics::counter!("leadline_rate_limit_granted_total", "limit" => name.clone())
                .increment(grant.granted[limit].try_into().unwrap_or(0));
        }
        // A request larger than the limit gets the whole limit.
        let is_larger = need.iter().zip(&grant.granted).any(|(need, granted)| need > granted && *granted > 0);
        if let Some(first) = self.waiting.front_mut().filter(|_| is_larger) {
            first.costs.iter_mut().zip(&self.grants).for_each(|(cost, grants)| *cost = (*cost).min(grants.available()));
        }
        self.usage.send_replace(Usage { share: self.limits.used_share(grant), at: requested_at });
        let wait = if !grant.wait.is_zero() {
            grant.wait
        } else if self.is_enough() && !self.recent_demand.is_frequent() {
            Duration::ZERO
        } else {
            PAUSE_AFTER_GRANT
        };
        // With jitter, so that replicas do not all ask at the same moment.
        self.next_request_at = Instant::now() + wait.mul_f64(1.0 + random_fraction() * 0.5);
    }

    /// What all who wait need of a limit.
    fn needed(&self, limit: usize) -> i64 {
        self.waiting.iter().map(|waiter| waiter.costs[limit]).fold(0, i64::saturating_add)
    }

    /// Whether there is enough for all who wait.
    fn is_enough(&self) -> bool {
        self.grants.iter().enumerate().all(|(limit, grants)| self.needed(limit) <= grants.available())
    }

    fn pause(&mut self, error: &LedgerError) {
        tracing::debug!(%error, limit = self.limits.names[0], "no quota can be acquired");
        self.shortage = Shortage::Unknown;
        if !error.is_away() {
            self.outgoing.drop_refused();
        }
        self.next_request_at = Instant::now() + PAUSE_AFTER_ERROR;
        self.outgoing.delay_refunds();
    }
}

/// A random number from 0 to 1.
fn random_fraction() -> f64 {
    use std::hash::{BuildHasher, RandomState};
    let number = RandomState::new().hash_one(std::thread::current().id()) >> 40;
    #[expect(clippy::cast_precision_loss, reason = "24 bits")]
    let fraction = number as f64 / f64::from(1_u32 << 24);
    fraction
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use ledger::{RateLimitTerms, Window};
    use retry::Shortage;

    use crate::{TaskHealth, absent_ledger::absent_ledger, quota_client::QuotaClient};

    #[tokio::test]
    async fn without_a_ledger_it_is_unknown_what_is_left() {
        let terms = RateLimitTerms { name: "test".to_owned(), window: Window::Day, quota: 100, share: 1.0 };
        let client = QuotaClient::open(absent_ledger(), vec![terms], 1.0, &TaskHealth::default());
        let limited = client.acquire(vec![1], Duration::from_millis(100)).await.expect_err("no ledger");
        assert_eq!(limited.shortage, Shortage::Unknown);
    }

    /// A rejection by the first of no limits makes it panic.
    #[tokio::test]
    async fn an_actor_that_panics_is_broken_until_it_works_again() {
        let health = TaskHealth::default();
        let client = QuotaClient::open(absent_ledger(), vec![], 1.0, &health);
        client.report(vec![], Instant::now(), Some(Duration::from_secs(1)));
        while health.broken() == 0 {
            tokio::task::yield_now().await;
        }
        let acquired = client.acquire(vec![], Duration::from_secs(60)).await;
        assert!(acquired.is_ok(), "{acquired:?}");
        assert_eq!(health.broken(), 0);
    }
}
