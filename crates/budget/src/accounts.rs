//! The budgets that there are, and the accounts of them that clients take from.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use ledger::{BudgetTerms, Ledger, Window};
use retry::{Allowance, Allowed, Leave, Said, Ticket};
use runtime::config::{self, Settings};

use crate::{purse::Purse, wallet::Wallet};

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
pub struct Budgets {
    ledger: Ledger,
    settings: config::Budget,
    portal: i64,
}

impl Budgets {
    /// The budgets that `settings` name.
    ///
    /// # Errors
    /// Without `hubspot.portal_id`: limits are a portal's.
    pub fn new(settings: &Settings, ledger: &Ledger) -> Result<Self, String> {
        Ok(Self {
            ledger: ledger.clone(),
            settings: settings.budget.clone(),
            portal: settings.hubspot.portal_id.ok_or("hubspot.portal_id is not set")?,
        })
    }

    fn part(&self, lane: Lane) -> f64 {
        match lane {
            Lane::Live => 1.0,
            Lane::Backfill => self.settings.backfill_share,
        }
    }

    fn patience(&self) -> Duration {
        Duration::from_secs(self.settings.patience_seconds)
    }

    /// Leave to call HubSpot: calls per ten seconds and per day, of this portal.
    pub fn hubspot(&self, lane: Lane) -> Allowed {
        let settings = &self.settings;
        let terms = vec![
            BudgetTerms {
                name: format!("hubspot/{}/10s", self.portal),
                window: Window::Rolling(HUBSPOT_WINDOW),
                quota: settings.hubspot_calls_per_10s,
                share: settings.hubspot_share,
            },
            BudgetTerms {
                name: format!("hubspot/{}/day", self.portal),
                window: Window::Day,
                quota: settings.hubspot_calls_per_day,
                share: settings.hubspot_day_share,
            },
        ];
        let purse = Purse::open(self.ledger.clone(), terms, self.part(lane));
        let gather_at_limit = Duration::from_millis(settings.gather_at_limit_ms);
        Some(Arc::new(HubSpotCalls { purse, patience: self.patience(), gather_at_limit }))
    }

    /// Leave to ask OpenAI: requests and tokens per minute, by model.
    pub fn openai(&self, lane: Lane) -> Allowed {
        let part = self.part(lane);
        Some(Arc::new(ModelRequests {
            budgets: self.clone(),
            lane: part,
            patience: self.patience(),
            purses: Mutex::default(),
        }))
    }

    /// Money for questions; `playbooks` are those with a limit of their own, in micro-dollars a day.
    pub fn wallet(&self, playbooks: impl IntoIterator<Item = (String, i64)>) -> Wallet {
        Wallet::open(&self.ledger, self.settings.micro_dollars_per_day, playbooks)
    }

    fn model(&self, model: &str, lane: f64) -> Purse {
        let minute = Window::Rolling(Duration::from_secs(60));
        let settings = &self.settings;
        let terms = [("requests", settings.openai_requests_per_minute), ("tokens", settings.openai_tokens_per_minute)];
        let terms = terms.map(|(what, quota)| BudgetTerms {
            name: format!("openai/{model}/{what}"),
            window: minute,
            quota,
            share: settings.openai_share,
        });
        Purse::open(self.ledger.clone(), terms.into(), lane)
    }
}

fn news(said: [Option<Said>; 2]) -> Vec<Option<(i64, i64)>> {
    said.into_iter().map(|said| said.map(|said| (said.quota, said.remaining))).collect()
}

fn waited(what: &'static str, began: Instant) {
    metrics::histogram!("leadline_budget_wait_seconds", "of" => what).record(began.elapsed().as_secs_f64());
}

#[derive(Debug)]
struct HubSpotCalls {
    purse: Purse,
    patience: Duration,
    gather_at_limit: Duration,
}

impl Allowance for HubSpotCalls {
    fn take<'a>(&'a self, account: &'a str, _: i64) -> Leave<'a> {
        Box::pin(async move {
            let began = Instant::now();
            let booked = self.purse.take(vec![1, 1], self.patience).await;
            waited("hubspot", began);
            Ok(Ticket { account: account.to_owned(), taken: Instant::now(), units: 1, booked: booked? })
        })
    }

    // For a window after the last time that nothing was left: a full batch is worth more than a quick one then.
    fn time_to_gather(&self) -> Duration {
        if self.purse.was_empty_within(HUBSPOT_WINDOW) { self.gather_at_limit } else { Duration::ZERO }
    }

    fn answered(&self, ticket: Ticket, said: [Option<Said>; 2], _: Option<i64>) {
        self.purse.heard(news(said), ticket.taken, None);
    }

    fn refused(&self, ticket: Ticket, said: [Option<Said>; 2], wait: Duration) {
        tracing::warn!(?wait, "HubSpot refused a call because of its limit; the fleet holds");
        self.purse.heard(news(said), ticket.taken, Some(wait));
    }
}

#[derive(Debug)]
struct ModelRequests {
    budgets: Budgets,
    lane: f64,
    patience: Duration,
    purses: Mutex<HashMap<String, Purse>>,
}

impl ModelRequests {
    fn purse(&self, model: &str) -> Purse {
        let mut purses = self.purses.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(purse) = purses.get(model) {
            return purse.clone();
        }
        let purse = self.budgets.model(model, self.lane);
        purses.insert(model.to_owned(), purse.clone());
        purse
    }
}

/// The place of tokens among a model's budgets.
const TOKENS: usize = 1;

impl Allowance for ModelRequests {
    fn take<'a>(&'a self, account: &'a str, units: i64) -> Leave<'a> {
        Box::pin(async move {
            let began = Instant::now();
            let booked = self.purse(account).take(vec![1, units], self.patience).await;
            waited("openai", began);
            Ok(Ticket { account: account.to_owned(), taken: Instant::now(), units, booked: booked? })
        })
    }

    // Questions are not put together.
    fn time_to_gather(&self) -> Duration {
        Duration::ZERO
    }

    fn answered(&self, ticket: Ticket, said: [Option<Said>; 2], used: Option<i64>) {
        let purse = self.purse(&ticket.account);
        if let Some(used) = used {
            purse.settle(TOKENS, ticket.booked[TOKENS], ticket.units - used);
        }
        purse.heard(news(said), ticket.taken, None);
    }

    fn refused(&self, ticket: Ticket, said: [Option<Said>; 2], wait: Duration) {
        tracing::warn!(
            ?wait,
            model = ticket.account,
            "OpenAI refused a question because of its limit; the fleet holds"
        );
        let purse = self.purse(&ticket.account);
        purse.settle(TOKENS, ticket.booked[TOKENS], ticket.units);
        purse.heard(news(said), ticket.taken, Some(wait));
    }
}
