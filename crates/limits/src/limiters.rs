//! The budgets that there are, and the limiters of them that clients take from.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use ledger::{Ledger, RateLimitTerms, Window};
use retry::{Permit, PermitFuture, QuotaReport, RateLimiter, SharedRateLimiter};
use settings::{MissingSetting, Settings};

use crate::{quota_client::QuotaClient, spend_limiter::SpendLimiter};

/// HubSpot's limit is for ten seconds.
const HUBSPOT_WINDOW: Duration = Duration::from_secs(10);

/// Who calls: what a person has just done goes before what happened long ago.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lane {
    /// Events as they come, and every write.
    Live,
    /// Catching up: leaves a reserve to the others.
    Backfill,
}

/// The fleet's budgets.
#[derive(Debug, Clone)]
pub struct RateLimiters {
    ledger: Ledger,
    settings: settings::RateLimitSection,
    micro_dollars_per_day: i64,
    portal: i64,
}

impl RateLimiters {
    /// The budgets that `settings` name.
    ///
    /// # Errors
    /// Without `hubspot.portal_id`: limits are a portal's.
    pub fn new(settings: &Settings, ledger: &Ledger) -> Result<Self, MissingSetting> {
        Ok(Self {
            ledger: ledger.clone(),
            settings: settings.rate_limit.clone(),
            micro_dollars_per_day: settings.spend.micro_dollars_per_day,
            portal: settings.hubspot.portal_id.ok_or(MissingSetting("hubspot.portal_id"))?,
        })
    }

    fn part(&self, lane: Lane) -> f64 {
        match lane {
            Lane::Live => 1.0,
            Lane::Backfill => self.settings.backfill_share,
        }
    }

    fn max_wait(&self) -> Duration {
        Duration::from_secs(self.settings.max_wait_seconds)
    }

    /// PermitFuture to call HubSpot: calls per ten seconds and per day, of this portal.
    pub fn hubspot(&self, lane: Lane) -> SharedRateLimiter {
        let settings = &self.settings;
        let terms = vec![
            RateLimitTerms {
                name: format!("hubspot/{}/10s", self.portal),
                window: Window::Rolling(HUBSPOT_WINDOW),
                quota: settings.hubspot_calls_per_10s,
                share: settings.hubspot_share,
            },
            RateLimitTerms {
                name: format!("hubspot/{}/day", self.portal),
                window: Window::Day,
                quota: settings.hubspot_calls_per_day,
                share: settings.hubspot_day_share,
            },
        ];
        let quota_client = QuotaClient::open(self.ledger.clone(), terms, self.part(lane));
        let gather_at_limit = Duration::from_millis(settings.batch_linger_at_limit_ms);
        Arc::new(HubSpotCalls { quota_client, max_wait: self.max_wait(), gather_at_limit })
    }

    /// PermitFuture to ask OpenAI: requests and tokens per minute, by model.
    pub fn openai(&self, lane: Lane) -> SharedRateLimiter {
        let part = self.part(lane);
        Arc::new(ModelRequests {
            budgets: self.clone(),
            lane: part,
            max_wait: self.max_wait(),
            purses: Mutex::default(),
        })
    }

    /// Money for questions; `playbooks` are those with a limit of their own, in micro-dollars a day.
    pub fn spend_limiter(&self, playbooks: impl IntoIterator<Item = (String, i64)>) -> SpendLimiter {
        SpendLimiter::open(&self.ledger, self.micro_dollars_per_day, playbooks)
    }

    fn model(&self, model: &str, lane: f64) -> QuotaClient {
        let minute = Window::Rolling(Duration::from_secs(60));
        let settings = &self.settings;
        let terms = [("requests", settings.openai_requests_per_minute), ("tokens", settings.openai_tokens_per_minute)];
        let terms = terms.map(|(what, quota)| RateLimitTerms {
            name: format!("openai/{model}/{what}"),
            window: minute,
            quota,
            share: settings.openai_share,
        });
        QuotaClient::open(self.ledger.clone(), terms.into(), lane)
    }
}

