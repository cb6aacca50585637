//! The ledger and the API clients, from the settings.

use std::time::Duration;

use domain::{Credential, Dependency, Fingerprint};
use hubspot::client::{ApiVersion, ApiVersions, AssociationsVersion};
use ledger::{Ledger, LedgerError, LedgerSettings, PoolMode, Retention};
use openai::models::{self, Model, Price};
use retry::{CallHooks, RetryPolicy};
use secrecy::{ExposeSecret, SecretString};
use settings::{MissingSetting, Settings};

use crate::BootstrapError;

/// What `dependency` is called with. OpenAI's key counts together with the organization and the project that are named with it.
///
/// # Errors
/// It is not given, or no portal, whose id is the salt of the fingerprint.
pub fn credential(settings: &Settings, dependency: Dependency) -> Result<Credential, MissingSetting> {
    let (hubspot, openai) = (&settings.hubspot, &settings.openai);
    let (setting, secret, more) = match dependency {
        Dependency::HubSpot => ("hubspot.token", &hubspot.token, [None, None]),
        Dependency::OpenAi => {
            ("openai.api_key", &openai.api_key, [openai.organization.as_deref(), openai.project.as_deref()])
        }
    };
    let secret = secret.as_ref().ok_or(MissingSetting(setting))?.expose_secret();
    let salt = hubspot.portal_id.ok_or(MissingSetting("hubspot.portal_id"))?.to_string();
    let secrets = [secret].into_iter().chain(more.map(Option::unwrap_or_default));
    Ok(Credential { dependency, setting, fingerprint: Fingerprint::of(&salt, secrets) })
}

/// The ledger. `application_name` is shown in Postgres's `pg_stat_activity`. Connects when it is first used.
pub fn connect_ledger(settings: &Settings, application_name: &str) -> Result<Ledger, BootstrapError> {
    let pool_mode = match settings.ledger.pool_mode {
        settings::PoolMode::Session => PoolMode::Session,
        settings::PoolMode::Transaction => PoolMode::Transaction,
    };
    ledger_at(settings, settings.ledger.url(), pool_mode, application_name)
}

/// The ledger for a service, which ends with words when Postgres, or a pooler before it, answers and has not the sessions that the
/// settings say. Postgres may be away: then readiness says it later.
pub async fn connect_ledger_verified(settings: &Settings, application_name: &str) -> Result<Ledger, BootstrapError> {
    let ledger = connect_ledger(settings, application_name)?;
    match ledger.verify_sessions().await {
        Err(fault @ LedgerError::Session(_)) => Err(fault.into()),
        Err(error) => {
            tracing::warn!(%error, "the ledger does not answer yet");
            Ok(ledger)
        }
        Ok(()) => Ok(ledger),
    }
}

/// The ledger for its migration, which needs sessions whatever the others use.
pub fn connect_ledger_to_migrate(settings: &Settings, application_name: &str) -> Result<Ledger, BootstrapError> {
    ledger_at(settings, settings.ledger.migrate_url(), PoolMode::Session, application_name)
}

fn ledger_at(
    settings: &Settings,
    url: SecretString,
    pool_mode: PoolMode,
    application_name: &str,
) -> Result<Ledger, BootstrapError> {
    let section = &settings.ledger;
    Ok(Ledger::connect(&LedgerSettings {
        url,
        application_name: application_name.to_owned(),
        max_connections: section.max_connections,
        acquire_timeout: Duration::from_millis(section.acquire_timeout_ms),
        statement_timeout: Duration::from_millis(section.statement_timeout_ms),
        pool_mode,
    })?)
}

/// The versions of HubSpot's API that the settings choose.
pub fn api_versions(settings: &Settings) -> ApiVersions {
    let section = &settings.hubspot;
    // The settings allow no other text.
    ApiVersions {
        api: if section.api_version == "2026-09" { ApiVersion::Dated202609 } else { ApiVersion::V3 },
        associations: match section.associations_version.as_str() {
            "v4" => AssociationsVersion::V4,
            _ => AssociationsVersion::Dated202609,
        },
    }
}

/// What is kept for how long. `leadline migrate` tells the ledger.
pub fn retention(settings: &Settings) -> Retention {
    let section = &settings.retention;
    Retention { raw_days: section.raw_days, events_days: section.events_days }
}

