//! Spend limits: what model calls may cost in a day (UTC), for each playbook and for all together.

use std::{collections::HashMap, time::Duration};

use ledger::{Ledger, LedgerError, RateLimitTerms, SpendLimitEntry, Window};
use metrics::Label;
use retry::RateLimited;
use time::{Date, OffsetDateTime};

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

/// When it was last read what was spent.
#[derive(Debug)]
struct LastRead {
    /// The day in UTC.
    day: Date,
    /// Whether reading has failed since.
    has_failed: bool,
}

impl LastRead {
    fn of(day: Date) -> Self {
        Self { day, has_failed: false }
    }
}

#[expect(clippy::cast_precision_loss, reason = "for monitoring")]
fn in_metrics(micro_dollars: i64) -> f64 {
    micro_dollars as f64
}

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
        let mut last = LastRead::of(OffsetDateTime::now_utc().date());
        loop {
            // Before the read: a sum of yesterday must not count as one of today.
            let today = OffsetDateTime::now_utc().date();
            self.measured(ledger.spend_limits().await.as_deref(), today, &mut last);
            tokio::time::sleep(MEASURE_INTERVAL).await;
        }
    }

    /// Shows what was read. What cannot be read is said once, and what was read on another day is not shown.
    fn measured(&self, read: Result<&[SpendLimitEntry], &LedgerError>, today: Date, last: &mut LastRead) {
        match read {
            Ok(entries) => {
                if last.has_failed {
                    tracing::info!("what was spent today can be read again");
                }
                *last = LastRead::of(today);
                self.show(|playbook| {
                    // The ledger knows a limit from its first question on.
                    let entry = entries.iter().find(|entry| entry.playbook.as_ref() == playbook);
                    entry.map_or(0.0, |entry| in_metrics(entry.micro_dollars_spent))
                });
            }
            Err(error) => {
                if !last.has_failed {
                    tracing::warn!(%error, "what was spent today cannot be read");
                }
                last.has_failed = true;
                if last.day != today {
                    self.show(|_| f64::NAN);
                }
            }
        }
    }

    /// Shows what was spent of each limit, by `spent`.
    fn show(&self, spent: impl Fn(Option<&String>) -> f64) {
        let of_playbooks = self.playbooks.iter().map(|(name, limit)| (Some(name), limit));
        for (playbook, limit) in self.all.iter().map(|limit| (None, limit)).chain(of_playbooks) {
            let labels: Vec<_> = playbook.map(|name| Label::new("playbook", name.clone())).into_iter().collect();
            metrics::gauge!("leadline_spend_today_micro_dollars", labels.clone()).set(spent(playbook));
            let limit = in_metrics(limit.micro_dollars_per_day);
            metrics::gauge!("leadline_spend_limit_micro_dollars", labels).set(limit);
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
    use std::sync::{Arc, Mutex};

    use ledger::{LedgerError, SpendLimitEntry};
    use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
    use time::{Date, Month};
    use tracing_subscriber::{Layer, layer::Context, layer::SubscriberExt};

    use super::{LastRead, SpendLimiter};
    use crate::{TaskHealth, absent_ledger::absent_ledger};

    /// A limiter of fifty for all, and of a playbook each.
    fn limiter(of_playbooks: &[(&str, i64)]) -> SpendLimiter {
        let of_playbooks = of_playbooks.iter().map(|(playbook, limit)| ((*playbook).to_owned(), *limit));
        SpendLimiter::open(&absent_ledger(), 50, of_playbooks, &TaskHealth::default())
    }

    fn entry(playbook: Option<&str>, spent: i64) -> SpendLimitEntry {
        SpendLimitEntry {
            name: "of the ledger".to_owned(),
            playbook: playbook.map(ToOwned::to_owned),
            micro_dollars_per_day: 1,
            micro_dollars_spent: spent,
        }
    }

    fn day(day: u8) -> Date {
        Date::from_calendar_date(2026, Month::November, day).expect("a day")
    }

    fn shown(handle: &PrometheusHandle) -> Vec<String> {
        let page = handle.render();
        let lines = page.lines().filter(|line| line.contains("dollars") && !line.starts_with('#'));
        let mut lines: Vec<_> = lines.map(ToOwned::to_owned).collect();
        lines.sort_unstable();
        lines
    }

    #[tokio::test]
    async fn the_metrics_show_what_was_spent_of_each_limit_that_holds() {
        let limiter = limiter(&[("churn-risk", 40), ("never-asked", 10)]);
        let recorder = PrometheusBuilder::new().build_recorder();
        let entries = [entry(None, 30), entry(Some("churn-risk"), 20), entry(Some("of-yesterday"), 9)];
        let mut last = LastRead::of(day(24));
        metrics::with_local_recorder(&recorder, || limiter.measured(Ok(&entries), day(24), &mut last));
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
        assert_eq!(shown(&recorder.handle()), expected, "a limit that no longer holds is not shown");
    }

    /// Keeps the levels of log lines.
    #[derive(Clone, Default)]
    struct Levels(Arc<Mutex<Vec<tracing::Level>>>);

    impl<S: tracing::Subscriber> Layer<S> for Levels {
        fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
            self.0.lock().expect("unpoisoned").push(*event.metadata().level());
        }
    }

    #[tokio::test]
    async fn what_cannot_be_read_is_warned_of_once_and_no_sum_outlives_its_day() {
        let limiter = limiter(&[]);
        let recorder = PrometheusBuilder::new().build_recorder();
        let (levels, mut last) = (Levels::default(), LastRead::of(day(23)));
        let spent = [entry(None, 30)];
        let mut after = |read: Result<&[SpendLimitEntry], &LedgerError>, today| {
            let logs = tracing_subscriber::registry().with(levels.clone());
            tracing::subscriber::with_default(logs, || {
                metrics::with_local_recorder(&recorder, || limiter.measured(read, today, &mut last));
            });
            shown(&recorder.handle()).pop().unwrap_or_default()
        };
        let away = || Err(&LedgerError::ReadOnly);
        for (read, today, expected) in [
            (Ok(&spent[..]), day(24), "30"),
            (away(), day(24), "30"),
            (away(), day(25), "NaN"),
            (away(), day(25), "NaN"),
            (Ok(&spent[..]), day(25), "30"),
        ] {
            assert_eq!(after(read, today), format!("leadline_spend_today_micro_dollars {expected}"));
        }
        assert_eq!(*levels.0.lock().expect("unpoisoned"), [tracing::Level::WARN, tracing::Level::INFO]);
    }
}
