//! A quota_client: what this process has acquired of some budgets, and who waits for it.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use ledger::{AcquireRequest, Grant, Ledger, LedgerError, ObservedQuota, RateLimitTerms, Refund};
use retry::RateLimited;
use tokio::sync::{mpsc, oneshot, watch};

use crate::grants::Grants;

/// What is given back goes with the next ask, or after this time.
const GIVE_BACK_WITHIN: Duration = Duration::from_millis(500);

/// While the ledger does not answer.
const PAUSE: Duration = Duration::from_millis(500);

/// After a grant that is not enough: the others ask, too.
const PAUSE_AFTER_SOME: Duration = Duration::from_millis(15);

/// When others leave less than this part of a quota, the ledger is told at once.
const SCARCE: i64 = 10;

/// Borrows from the ledger for those who wait here, first come, first served. Cheap to clone.
#[derive(Debug, Clone)]
pub struct QuotaClient {
    messages: mpsc::UnboundedSender<Message>,
    budgets: usize,
    empty_at: watch::Receiver<Option<Instant>>,
}

#[derive(Debug)]
enum Message {
    Take(Waiter),
    /// More (or, negative, less) was used of a budget than was taken.
    Settle {
        budget: usize,
        slice: i64,
        unused: i64,
    },
    ObservedQuota {
        /// By budget.
        news: Vec<Option<(i64, i64)>>,
        sent: Instant,
        hold: Option<Duration>,
    },
}

#[derive(Debug)]
struct Waiter {
    costs: Vec<i64>,
    until: Instant,
    answer: oneshot::Sender<Result<Vec<i64>, RateLimited>>,
}

impl QuotaClient {
    /// A quota client for the budgets with these `terms`; `lane` is the part of them that may be used up by it.
    pub fn open(ledger: Ledger, terms: Vec<RateLimitTerms>, lane: f64) -> Self {
        let (messages, inbox) = mpsc::unbounded_channel();
        let budgets = terms.len();
        let (empties, empty_at) = watch::channel(None);
        tokio::spawn(QuotaActor::new(ledger, terms, lane, inbox, empties).run());
        Self { messages, budgets, empty_at }
    }

    /// Waits until `costs` (one for each budget) can be taken, but no longer than `max_wait`. Gives the slices that they
    /// are booked in.
    pub async fn take(&self, costs: Vec<i64>, max_wait: Duration) -> Result<Vec<i64>, RateLimited> {
        debug_assert_eq!(costs.len(), self.budgets);
        let (answer, answered) = oneshot::channel();
        let waiter = Waiter { costs, until: Instant::now() + max_wait, answer };
        // Only a process that stops has no quota_actor.
        let gone = RateLimited { after: max_wait };
        self.messages.send(Message::Take(waiter)).map_err(|_| gone)?;
        answered.await.unwrap_or(Err(gone))
    }

    /// Whether the ledger had nothing left for somebody who waited here, not longer ago than `window`.
    pub fn was_empty_within(&self, window: Duration) -> bool {
        self.empty_at.borrow().is_some_and(|at| at.elapsed() < window)
    }

    /// Less was used than was taken; or more, if negative.
    pub fn settle(&self, budget: usize, slice: i64, unused: i64) {
        if unused != 0 {
            let _ = self.messages.send(Message::Settle { budget, slice, unused });
        }
    }

    /// Passes on what an answer to a call said of quota and remaining, by budget; after a refusal also how long nobody may
    /// acquire.
    pub fn heard(&self, news: Vec<Option<(i64, i64)>>, sent: Instant, hold: Option<Duration>) {
        if hold.is_some() || news.iter().any(Option::is_some) {
            let _ = self.messages.send(Message::ObservedQuota { news, sent, hold });
        }
    }
}

/// Who keeps a quota_client: one task, so that nothing has to be locked.
struct QuotaActor {
    ledger: Ledger,
    terms: Vec<RateLimitTerms>,
    names: Vec<String>,
    lane: f64,
    inbox: mpsc::UnboundedReceiver<Message>,
    is_defined: bool,
    waiting: VecDeque<Waiter>,
    grants: Vec<Grants>,
    news: Vec<Option<ObservedQuota>>,
    /// When the calls were sent whose answers are the news.
    news_sent: Instant,
    hold: Option<Duration>,
    back: Vec<Refund>,
    back_since: Option<Instant>,
    /// Nobody has to be asked before.
    ask_at: Instant,
    is_urgent: bool,
    recent_demand: RecentDemand,
    empty_at: watch::Sender<Option<Instant>>,
}

/// How much was taken lately, so that as much can be acquired ahead.
#[derive(Debug)]
struct RecentDemand {
    since: Instant,
    now: Vec<i64>,
    before: Vec<i64>,
}

