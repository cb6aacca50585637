//! The rate limits of HubSpot and OpenAI, and the limiters that the API clients use.

use std::{
    collections::HashMap,
    ops::RangeInclusive,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use domain::Dependency;
use ledger::{Ledger, RateLimitTerms, Window};
use retry::{HUBSPOT_ASSOCIATIONS, Permit, PermitFuture, QuotaReport, RateLimiter, SharedRateLimiter};
use settings::{MissingSetting, Settings};

use crate::{TaskHealth, quota_client::QuotaClient, spend_limiter::SpendLimiter};

/// The window of HubSpot's burst limit.
const HUBSPOT_WINDOW: Duration = Duration::from_secs(10);

/// The window of OpenAI's limits on requests and tokens.
const OPENAI_WINDOW: Duration = Duration::from_secs(60);

/// Who makes a call. Live events have priority over a backfill.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lane {
    /// Events from webhooks, and every write. May use up the fleet's limits.
    Live,
    /// Events of a backfill. May use only a part of the limits; the rest is reserved for the live lane.
    Backfill,
}

/// The fleet's limits, by the settings. Makes a limiter for each client and lane.
#[derive(Debug, Clone)]
pub struct RateLimiters {
    ledger: Ledger,
    settings: settings::RateLimitSection,
    micro_dollars_per_day: i64,
    portal: i64,
    health: TaskHealth,
}

impl RateLimiters {
    /// The limits in `settings`.
    ///
    /// # Errors
    /// `hubspot.portal_id` is missing: HubSpot's limits are those of a portal.
    pub fn new(settings: &Settings, ledger: &Ledger) -> Result<Self, MissingSetting> {
        Ok(Self {
            ledger: ledger.clone(),
            settings: settings.rate_limit.clone(),
            micro_dollars_per_day: settings.spend.micro_dollars_per_day,
            portal: settings.hubspot.portal_id.ok_or(MissingSetting("hubspot.portal_id"))?,
            health: TaskHealth::default(),
        })
    }

    /// Whether the tasks behind the limiters work.
    pub fn health(&self) -> &TaskHealth {
        &self.health
    }

    /// Limits calls to HubSpot: the portal's calls per ten seconds and per day, and those of the association endpoints.
    pub fn hubspot(&self, lane: Lane) -> SharedRateLimiter {
        let settings = &self.settings;
        let calls = (settings.hubspot_calls_per_10s, settings.hubspot_calls_per_day);
        let of_associations = (settings.hubspot_association_calls_per_10s, settings.hubspot_association_calls_per_day);
        Arc::new(HubSpotLimiter {
            all: self.hubspot_quota("", calls, lane),
            associations: self.hubspot_quota("associations/", of_associations, lane),
            max_wait: self.max_wait(),
            max_hold: self.max_hold(),
            linger_at_limit: Duration::from_millis(settings.batch_linger_at_limit_ms),
        })
    }

    /// A limit on calls per ten seconds and per day. `kind` is a part of its names.
    fn hubspot_quota(&self, kind: &str, (per_10s, per_day): (i64, i64), lane: Lane) -> QuotaClient {
        let terms = vec![
            RateLimitTerms {
                name: format!("hubspot/{}/{kind}10s", self.portal),
                window: Window::Rolling(HUBSPOT_WINDOW),
                quota: per_10s,
                share: self.settings.hubspot_share,
            },
            RateLimitTerms {
                name: format!("hubspot/{}/{kind}day", self.portal),
                window: Window::Day,
                quota: per_day,
                share: self.settings.hubspot_day_share,
            },
        ];
        QuotaClient::open(self.ledger.clone(), terms, self.share_of(lane), &self.health)
    }

    /// Limits calls to OpenAI: each model's requests and tokens per minute.
    pub fn openai(&self, lane: Lane) -> SharedRateLimiter {
        Arc::new(OpenAiLimiter {
            limits: self.clone(),
            share: self.share_of(lane),
            max_wait: self.max_wait(),
            quota_clients: Mutex::default(),
        })
    }

    /// Limits what answers cost in a day. `playbooks` are the names of those with a limit of their own, in micro-dollars.
    pub fn spend_limiter(&self, playbooks: impl IntoIterator<Item = (String, i64)>) -> SpendLimiter {
        SpendLimiter::open(&self.ledger, self.micro_dollars_per_day, playbooks, &self.health)
    }

    fn model_quota(&self, model: &str, share: f64) -> QuotaClient {
        let settings = &self.settings;
        let terms = [("requests", settings.openai_requests_per_minute), ("tokens", settings.openai_tokens_per_minute)];
        let terms = terms.map(|(what, quota)| RateLimitTerms {
            name: format!("openai/{model}/{what}"),
            window: Window::Rolling(OPENAI_WINDOW),
            quota,
            share: settings.openai_share,
        });
        QuotaClient::open(self.ledger.clone(), terms.into(), share, &self.health)
    }

    fn share_of(&self, lane: Lane) -> f64 {
        match lane {
            Lane::Live => 1.0,
            Lane::Backfill => self.settings.backfill_share,
        }
    }

    fn max_wait(&self) -> Duration {
        Duration::from_secs(self.settings.max_wait_seconds)
    }

    fn max_hold(&self) -> Duration {
        Duration::from_secs(self.settings.max_hold_seconds)
    }
}

/// Acquires `costs`, and records how long that took.
async fn acquire(
    quota_client: &QuotaClient,
    dependency: Dependency,
    key: &str,
    costs: [i64; 2],
    max_wait: Duration,
) -> Result<Permit, retry::RateLimited> {
    let began = Instant::now();
    let acquired = quota_client.acquire(costs.into(), max_wait).await;
    metrics::histogram!("leadline_rate_limit_wait_seconds", "dependency" => dependency.as_str())
        .record(began.elapsed().as_secs_f64());
    Ok(Permit { key: key.to_owned(), acquired_at: Instant::now(), units: costs[1], slices: acquired?.keep() })
}

