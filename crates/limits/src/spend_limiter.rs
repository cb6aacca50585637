//! Spend limits: what model calls may cost in a day (UTC), for each playbook and for all together.

use std::{collections::HashMap, time::Duration};

use ledger::{Ledger, RateLimitTerms, Window};
use retry::RateLimited;

use crate::{
    TaskHealth,
    quota_client::{Acquired, QuotaClient},
};

/// Reserves money for model calls while the day's limits allow it. Cheap to clone. The default one has no limit.
#[derive(Debug, Clone, Default)]
pub struct SpendLimiter {
    all: Option<SpendLimit>,
    playbooks: HashMap<String, SpendLimit>,
}

/// A limit of a day, and where it is acquired.
#[derive(Debug, Clone)]
struct SpendLimit {
    micro_dollars_per_day: i64,
    quota_client: QuotaClient,
}

/// Money that is reserved for a call, of each limit that there is. What is not kept goes back when this is dropped, as when the
/// work on the call is cancelled.
#[derive(Debug, Default)]
pub struct Reservation {
    of_limits: Vec<Acquired>,
}

impl Reservation {
    /// Keeps what the call has cost, in micro-dollars, and gives the rest back. A call that has cost more than reserved takes the
    /// rest from the limits now.
    pub fn settle(&mut self, cost: i64) {
        self.of_limits.drain(..).for_each(|mut acquired| acquired.settle(cost));
    }

    /// Keeps all of it: what the call costs is not known.
    pub fn keep(&mut self) {
        self.of_limits.drain(..).for_each(|mut acquired| drop(acquired.keep()));
    }
}

/// A call waits this long for the ledger's answer. One that exceeds the day's limit does not wait: the next day may be hours
/// away.
const MAX_WAIT: Duration = Duration::from_secs(5);

impl SpendLimiter {
    /// A limiter with these limits, in micro-dollars a day: `all` for all playbooks together (0: no limit), and one for each
    /// of `playbooks`.
    pub fn open(
        ledger: &Ledger,
        all: i64,
        playbooks: impl IntoIterator<Item = (String, i64)>,
        health: &TaskHealth,
    ) -> Self {
        let spend_limit = |name: String, quota| {
            let terms = RateLimitTerms { name, window: Window::Day, quota, share: 1.0 };
            let quota_client = QuotaClient::open(ledger.clone(), vec![terms], 1.0, health);
            SpendLimit { micro_dollars_per_day: quota, quota_client }
        };
        Self {
            all: (all > 0).then(|| spend_limit("openai/money/day".to_owned(), all)),
            playbooks: playbooks
                .into_iter()
                .map(|(name, limit)| {
                    let spend_limit = spend_limit(format!("openai/money/{name}/day"), limit);
                    (name, spend_limit)
                })
                .collect(),
        }
    }

    /// What `playbook` may spend in a day at most, in micro-dollars; `None`: no limit.
    pub fn limit_of(&self, playbook: &str) -> Option<i64> {
        let limits = self.all.iter().chain(self.playbooks.get(playbook));
        limits.map(|limit| limit.micro_dollars_per_day).min()
    }

    /// Reserves the estimated cost of a call of `playbook`.
    ///
    /// # Errors
    /// One of the day's limits does not allow it, or the ledger does not say whether it does.
    pub async fn reserve(&self, playbook: &str, micro_dollars: i64) -> Result<Reservation, RateLimited> {
        let mut reservation = Reservation::default();
        for limit in self.playbooks.get(playbook).into_iter().chain(&self.all) {
            reservation.of_limits.push(limit.quota_client.acquire(vec![micro_dollars], MAX_WAIT).await?);
        }
        Ok(reservation)
    }
}