impl RecentDemand {
    /// About as long as a slice is: what is acquired ahead is used within the grant's time.
    const LENGTH: Duration = Duration::from_millis(50);

    fn new(budgets: usize) -> Self {
        Self { since: Instant::now(), now: vec![0; budgets], before: vec![0; budgets] }
    }

    fn add(&mut self, costs: &[i64]) {
        self.turn();
        self.now.iter_mut().zip(costs).for_each(|(sum, cost)| *sum += cost);
    }

    fn turn(&mut self) {
        let passed = self.since.elapsed();
        if passed >= Self::LENGTH {
            let empty = vec![0; self.now.len()];
            self.before = std::mem::replace(&mut self.now, empty.clone());
            if passed >= 2 * Self::LENGTH {
                self.before = empty;
            }
            self.since = Instant::now();
        }
    }
}

impl QuotaActor {
    fn new(
        ledger: Ledger,
        terms: Vec<RateLimitTerms>,
        lane: f64,
        inbox: mpsc::UnboundedReceiver<Message>,
        empty_at: watch::Sender<Option<Instant>>,
    ) -> Self {
        let now = Instant::now();
        Self {
            names: terms.iter().map(|terms| terms.name.clone()).collect(),
            grants: terms.iter().map(|_| Grants::default()).collect(),
            news: vec![None; terms.len()],
            recent_demand: RecentDemand::new(terms.len()),
            ledger,
            terms,
            lane,
            inbox,
            is_defined: false,
            waiting: VecDeque::new(),
            news_sent: now,
            hold: None,
            back: Vec::new(),
            back_since: None,
            ask_at: now,
            is_urgent: false,
            empty_at,
        }
    }

    async fn run(mut self) {
        loop {
            let wake = self.wake_at();
            let message = match wake {
                Some(at) => tokio::time::timeout_at(at.into(), self.inbox.recv()).await.ok(),
                None => Some(self.inbox.recv().await),
            };
            match message {
                Some(Some(message)) => self.take_in(message),
                Some(None) => return,
                None => {}
            }
            while let Ok(message) = self.inbox.try_recv() {
                self.take_in(message);
            }
            self.expire();
            self.serve();
            let is_due = !self.waiting.is_empty() && self.ask_at <= Instant::now();
            let is_late = self.back_since.is_some_and(|since| since.elapsed() >= GIVE_BACK_WITHIN);
            if is_due || is_late || self.is_urgent {
                self.ask().await;
                self.serve();
            }
        }
    }

    /// When there is something to do even if nobody says anything.
    fn wake_at(&self) -> Option<Instant> {
        let ask = (!self.waiting.is_empty()).then_some(self.ask_at);
        let give_back = self.back_since.map(|since| since + GIVE_BACK_WITHIN);
        let lots_end = self.grants.iter().filter_map(Grants::first_end).min();
        let patience_ends = self.waiting.iter().map(|waiter| waiter.until).min();
        [ask, give_back, lots_end, patience_ends].into_iter().flatten().min()
    }

    fn take_in(&mut self, message: Message) {
        match message {
            Message::Take(waiter) => self.waiting.push_back(waiter),
            Message::Settle { budget, slice, unused } => self.give_back(budget, slice, unused),
            Message::ObservedQuota { news, sent, hold } => {
                if let Some(hold) = hold {
                    self.hold = Some(self.hold.unwrap_or_default().max(hold));
                    self.is_urgent = true;
                    metrics::counter!("leadline_rate_limit_refused_total", "budget" => self.names[0].clone())
                        .increment(1);
                }
                self.news_sent = sent;
                for (known, said) in self.news.iter_mut().zip(news) {
                    let Some((quota, remaining)) = said else { continue };
                    // Many quotas in one message are one call's; the next ask is soon, unless little is left.
                    self.is_urgent |= remaining * SCARCE < quota && known.is_none();
                    *known = Some(ObservedQuota { quota, remaining, age: Duration::ZERO });
                }
            }
        }
    }

    fn give_back(&mut self, budget: usize, slice: i64, amount: i64) {
        self.back_since.get_or_insert_with(Instant::now);
        match self.back.iter_mut().find(|back| (back.limit, back.slice) == (budget, slice)) {
            Some(back) => back.amount += amount,
            None => self.back.push(Refund { limit: budget, slice, amount }),
        }
    }

    /// Gives back what was not used in time, and sends away those whose max wait is over.
    fn expire(&mut self) {
        let now = Instant::now();
        for budget in 0..self.grants.len() {
            for (slice, amount) in self.grants[budget].expired(now) {
                self.give_back(budget, slice, amount);
            }
        }
        let wait = self.ask_at.saturating_duration_since(now);
        for waiter in std::mem::take(&mut self.waiting) {
            if waiter.answer.is_closed() {
                continue;
            }
            if waiter.until <= now && self.ask_at > now {
                let _ = waiter.answer.send(Err(RateLimited { after: wait }));
            } else {
                self.waiting.push_back(waiter);
            }
        }
    }

