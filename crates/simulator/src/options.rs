//! The options of the command line.

use clap::Parser;

use crate::Config;

/// The options of `leadline-simulator`.
#[derive(Debug, Clone, Parser)]
#[command(name = "leadline-simulator", version, about = "Simulated HubSpot and OpenAI, as strict as the real ones")]
pub struct SimulatorOptions {
    /// Where to listen. Keep it on loopback: anybody who reaches it can change its records.
    #[arg(long, default_value = "127.0.0.1:8090")]
    pub listen: String,
    /// Where webhooks are sent.
    #[arg(long)]
    webhook_url: Option<String>,
    /// The URL that is signed, where it differs from the one that webhooks are sent to.
    #[arg(long)]
    public_url: Option<String>,
    /// How often a webhook is repeated after an answer other than 2xx.
    #[arg(long, default_value_t = Config::default().webhook_retries)]
    webhook_retries: u32,
    /// HubSpot calls per rolling ten seconds.
    #[arg(long, default_value_t = Config::default().calls_per_10s)]
    calls_per_10s: usize,
    /// Calls of HubSpot's association endpoints per rolling ten seconds.
    #[arg(long, default_value_t = Config::default().association_calls_per_10s)]
    association_calls_per_10s: usize,
    /// OpenAI requests per minute.
    #[arg(long, default_value_t = Config::default().requests_per_minute)]
    requests_per_minute: usize,
    /// OpenAI tokens per minute: prompts and the reserved output.
    #[arg(long, default_value_t = Config::default().tokens_per_minute)]
    tokens_per_minute: usize,
    /// How many calls are kept with request and answer; 0 records none, for load tests.
    #[arg(long, default_value_t = Config::default().keep_calls)]
    keep_calls: usize,
    /// How long the model takes to answer, in milliseconds.
    #[arg(long, default_value_t = Config::default().model_latency_ms)]
    model_latency_ms: u64,
    /// How many contacts with notes exist at the start.
    #[arg(long, default_value_t = 0)]
    contacts: usize,
    /// How many notes each of these contacts has: 1 or 2.
    #[arg(long, default_value_t = Config::default().notes_per_contact)]
    notes_per_contact: usize,
    /// The name of the portal's time zone.
    #[arg(long, default_value_t = Config::default().time_zone)]
    time_zone: String,
    /// A scope that the token lacks; may be given several times.
    #[arg(long)]
    without_scope: Vec<String>,
    /// Start with a portal without the properties that the shipped playbooks write; `leadline playbook provision`
    /// creates them.
    #[arg(long)]
    without_ai_properties: bool,
}

impl From<SimulatorOptions> for Config {
    fn from(options: SimulatorOptions) -> Self {
        let mut config = Self {
            webhook_url: options.webhook_url,
            public_url: options.public_url,
            webhook_retries: options.webhook_retries,
            calls_per_10s: options.calls_per_10s,
            association_calls_per_10s: options.association_calls_per_10s,
            requests_per_minute: options.requests_per_minute,
            tokens_per_minute: options.tokens_per_minute,
            keep_calls: options.keep_calls,
            model_latency_ms: options.model_latency_ms,
            contacts: options.contacts,
            notes_per_contact: options.notes_per_contact,
            time_zone: options.time_zone,
            ai_properties: !options.without_ai_properties,
            ..Self::default()
        };
        config.scopes.retain(|scope| !options.without_scope.contains(scope));
        config
    }
}
