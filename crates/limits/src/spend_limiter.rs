//! Money: what questions may cost in a day, by playbook and in all.

use std::{collections::HashMap, time::Duration};

use ledger::{Ledger, RateLimitTerms, Window};
use retry::RateLimited;

use crate::quota_client::QuotaClient;

/// Pays for questions, as long as the day's money lasts. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct SpendLimiter {
    all: Option<QuotaClient>,
    playbooks: HashMap<String, QuotaClient>,
}

/// Money that is set aside for a question, in micro-dollars.
#[derive(Debug)]
pub struct Reservation {
    micro_dollars: i64,
    playbook: Option<i64>,
    all: Option<i64>,
}

/// Nobody waits for midnight in a worker.
const PATIENCE: Duration = Duration::ZERO;

impl SpendLimiter {
    /// A spend limiter with so much money a day, in micro-dollars: for all playbooks together (0: no limit) and for each of those
    /// that have a limit of their own.
    pub fn open(ledger: &Ledger, all: i64, playbooks: impl IntoIterator<Item = (String, i64)>) -> Self {
        let quota_client = |name: String, quota| {
            let terms = RateLimitTerms { name, window: Window::Day, quota, share: 1.0 };
            QuotaClient::open(ledger.clone(), vec![terms], 1.0)
        };
        Self {
            all: (all > 0).then(|| quota_client("openai/money/day".to_owned(), all)),
            playbooks: playbooks
                .into_iter()
                .map(|(name, cap)| {
                    let quota_client = quota_client(format!("openai/money/{name}/day"), cap);
                    (name, quota_client)
                })
                .collect(),
        }
    }

    /// Sets money aside for a question of `playbook`.
    pub async fn reserve(&self, playbook: &str, micro_dollars: i64) -> Result<Reservation, RateLimited> {
        let take = |quota_client: Option<&QuotaClient>| {
            let quota_client = quota_client.cloned();
            async move {
                match quota_client {
                    Some(quota_client) => {
                        quota_client.take(vec![micro_dollars], PATIENCE).await.map(|slices| Some(slices[0]))
                    }
                    None => Ok(None),
                }
            }
        };
        let own = take(self.playbooks.get(playbook)).await?;
        match take(self.all.as_ref()).await {
            Ok(all) => Ok(Reservation { micro_dollars, playbook: own, all }),
            Err(error) => {
                self.refund_unused(playbook, &Reservation { micro_dollars, playbook: own, all: None }, 0);
                Err(error)
            }
        }
    }

    /// The question has cost so much.
    pub fn refund_unused(&self, playbook: &str, aside: &Reservation, cost: i64) {
        let unused = aside.micro_dollars - cost;
        if let (Some(quota_client), Some(slice)) = (self.playbooks.get(playbook), aside.playbook) {
            quota_client.settle(0, slice, unused);
        }
        if let (Some(quota_client), Some(slice)) = (&self.all, aside.all) {
            quota_client.settle(0, slice, unused);
        }
    }
}