/// The HubSpot client. `hooks` surround every attempt of its calls.
pub fn hubspot_client(settings: &Settings, hooks: CallHooks) -> Result<hubspot::HubSpotClient, BootstrapError> {
    let section = &settings.hubspot;
    Ok(hubspot::HubSpotClient::new(hubspot::client::HubSpotSettings {
        base_url: section.base_url.clone(),
        authorities: section.tls_ca.clone(),
        token: section.token.clone().ok_or(MissingSetting("hubspot.token"))?,
        api_versions: api_versions(settings),
        timeout: Duration::from_secs(section.timeout_seconds),
        retry: retry_policy(section.attempts, section.backoff_ms, section.backoff_max_ms),
        max_response_bytes: section.max_response_bytes,
        hooks,
    })?)
}

/// The OpenAI client. `hooks` surround every attempt of its calls.
pub fn openai_client(settings: &Settings, hooks: CallHooks) -> Result<openai::OpenAiClient, BootstrapError> {
    let section = &settings.openai;
    Ok(openai::OpenAiClient::new(openai::OpenAiSettings {
        base_url: section.base_url.clone(),
        api: section.api,
        path: match section.api {
            openai::ModelApi::ChatCompletions => section.chat_path.clone(),
            openai::ModelApi::Responses => section.responses_path.clone(),
        },
        credentials: openai::OpenAiCredentials {
            header: section.auth_header.clone(),
            api_key: section.api_key.clone().ok_or(MissingSetting("openai.api_key"))?,
            organization: section.organization.clone(),
            project: section.project.clone(),
        },
        timeout: Duration::from_secs(section.timeout_seconds),
        retry: retry_policy(section.attempts, section.backoff_ms, section.backoff_max_ms),
        max_response_bytes: section.max_response_bytes,
        connections: openai::ConnectionSharing {
            authorities: section.tls_ca.clone(),
            per_connection: section.max_requests_per_connection,
            http2_prior_knowledge: section.http2_prior_knowledge,
        },
        hooks,
    })?)
}

/// Context window, longest answer and prices of a model. `openai.models` in the settings takes precedence over the built-in
/// table, and `openai.surcharge_percent` is on top of both; `None` if neither has the model.
pub fn model_facts(settings: &Settings, name: &str) -> Option<Model> {
    let mut model = described_model(settings, name)?;
    if let Some(price) = &mut model.price {
        price.surcharge_percent = settings.openai.surcharge_percent;
    }
    Some(model)
}

fn described_model(settings: &Settings, name: &str) -> Option<Model> {
    let known = models::find(name);
    let Some(facts) = settings.openai.models.iter().find(|facts| facts.name == name) else { return known };
    // What the settings say of a model's price says nothing of its end and of its reasoning.
    let known = known.unwrap_or_else(|| Model::unknown(name));
    let price = known.price;
    Some(Model {
        name: facts.name.clone(),
        window: facts.window,
        max_output: facts.max_output,
        price: Some(Price {
            input: facts.input_micro_dollars,
            cached_input: facts.cached_input_micro_dollars,
            cache_write: facts.cache_write_micro_dollars.or(price.and_then(|price| price.cache_write)),
            output: facts.output_micro_dollars,
            long_prompt: facts.long_prompt_tokens.or(price.and_then(|price| price.long_prompt)),
            flex_percent: facts.flex_percent.or(price.and_then(|price| price.flex_percent)),
            priority_percent: facts.priority_percent.or(price.and_then(|price| price.priority_percent)),
            surcharge_percent: 0,
        }),
        ..known
    })
}

fn retry_policy(attempts: usize, base_ms: u64, max_ms: u64) -> RetryPolicy {
    RetryPolicy { attempts, base_delay: Duration::from_millis(base_ms), max_delay: Duration::from_millis(max_ms) }
}

#[cfg(test)]
mod tests {
    use settings::{ModelFacts, Settings};

    use super::model_facts;

    #[test]
    fn a_price_in_the_settings_keeps_what_is_known_of_the_cache_and_of_long_prompts() {
        let price = |cache_write_micro_dollars, long_prompt_tokens| {
            let mut settings = Settings::default();
            settings.openai.models = vec![ModelFacts {
                name: "gpt-6-luna".to_owned(),
                window: 1_050_000,
                max_output: 128_000,
                input_micro_dollars: 90_000,
                cached_input_micro_dollars: 9_000,
                cache_write_micro_dollars,
                output_micro_dollars: 450_000,
                long_prompt_tokens,
                flex_percent: None,
                priority_percent: None,
            }];
            let price = model_facts(&settings, "gpt-6-luna").and_then(|model| model.price).expect("a price");
            (price.input, price.cache_write, price.long_prompt)
        };
        assert_eq!(price(None, None), (90_000, Some(125_000), Some(272_000)));
        assert_eq!(price(Some(1), Some(2)), (90_000, Some(1), Some(2)));
    }
}
