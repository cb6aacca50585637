//! Spend limits: what model calls may cost in a day (UTC), for each playbook and for all together.

use std::{collections::HashMap, time::Duration};

use ledger::{Ledger, RateLimitTerms, SpendLimitEntry, Window};
use metrics::Label;
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

/// How often it is measured what was spent.
const MEASURE_INTERVAL: Duration = Duration::from_secs(15);

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

    /// Shows what was spent today (UTC) or is set aside, and what may be, for as long as it runs.
    pub async fn watch(&self, ledger: &Ledger) {
        if self.all.is_none() && self.playbooks.is_empty() {
            return;
        }
        loop {
            match ledger.spend_limits().await {
                Ok(entries) => self.show(&entries),
                Err(error) => tracing::debug!(%error, "what was spent today could not be read"),
            }
            tokio::time::sleep(MEASURE_INTERVAL).await;
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "for monitoring")]
    fn show(&self, entries: &[SpendLimitEntry]) {
        let of_playbooks = self.playbooks.iter().map(|(name, limit)| (Some(name), limit));
        for (playbook, limit) in self.all.iter().map(|limit| (None, limit)).chain(of_playbooks) {
            // The ledger knows a limit from its first question on.
            let entry = entries.iter().find(|entry| entry.playbook.as_ref() == playbook);
            let spent = entry.map_or(0, |entry| entry.micro_dollars_spent);
            let labels: Vec<_> = playbook.map(|name| Label::new("playbook", name.clone())).into_iter().collect();
            metrics::gauge!("leadline_spend_today_micro_dollars", labels.clone()).set(spent as f64);
            metrics::gauge!("leadline_spend_limit_micro_dollars", labels).set(limit.micro_dollars_per_day as f64);
        }
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use ledger::{Ledger, LedgerSettings, SpendLimitEntry};
    use metrics_exporter_prometheus::PrometheusBuilder;

    use super::SpendLimiter;
    use crate::TaskHealth;

    #[tokio::test]
    async fn the_metrics_show_what_was_spent_of_each_limit_that_holds() {
        let ledger = Ledger::connect(&LedgerSettings {
            url: "postgres://nobody@127.0.0.1:1/nothing".to_owned().into(),
            application_name: "tests".to_owned(),
            max_connections: 1,
            acquire_timeout: Duration::from_millis(10),
            statement_timeout: Duration::from_secs(1),
            pool_mode: ledger::PoolMode::Session,
        })
        .expect("a URL");
        let of_playbooks = [("churn-risk".to_owned(), 40), ("never-asked".to_owned(), 10)];
        let limiter = SpendLimiter::open(&ledger, 50, of_playbooks, &TaskHealth::default());
        let entry = |playbook: Option<&str>, spent| SpendLimitEntry {
            name: "of the ledger".to_owned(),
            playbook: playbook.map(ToOwned::to_owned),
            micro_dollars_per_day: 1,
            micro_dollars_spent: spent,
        };
        let recorder = PrometheusBuilder::new().build_recorder();
        let entries = [entry(None, 30), entry(Some("churn-risk"), 20), entry(Some("of-yesterday"), 9)];
        metrics::with_local_recorder(&recorder, || limiter.show(&entries));
        let page = recorder.handle().render();
        let mut shown: Vec<_> =
            page.lines().filter(|line| line.contains("dollars") && !line.starts_with('#')).collect();
        shown.sort_unstable();
        let limit = |playbook| format!("leadline_spend_limit_micro_dollars{{playbook=\"{playbook}\"}}");
        let today = |playbook| format!("leadline_spend_today_micro_dollars{{playbook=\"{playbook}\"}}");
        let mut expected = vec![
            "leadline_spend_limit_micro_dollars 50".to_owned(),
            "leadline_spend_today_micro_dollars 30".to_owned(),
            limit("churn-risk") + " 40",
            today("churn-risk") + " 20",
            limit("never-asked") + " 10",
            today("never-asked") + " 0",
        ];
        expected.sort_unstable();
        assert_eq!(shown, expected, "a limit that no longer holds is not shown");
    }
}