fn news(said: [Option<QuotaReport>; 2]) -> Vec<Option<(i64, i64)>> {
    said.into_iter().map(|said| said.map(|said| (said.quota, said.remaining))).collect()
}

fn waited(what: &'static str, began: Instant) {
    metrics::histogram!("leadline_rate_limit_wait_seconds", "of" => what).record(began.elapsed().as_secs_f64());
}

#[derive(Debug)]
struct HubSpotCalls {
    quota_client: QuotaClient,
    max_wait: Duration,
    gather_at_limit: Duration,
}

impl RateLimiter for HubSpotCalls {
    fn acquire<'a>(&'a self, key: &'a str, _: i64) -> PermitFuture<'a> {
        Box::pin(async move {
            let began = Instant::now();
            let slices = self.quota_client.take(vec![1, 1], self.max_wait).await;
            waited("hubspot", began);
            Ok(Permit { key: key.to_owned(), acquired_at: Instant::now(), units: 1, slices: slices? })
        })
    }

    // For a window after the last time that nothing was left: a full batch is worth more than a quick one then.
    fn extra_linger(&self) -> Duration {
        if self.quota_client.was_empty_within(HUBSPOT_WINDOW) { self.gather_at_limit } else { Duration::ZERO }
    }

    fn record_answer(&self, permit: Permit, said: [Option<QuotaReport>; 2], _: Option<i64>) {
        self.quota_client.heard(news(said), permit.acquired_at, None);
    }

    fn record_rejection(&self, permit: Permit, said: [Option<QuotaReport>; 2], wait: Duration) {
        tracing::warn!(?wait, "HubSpot refused a call because of its limit; the fleet holds");
        self.quota_client.heard(news(said), permit.acquired_at, Some(wait));
    }
}

#[derive(Debug)]
struct ModelRequests {
    budgets: RateLimiters,
    lane: f64,
    max_wait: Duration,
    purses: Mutex<HashMap<String, QuotaClient>>,
}

impl ModelRequests {
    fn quota_client(&self, model: &str) -> QuotaClient {
        let mut purses = self.purses.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(quota_client) = purses.get(model) {
            return quota_client.clone();
        }
        let quota_client = self.budgets.model(model, self.lane);
        purses.insert(model.to_owned(), quota_client.clone());
        quota_client
    }
}

/// The place of tokens among a model's budgets.
const TOKENS: usize = 1;

impl RateLimiter for ModelRequests {
    fn acquire<'a>(&'a self, key: &'a str, units: i64) -> PermitFuture<'a> {
        Box::pin(async move {
            let began = Instant::now();
            let slices = self.quota_client(key).take(vec![1, units], self.max_wait).await;
            waited("openai", began);
            Ok(Permit { key: key.to_owned(), acquired_at: Instant::now(), units, slices: slices? })
        })
    }

    // Questions are not put together.
    fn extra_linger(&self) -> Duration {
        Duration::ZERO
    }

    fn record_answer(&self, permit: Permit, said: [Option<QuotaReport>; 2], used: Option<i64>) {
        let quota_client = self.quota_client(&permit.key);
        if let Some(used) = used {
            quota_client.settle(TOKENS, permit.slices[TOKENS], permit.units - used);
        }
        quota_client.heard(news(said), permit.acquired_at, None);
    }

    fn record_rejection(&self, permit: Permit, said: [Option<QuotaReport>; 2], wait: Duration) {
        tracing::warn!(?wait, model = permit.key, "OpenAI refused a question because of its limit; the fleet holds");
        let quota_client = self.quota_client(&permit.key);
        quota_client.settle(TOKENS, permit.slices[TOKENS], permit.units);
        quota_client.heard(news(said), permit.acquired_at, Some(wait));
    }
}