    /// Gives leave to as many as there is enough for in hand.
    fn serve(&mut self) {
        while let Some(first) = self.waiting.front() {
            if first.costs.iter().zip(&self.grants).any(|(cost, grants)| grants.sum() < *cost) {
                return;
            }
            let Some(waiter) = self.waiting.pop_front() else { return };
            let slices = waiter.costs.iter().zip(&mut self.grants).map(|(cost, grants)| grants.take(*cost)).collect();
            self.recent_demand.add(&waiter.costs);
            if let Err(Ok(slices)) = waiter.answer.send(Ok(slices)) {
                // Nobody waits any more.
                let unused = waiter.costs.iter().zip(slices).enumerate();
                unused.for_each(|(budget, (cost, slice))| self.give_back(budget, slice, *cost));
            }
        }
    }

    async fn ask(&mut self) {
        self.is_urgent = false;
        if !self.is_defined {
            self.is_defined = match self.ledger.define_rate_limits(&self.terms).await {
                Ok(()) => true,
                Err(error) => return self.pause(&error),
            };
        }
        self.recent_demand.turn();
        let (mut need, mut want) = (Vec::new(), Vec::new());
        for (budget, grants) in self.grants.iter().enumerate() {
            let in_hand = grants.sum();
            let first = self.waiting.front().map_or(0, |waiter| waiter.costs[budget]);
            let all: i64 = self.waiting.iter().map(|waiter| waiter.costs[budget]).sum();
            // Nobody waits: then this is about news only.
            let ahead = if all > 0 { self.recent_demand.before[budget] } else { 0 };
            need.push((first - in_hand).max(0));
            want.push((all + ahead - in_hand).max(0));
        }
        let age = self.news_sent.elapsed();
        let heard: Vec<_> = self.news.iter().map(|news| news.map(|heard| ObservedQuota { age, ..heard })).collect();
        let asked = Instant::now();
        let ask = AcquireRequest {
            names: &self.names,
            need: &need,
            want: &want,
            usable_share: self.lane,
            observed: &heard,
            pause: self.hold,
            refunds: &self.back,
        };
        match self.ledger.acquire_quota(&ask).await {
            Ok(loan) => {
                self.news.iter_mut().for_each(|news| *news = None);
                self.hold = None;
                self.back.clear();
                self.back_since = None;
                self.put_in(&loan, asked, &need);
            }
            Err(error) => self.pause(&error),
        }
    }

    fn put_in(&mut self, loan: &Grant, asked: Instant, need: &[i64]) {
        for (budget, name) in self.names.iter().enumerate() {
            self.grants[budget].add(loan.slices[budget], loan.granted[budget], asked + loan.valid[budget]);
            #[expect(clippy::cast_precision_loss, reason = "for monitoring")]
            metrics::gauge!("leadline_rate_limit_allowed", "budget" => name.clone()).set(loan.allowed[budget] as f64);
            metrics::counter!("leadline_rate_limit_borrowed_total", "budget" => name.clone())
                .increment(loan.granted[budget].try_into().unwrap_or(0));
        }
        // What one question needs may be more than there ever is: then all there is has to do.
        let is_all = need.iter().zip(&loan.granted).any(|(need, granted)| need > granted && *granted > 0);
        if let Some(first) = self.waiting.front_mut().filter(|_| is_all) {
            first.costs.iter_mut().zip(&self.grants).for_each(|(cost, grants)| *cost = (*cost).min(grants.sum()));
        }
        if !loan.wait.is_zero() && !self.waiting.is_empty() {
            self.empty_at.send_replace(Some(asked));
        }
        // Never all at the same moment, and never one replica's turn again before others could ask.
        let wait = if loan.wait.is_zero() { PAUSE_AFTER_SOME } else { loan.wait };
        self.ask_at = Instant::now() + wait.mul_f64(1.0 + jitter() * 0.5);
    }

    fn pause(&mut self, error: &LedgerError) {
        tracing::debug!(%error, budget = self.names[0], "no quota can be acquired");
        self.ask_at = Instant::now() + PAUSE;
        self.back_since = self.back_since.map(|_| Instant::now());
    }
}

/// Something between 0 and 1.
fn jitter() -> f64 {
    use std::hash::{BuildHasher, RandomState};
    let number = RandomState::new().hash_one(std::thread::current().id()) >> 40;
    #[expect(clippy::cast_precision_loss, reason = "24 bits")]
    let part = number as f64 / f64::from(1_u32 << 24);
    part
}
