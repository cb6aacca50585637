//! Spend limits: what model calls may cost in a day (UTC), for each playbook and for all together.

use std::{collections::HashMap, time::Duration};

use ledger::{Ledger, RateLimitTerms, Window};
use retry::RateLimited;

use crate::quota_client::QuotaClient;

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

/// Money that is reserved for a call, in micro-dollars.
#[derive(Debug)]
pub struct Reservation {
    micro_dollars: i64,
    /// The time slices that it was taken from; `None` where there is no limit.
    playbook_slice: Option<i64>,
    all_slice: Option<i64>,
}

/// A call waits this long for the ledger's answer. One that exceeds the day's limit does not wait: the next day may be hours
/// away.
const MAX_WAIT: Duration = Duration::from_secs(5);

impl SpendLimiter {
    /// A limiter with these limits, in micro-dollars a day: `all` for all playbooks together (0: no limit), and one for each
    /// of `playbooks`.
    pub fn open(ledger: &Ledger, all: i64, playbooks: impl IntoIterator<Item = (String, i64)>) -> Self {
        let spend_limit = |name: String, quota| {
            let terms = RateLimitTerms { name, window: Window::Day, quota, share: 1.0 };
            let quota_client = QuotaClient::open(ledger.clone(), vec![terms], 1.0);
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
    /// One of the day's limits does not allow it.
    pub async fn reserve(&self, playbook: &str, micro_dollars: i64) -> Result<Reservation, RateLimited> {
        let playbook_slice = acquire(self.playbooks.get(playbook), micro_dollars).await?;
        match acquire(self.all.as_ref(), micro_dollars).await {
            Ok(all_slice) => Ok(Reservation { micro_dollars, playbook_slice, all_slice }),
            Err(error) => {
                self.refund_unused(playbook, &Reservation { micro_dollars, playbook_slice, all_slice: None }, 0);
                Err(error)
            }
        }
    }

    /// Returns what the call has not cost. A call that has cost more than reserved takes the rest from the limits now.
    pub fn refund_unused(&self, playbook: &str, reservation: &Reservation, cost: i64) {
        let unused = reservation.micro_dollars - cost;
        if let (Some(limit), Some(slice)) = (self.playbooks.get(playbook), reservation.playbook_slice) {
            limit.quota_client.refund(0, slice, unused);
        }
        if let (Some(limit), Some(slice)) = (&self.all, reservation.all_slice) {
            limit.quota_client.refund(0, slice, unused);
        }
    }
}

/// The slice that `micro_dollars` were taken from; `None` where there is no limit.
async fn acquire(limit: Option<&SpendLimit>, micro_dollars: i64) -> Result<Option<i64>, RateLimited> {
    match limit {
        Some(limit) => Ok(limit.quota_client.acquire(vec![micro_dollars], MAX_WAIT).await?.first().copied()),
        None => Ok(None),
    }
}