#[derive(Debug)]
struct HubSpotLimiter {
    /// Every call counts here.
    all: QuotaClient,
    /// The calls of the association endpoints count here, too.
    associations: QuotaClient,
    max_wait: Duration,
    max_hold: Duration,
    linger_at_limit: Duration,
}

/// Each call counts once in both windows of a limit.
const ONE_CALL: [i64; 2] = [1, 1];

impl HubSpotLimiter {
    async fn acquire_both(&self, key: &str) -> Result<Permit, retry::RateLimited> {
        if key != HUBSPOT_ASSOCIATIONS {
            return acquire(&self.all, Dependency::HubSpot, key, ONE_CALL, self.max_wait).await;
        }
        let of_associations = acquire(&self.associations, Dependency::HubSpot, key, ONE_CALL, self.max_wait).await?;
        let permit = acquire(&self.all, Dependency::HubSpot, key, ONE_CALL, self.max_wait).await;
        if permit.is_err() {
            let unused = of_associations.slices.iter().enumerate();
            unused.for_each(|(limit, slice)| self.associations.refund(limit, *slice, 1));
        }
        permit
    }
}

/// Where less of a limit is used, batches wait for nothing, as single events want it; where more is used, as long as they may. The whole
/// limit is never used: grants that are not used yet, or expired, are a part of it.
const USED_SHARES: RangeInclusive<f64> = 0.5..=0.9;

/// From 0 to 1: how scarce calls are, where this part of a limit is used. It grows slowly at first, because some tenths of a second of
/// waiting are enough to stay below the limit at ten events a second, and an event that finds the limit used up waits for seconds.
fn scarcity(used_share: f64) -> f64 {
    let (from, to) = USED_SHARES.into_inner();
    ((used_share - from) / (to - from)).clamp(0.0, 1.0).powi(3)
}

impl RateLimiter for HubSpotLimiter {
    fn acquire<'a>(&'a self, key: &'a str, _: i64) -> PermitFuture<'a> {
        Box::pin(self.acquire_both(key))
    }

    fn extra_linger(&self, key: &str) -> Duration {
        let of_all = self.all.used_share(HUBSPOT_WINDOW);
        let of_own = if key == HUBSPOT_ASSOCIATIONS { self.associations.used_share(HUBSPOT_WINDOW) } else { 0.0 };
        self.linger_at_limit.mul_f64(scarcity(of_all.max(of_own)))
    }

    fn record_answer(&self, permit: Permit, reports: [Option<QuotaReport>; 2], _: Option<i64>) {
        self.all.report(reports.into(), permit.acquired_at, None);
    }

    fn record_rejection(&self, permit: Permit, reports: [Option<QuotaReport>; 2], wait: Duration) {
        let wait = wait.min(self.max_hold);
        tracing::warn!(?wait, "HubSpot rejected a call because of its rate limit; the fleet makes no calls meanwhile");
        self.all.report(reports.into(), permit.acquired_at, Some(wait));
    }
}

#[derive(Debug)]
struct OpenAiLimiter {
    limits: RateLimiters,
    share: f64,
    max_wait: Duration,
    /// By model; made at its first call.
    quota_clients: Mutex<HashMap<String, QuotaClient>>,
}

impl OpenAiLimiter {
    fn quota_client(&self, model: &str) -> QuotaClient {
        let mut quota_clients = self.quota_clients.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(quota_client) = quota_clients.get(model) {
            return quota_client.clone();
        }
        let quota_client = self.limits.model_quota(model, self.share);
        quota_clients.insert(model.to_owned(), quota_client.clone());
        quota_client
    }
}

/// The place of the limit on tokens among a model's limits.
const TOKENS: usize = 1;

impl RateLimiter for OpenAiLimiter {
    fn acquire<'a>(&'a self, key: &'a str, units: i64) -> PermitFuture<'a> {
        Box::pin(async move {
            let quota_client = self.quota_client(key);
            acquire(&quota_client, Dependency::OpenAi, key, [1, units], self.max_wait).await
        })
    }

    // Calls to a model are not batched.
    fn extra_linger(&self, _: &str) -> Duration {
        Duration::ZERO
    }

    fn record_answer(&self, permit: Permit, reports: [Option<QuotaReport>; 2], used: Option<i64>) {
        let quota_client = self.quota_client(&permit.key);
        if let Some(used) = used {
            quota_client.refund(TOKENS, permit.slices[TOKENS], permit.units - used);
        }
        quota_client.report(reports.into(), permit.acquired_at, None);
    }

    fn record_rejection(&self, permit: Permit, reports: [Option<QuotaReport>; 2], wait: Duration) {
        let wait = wait.min(self.limits.max_hold());
        tracing::warn!(
            ?wait,
            model = permit.key,
            "OpenAI rejected a call because of its rate limit; the fleet makes no calls to this model meanwhile"
        );
        let quota_client = self.quota_client(&permit.key);
        quota_client.refund(TOKENS, permit.slices[TOKENS], permit.units);
        quota_client.report(reports.into(), permit.acquired_at, Some(wait));
    }
}

#[cfg(test)]
mod tests {
    use super::scarcity;

    #[test]
    fn calls_are_scarce_where_more_than_half_of_a_limit_is_used_and_the_more_the_scarcer() {
        for (used, expected) in [(-0.1, 0.0), (0.0, 0.0), (0.5, 0.0), (0.7, 0.125), (0.9, 1.0), (7.0, 1.0)] {
            assert!((scarcity(used) - expected).abs() < 1e-9, "{used}: {}", scarcity(used));
        }
    }
}
