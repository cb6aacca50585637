//! The simulator: simulated HubSpot and OpenAI, as strict as the real ones are documented to be.
//!
//! One listener serves both APIs: HubSpot's under its own paths, OpenAI's under `/v1`, and what only a simulator can do
//! under `/_simulator` ([`admin`]). Everything is kept in memory; it is gone with the process.
#![allow(clippy::result_large_err, reason = "an error answer is an answer; nothing here is hot")]

pub mod admin;
mod calls;
mod faults;
mod hubspot;
mod inject;
mod openai;
pub mod population;
mod webhooks;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::AtomicUsize};

use axum::{Router, middleware};

pub use calls::Call;
pub use faults::{Fault, FaultKind, Target};
pub use webhooks::WebhookDelivery;

/// Who the simulator is.
#[derive(Debug, Clone)]
pub struct Config {
    /// The portal.
    pub portal_id: i64,
    /// The app whose token and secret are below.
    pub app_id: i64,
    /// The access token that is good.
    pub token: String,
    /// What that token may do.
    pub scopes: Vec<String>,
    /// The secret that webhooks are signed with.
    pub client_secret: String,
    /// Where webhooks go; none are sent without it.
    pub webhook_url: Option<String>,
    /// The URL that is signed, when it is not the one they go to (a proxy stands between).
    pub public_url: Option<String>,
    /// How often a webhook that was not answered 2xx is sent again. HubSpot does so ten times within 24 hours.
    pub webhook_retries: u32,
    /// Calls per rolling ten seconds.
    pub calls_per_10s: usize,
    /// Calls per day.
    pub calls_per_day: usize,
    /// The OpenAI key that is good.
    pub api_key: String,
    /// OpenAI requests per minute.
    pub requests_per_minute: usize,
    /// OpenAI tokens per minute, the requested output included.
    pub tokens_per_minute: usize,
    /// Calls that are remembered, with what was asked and answered.
    pub keep_calls: usize,
    /// How long a model takes to answer, in milliseconds.
    pub model_latency_ms: u64,
    /// Contacts with notes that are there from the beginning; see [`population`].
    pub contacts: usize,
    /// Whether the portal has the properties that the shipped playbooks write.
    pub ai_properties: bool,
}

impl Default for Config {
    fn default() -> Self {
        let scopes = [
            "crm.objects.contacts.read",
            "crm.objects.contacts.write",
            "crm.objects.deals.read",
            "crm.objects.deals.write",
            "crm.objects.companies.read",
            "crm.objects.companies.write",
            "crm.objects.owners.read",
            "crm.schemas.contacts.read",
            "crm.schemas.contacts.write",
            "crm.schemas.companies.read",
            "crm.schemas.companies.write",
            "crm.schemas.deals.read",
            "crm.schemas.deals.write",
            "tickets",
            "sales-email-read",
        ];
        Self {
            portal_id: 9_876_543,
            app_id: 1_234_567,
            token: "pat-na1-simulator".to_owned(),
            scopes: scopes.map(ToOwned::to_owned).to_vec(),
            client_secret: "simulator-client-secret".to_owned(),
            webhook_url: None,
            public_url: None,
            webhook_retries: 10,
            calls_per_10s: 190,
            calls_per_day: 650_000,
            api_key: "sk-simulator".to_owned(),
            requests_per_minute: 10_000,
            tokens_per_minute: 30_000_000,
            keep_calls: 200_000,
            model_latency_ms: 200,
            contacts: 0,
            ai_properties: true,
        }
    }
}

/// The simulated world.
pub struct Simulator {
    config: Config,
    portal: Mutex<hubspot::portal::Portal>,
    hubspot_limits: Mutex<hubspot::limits::Limits>,
    search_limit: Mutex<hubspot::limits::SearchLimit>,
    openai_limits: Mutex<openai::limits::Limits>,
    faults: Mutex<Vec<Fault>>,
    calls: Mutex<calls::Calls>,
    open_questions: AtomicUsize,
    messages: Mutex<Vec<admin::ChannelMessage>>,
    webhooks: webhooks::Sender,
}

/// A lock that a panicking handler left behind is still good here: every change is a single assignment or insert.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Simulator {
    /// A simulator; call it within a tokio runtime, which sends its webhooks.
    pub fn new(config: Config) -> Arc<Self> {
        let mut portal = hubspot::portal::Portal::new(&config);
        population::settle(&mut portal, config.contacts);
        Arc::new(Self {
            portal: Mutex::new(portal),
            search_limit: Mutex::default(),
            messages: Mutex::default(),
            hubspot_limits: Mutex::new(hubspot::limits::Limits::new(&config)),
            openai_limits: Mutex::new(openai::limits::Limits::new(&config)),
            faults: Mutex::default(),
            calls: Mutex::default(),
            open_questions: AtomicUsize::new(0),
            webhooks: webhooks::Sender::start(&config),
            config,
        })
    }

    /// Both APIs and the simulator's own paths.
    pub fn router(self: &Arc<Self>) -> Router {
        let apis = hubspot::router()
            .merge(openai::router())
            .layer(middleware::from_fn_with_state(self.clone(), inject::inject))
            .layer(middleware::from_fn_with_state(self.clone(), calls::record))
            .layer(axum::extract::DefaultBodyLimit::max(calls::MAX_BODY));
        apis.merge(admin::router()).with_state(self.clone())
    }
}
