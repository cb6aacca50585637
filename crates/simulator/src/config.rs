//! What the simulator is told at its start.

/// The settings of a simulator. Flat, because each field is one option of the command line.
#[derive(Debug, Clone)]
pub struct Config {
    /// The portal's id.
    pub portal_id: i64,
    /// The id of the app that `token` and `client_secret` belong to.
    pub app_id: i64,
    /// The access token that HubSpot's API accepts.
    pub token: String,
    /// The name of the portal's time zone.
    pub time_zone: String,
    /// The scopes of that token.
    pub scopes: Vec<String>,
    /// The secret that webhooks are signed with.
    pub client_secret: String,
    /// Where webhooks are sent; `None` sends none.
    pub webhook_url: Option<String>,
    /// The URL that is signed, where it differs from `webhook_url` (behind a proxy).
    pub public_url: Option<String>,
    /// How often a webhook is repeated after an answer other than 2xx. HubSpot: up to ten times within 24 hours.
    pub webhook_retries: u32,
    /// HubSpot calls per rolling ten seconds.
    pub calls_per_10s: usize,
    /// Calls of HubSpot's association endpoints per rolling ten seconds.
    pub association_calls_per_10s: usize,
    /// HubSpot calls per day.
    pub calls_per_day: usize,
    /// The key that OpenAI's API accepts.
    pub api_key: String,
    /// OpenAI requests per minute.
    pub requests_per_minute: usize,
    /// OpenAI tokens per minute: prompts and the reserved output.
    pub tokens_per_minute: usize,
    /// How many calls are kept with request and answer; 0 records none.
    pub keep_calls: usize,
    /// How long the model takes to answer, in milliseconds.
    pub model_latency_ms: u64,
    /// How many contacts with notes exist at the start; see [`population`](crate::population).
    pub contacts: usize,
    /// How many notes each of them has.
    pub notes_per_contact: usize,
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
            "crm.objects.custom.read",
            "crm.objects.custom.write",
            "crm.objects.owners.read",
            "crm.schemas.contacts.read",
            "crm.schemas.contacts.write",
            "crm.schemas.companies.read",
            "crm.schemas.companies.write",
            "crm.schemas.deals.read",
            "crm.schemas.deals.write",
            "crm.schemas.custom.read",
            "crm.schemas.custom.write",
            "tickets",
            "sales-email-read",
        ];
        Self {
            portal_id: 9_876_543,
            app_id: 1_234_567,
            token: "pat-na1-simulator".to_owned(),
            time_zone: "US/Eastern".to_owned(),
            scopes: scopes.map(ToOwned::to_owned).to_vec(),
            client_secret: "simulator-client-secret".to_owned(),
            webhook_url: None,
            public_url: None,
            webhook_retries: 10,
            calls_per_10s: 190,
            association_calls_per_10s: 150,
            calls_per_day: 650_000,
            api_key: "sk-simulator".to_owned(),
            requests_per_minute: 10_000,
            tokens_per_minute: 30_000_000,
            keep_calls: 200_000,
            model_latency_ms: 200,
            contacts: 0,
            notes_per_contact: crate::population::MAX_NOTES,
            ai_properties: true,
        }
    }
}
