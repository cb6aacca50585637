//! The simulator's state: both APIs answer from it.

use std::sync::{Arc, Mutex};

use tokio::sync::watch;

use crate::{
    calls::Calls,
    charges::Charges,
    config::Config,
    faults::Fault,
    hubspot::{limits::HubSpotLimits, portal::Portal},
    messages::ChannelMessage,
    openai::{ModelAccess, cache::PromptCache, kept_back::KeptBack, limits::OpenAiTraffic},
    population,
    webhooks::WebhookSender,
};

/// A simulated portal, a simulated model, and everything that is observed about them.
pub struct Simulator {
    pub(crate) config: Config,
    pub(crate) portal: Mutex<Portal>,
    pub(crate) hubspot_limits: Mutex<HubSpotLimits>,
    pub(crate) openai_traffic: OpenAiTraffic,
    pub(crate) prompt_cache: Mutex<PromptCache>,
    pub(crate) model_access: Mutex<ModelAccess>,
    pub(crate) kept_back: Mutex<KeptBack>,
    pub(crate) faults: Mutex<Vec<Fault>>,
    /// Tells the calls that are held that the faults are switched off.
    pub(crate) faults_cleared: watch::Sender<()>,
    pub(crate) calls: Mutex<Calls>,
    pub(crate) charges: Mutex<Charges>,
    pub(crate) messages: Mutex<Vec<ChannelMessage>>,
    pub(crate) webhooks: WebhookSender,
}

impl Simulator {
    /// A simulator as `config` describes it. Must be called within a tokio runtime: a background task sends the
    /// webhooks.
    pub fn new(config: Config) -> Arc<Self> {
        let mut portal = Portal::new(&config);
        population::add_contacts(&mut portal, config.contacts, config.notes_per_contact);
        Arc::new(Self {
            portal: Mutex::new(portal),
            hubspot_limits: Mutex::new(HubSpotLimits::new(&config)),
            openai_traffic: OpenAiTraffic::new(&config),
            prompt_cache: Mutex::default(),
            model_access: Mutex::default(),
            kept_back: Mutex::default(),
            faults: Mutex::default(),
            faults_cleared: watch::Sender::default(),
            calls: Mutex::default(),
            charges: Mutex::default(),
            messages: Mutex::default(),
            webhooks: WebhookSender::start(&config),
            config,
        })
    }
}
