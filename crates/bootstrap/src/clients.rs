use std::time::Duration;

use hubspot::client::ApiVersion;
use ledger::Ledger;
use openai::models::{self, Model, Price};
use retry::{CallHooks, Policy};
use settings::Settings;

/// The ledger, for the process named `name`.
pub fn ledger(settings: &Settings, name: &str) -> Result<Ledger, String> {
    let section = &settings.ledger;
    Ledger::connect(&ledger::Settings {
        url: section.url.clone(),
        application_name: name.to_owned(),
        max_connections: section.max_connections,
        acquire_timeout: Duration::from_millis(section.acquire_timeout_ms),
        statement_timeout: Duration::from_millis(section.statement_timeout_ms),
    })
    .map_err(|error| format!("ledger.url: {error}"))
}

/// The HubSpot client, whose calls are `hooks`.
pub fn hubspot(settings: &Settings, hooks: CallHooks) -> Result<hubspot::HubSpotClient, String> {
    let section = &settings.hubspot;
    let api_version = match section.api_version.as_str() {
        "2026-09" => ApiVersion::Dated202609,
        _ => ApiVersion::V3,
    };
    hubspot::HubSpotClient::new(hubspot::client::HubSpotSettings {
        base_url: section.base_url.clone(),
        token: section.token.clone().ok_or("hubspot.token is not set")?,
        api_version,
        timeout: Duration::from_secs(section.timeout_seconds),
        retry: policy(section.attempts, section.backoff_ms, section.backoff_max_ms),
        max_response_bytes: section.max_response_bytes,
        hooks,
    })
    .map_err(|error| format!("the HubSpot client: {error}"))
}

/// The OpenAI client, whose calls are `hooks`.
pub fn openai(settings: &Settings, hooks: CallHooks) -> Result<openai::OpenAiClient, String> {
    let section = &settings.openai;
    openai::OpenAiClient::new(openai::OpenAiSettings {
        base_url: section.base_url.clone(),
        chat_path: section.chat_path.clone(),
        auth_header: section.auth_header.clone(),
        api_key: section.api_key.clone().ok_or("openai.api_key is not set")?,
        organization: section.organization.clone(),
        project: section.project.clone(),
        timeout: Duration::from_secs(section.timeout_seconds),
        retry: policy(section.attempts, section.backoff_ms, section.backoff_max_ms),
        max_response_bytes: section.max_response_bytes,
        connections: openai::ConnectionSharing {
            per_connection: section.max_requests_per_connection,
            http2_prior_knowledge: section.http2_prior_knowledge,
        },
        hooks,
    })
    .map_err(|error| format!("the OpenAI client: {error}"))
}

/// The facts about a model: the settings' own first, then those that are built in.
pub fn model_facts(settings: &Settings, name: &str) -> Option<Model> {
    let given = settings.openai.models.iter().find(|facts| facts.name == name).map(|facts| Model {
        name: facts.name.clone(),
        window: facts.window,
        max_output: facts.max_output,
        price: Some(Price {
            input: facts.input_micro_dollars,
            cached_input: facts.cached_input_micro_dollars,
            output: facts.output_micro_dollars,
        }),
    });
    given.or_else(|| models::find(name))
}

fn policy(attempts: usize, base_ms: u64, cap_ms: u64) -> Policy {
    Policy { attempts, base: Duration::from_millis(base_ms), cap: Duration::from_millis(cap_ms) }
}
