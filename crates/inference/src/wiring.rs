//! Builds the service's parts from the settings.

use std::{sync::Arc, time::Duration};

use bootstrap::{BootstrapError, CallHooks};
use domain::{AppId, Credential, Dependency, PortalId, model::RequestedTier};
use hubspot::HubSpotClient;
use ledger::{Ledger, Worker};
use limits::{Lane, RateLimiters, TaskHealth};
use maintenance::{CircuitBreakers, ModelCircuits, ModelProbe, Probe, hubspot_probe, probe};
use openai::{OpenAiClient, OpenAiError, models::Model};
use playbook::{LoadError, Playbook};
use retry::Failure;
use settings::{MissingSetting, Settings};

use crate::{
    BatchedLedger, BatchedLedgerSettings, ConfiguredPlaybook, CrmReader, CrmReaderSettings, HeldBack, ModelClient,
    PlaybookSet, PortalClock, PromptLog, TextPool, WritableProperties,
    handler::{EventHandler, EventTiming},
    model_check::check_models,
    spend::check_spending,
};

/// The share of a lease that is kept for committing the decision.
const COMMIT_SHARE: f64 = 0.15;

/// Why the settings cannot be turned into a handler.
#[derive(Debug, thiserror::Error)]
pub enum InferenceWiringError {
    /// A setting without a default is missing.
    #[error(transparent)]
    Missing(#[from] MissingSetting),
    /// A client cannot be made.
    #[error(transparent)]
    Bootstrap(#[from] BootstrapError),
}

/// Why the playbooks cannot be run.
#[derive(Debug, thiserror::Error)]
pub enum PlaybooksError {
    /// They cannot be loaded.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// A spend limit cannot hold, or a model refuses an option.
    #[error("{}", .0.join("\n"))]
    Models(Vec<String>),
}

/// The playbooks of `inference.playbooks`, each with the facts about its model.
///
/// # Errors
/// Everything that is wrong with any of the files, or every spend limit that cannot hold and every option that a model
/// refuses.
pub fn load_playbooks(settings: &Settings) -> Result<Vec<ConfiguredPlaybook>, PlaybooksError> {
    let playbooks = playbook::load(&settings.inference.playbooks, &settings.inference.protected_properties)?;
    let configure = |mut playbook: Playbook| {
        playbook.effects.escapes_formulas = settings.inference.escape_formulas;
        tracing::info!(name = playbook.name, version = playbook.version, "playbook");
        let fallbacks = fallbacks_of(settings, &playbook);
        ConfiguredPlaybook { model: model_of(settings, &playbook), fallbacks, playbook, gate: None }
    };
    let playbooks: Vec<_> = playbooks.into_iter().map(configure).collect();
    let with_models = || playbooks.iter().flat_map(|one| one.models().map(|model| (&one.playbook, model)));
    let findings = check_spending(settings, with_models());
    findings.warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
    let mut problems = findings.problems;
    problems.extend(check_models(settings.openai.api, with_models()));
    if problems.is_empty() { Ok(playbooks) } else { Err(PlaybooksError::Models(problems)) }
}

/// The facts about a playbook's model, which reasons as `openai.effort` says if the playbook says nothing, in the tier
/// `openai.service_tier`. An unknown model has no price, and the playbook's own limits are its only ones.
pub fn model_of(settings: &Settings, playbook: &Playbook) -> Model {
    facts_about(settings, playbook.model.name.as_ref().unwrap_or(&settings.openai.model))
}

/// The facts about the models that answer while a playbook's own is away, as [`model_of`] gives them. One that is the own,
/// because `openai.model` says so, is left out.
pub fn fallbacks_of(settings: &Settings, playbook: &Playbook) -> Vec<Model> {
    let own = playbook.model.name.as_ref().unwrap_or(&settings.openai.model);
    let others = playbook.model.fallback.iter().filter(|name| *name != own);
    others.map(|name| facts_about(settings, name)).collect()
}

fn facts_about(settings: &Settings, name: &str) -> Model {
    let unknown = || {
        tracing::warn!(model = name, "no facts about this model in openai.models; its cost is not recorded");
        Model::unknown(name)
    };
    let mut facts = bootstrap::model_facts(settings, name).unwrap_or_else(unknown);
    if let Some(reasoning) = &mut facts.reasoning
        && let Some(effort) = settings.openai.effort.filter(|effort| reasoning.efforts.contains(effort))
    {
        reasoning.default = effort;
    }
    let tier = settings.openai.service_tier;
    let has_tier = facts.price.is_none_or(|price| price.has_tier(tier));
    let service_tier = if has_tier { tier } else { RequestedTier::Default };
    Model { name: name.to_owned(), service_tier, prompt_cache: settings.openai.prompt_cache, ..facts }
}

/// The dependencies whose outages pause this service.
pub const DEPENDENCIES: [Dependency; 2] = [Dependency::HubSpot, Dependency::OpenAi];

/// What the service calls each of [`DEPENDENCIES`] with.
///
/// # Errors
/// One of them is not given.
pub fn credentials(settings: &Settings) -> Result<Vec<Credential>, MissingSetting> {
    DEPENDENCIES.into_iter().map(|dependency| bootstrap::credential(settings, dependency)).collect()
}

/// What the service consists of.
pub struct Wiring {
    /// Processes events as they come.
    pub live: EventHandler,
    /// Processes events of the backfill lane, whose calls leave a reserve of the rate limits to live events. `None` when
    /// `inference.backfill_concurrency` is 0.
    pub backfill: Option<EventHandler>,
    /// Processes deletions for privacy reasons, which need the ledger alone.
    pub erasures: EventHandler,
    /// Detects the end of an outage, for each of [`DEPENDENCIES`].
    pub probes: Vec<(Dependency, Probe)>,
    /// What calls HubSpot.
    pub hubspot: HubSpotClient,
    /// Whether the tasks behind the limits work.
    pub quota_health: TaskHealth,
}

/// Builds the handlers for `playbooks`. `worker` names this process in claims.
///
/// # Errors
/// A setting is missing or wrong.
pub fn wire(
    settings: &Settings,
    playbooks: Vec<ConfiguredPlaybook>,
    ledger: &Ledger,
    worker: Worker,
    publisher: broker::Publisher,
    circuit_breakers: CircuitBreakers,
) -> Result<Wiring, InferenceWiringError> {
    let portal_id = PortalId(settings.hubspot.portal_id.ok_or(MissingSetting("hubspot.portal_id"))?);
    let app_id = AppId(settings.hubspot.app_id.ok_or(MissingSetting("hubspot.app_id"))?);
    let rate_limiters = RateLimiters::new(settings, ledger)?;
    let hooks = |of| CallHooks { observer: circuit_breakers.observer(of), rate_limiter: None };
    let hubspot = bootstrap::hubspot_client(settings, hooks(Dependency::HubSpot))?;
    let openai = bootstrap::openai_client(settings, hooks(Dependency::OpenAi))?;
    let openai = openai.with_rate_limiter(rate_limiters.openai(Lane::Live));
    // Any of the models will do: a probe asks whether OpenAI answers.
    let probed_model = playbooks.first().map_or(&settings.openai.model, |configured| &configured.model.name);
    let probes =
        vec![(Dependency::HubSpot, hubspot_probe(&hubspot)), (Dependency::OpenAi, openai_probe(&openai, probed_model))];
    let spend_limits = playbooks.iter().filter_map(|ConfiguredPlaybook { playbook, .. }| {
        Some((playbook.name.clone(), playbook.model.max_micro_dollars_per_day?))
    });
    let spend_limiter = rate_limiters.spend_limiter(spend_limits);
    let models = playbooks.iter().flat_map(|one| one.models().map(|model| one.circuit(model)));
    let owner = (ledger.clone(), worker.clone());
    let model_circuits =
        ModelCircuits::new(&settings.circuit_breaker, models, owner, lease(settings), model_probe(&openai));
    let limited = hubspot.with_rate_limiter(rate_limiters.hubspot(Lane::Live));
    let portal_clock = PortalClock::new(limited.clone());
    let writable = Arc::new(WritableProperties::new(limited, playbooks.iter().map(|configured| &configured.playbook)));
    let crm_reader = crm_reader(hubspot.clone(), settings).with_rate_limiter(rate_limiters.hubspot(Lane::Live));
    let held_back = HeldBack::of(&playbooks, ledger);
    let live = EventHandler {
        playbooks: Arc::new(PlaybookSet::new(playbooks, portal_id, app_id)),
        ledger: Arc::new(BatchedLedger::start(ledger.clone(), worker, batched_ledger_settings(settings))),
        crm_reader,
        portal_clock,
        writable,
        model_client: ModelClient {
            openai,
            spend_limiter,
            record_limit: Some(settings.spend.micro_dollars_per_record_and_day).filter(|limit| *limit > 0),
            max_parts: settings.inference.max_parts,
            text_pool: text_pool(settings),
            prompt_log: PromptLog::of(&settings.telemetry),
        },
        publisher,
        circuit_breakers,
        waits_for_outages: true,
        model_circuits,
        held_back,
        retry_schedule: bootstrap::retry_schedule(settings)?,
        timing: EventTiming {
            debounce: Duration::from_millis(settings.inference.debounce_ms),
            time_limit: lease(settings).mul_f64(1.0 - COMMIT_SHARE),
            association_wait: Duration::from_secs(settings.inference.association_wait_seconds),
        },
    };
    let has_backfill = settings.inference.backfill_concurrency > 0;
    let backfill = has_backfill.then(|| with_lane(&live, &rate_limiters, Lane::Backfill));
    let erasures = EventHandler { waits_for_outages: false, ..live.clone() };
    let quota_health = rate_limiters.health().clone();
    Ok(Wiring { live, backfill, erasures, probes, hubspot, quota_health })
}

/// Detects the end of an outage of OpenAI by reading the description of `model`, which costs nothing. Some keys may ask models and not
/// read about them: whether such a key works, a message has to find out.
fn openai_probe(openai: &OpenAiClient, model: &str) -> Probe {
    let (openai, model) = (openai.clone(), model.to_owned());
    probe(move || {
        let (openai, model) = (openai.clone(), model.clone());
        async move {
            match openai.describe(&model).await {
                Err(error) if !error.leaves_key_valid() => Err(error),
                _ => Ok(()),
            }
        }
    })
}

/// Asks for the description of a model, which costs nothing. Only OpenAI's own word says that it is away: compatible servers do
/// not describe theirs, and some keys may ask models and not read about them.
fn model_probe(openai: &OpenAiClient) -> ModelProbe {
    let openai = openai.clone();
    Box::new(move |model| {
        let openai = openai.clone();
        Box::pin(async move {
            let denied = |error: OpenAiError| error.denies_model() || error.outage().is_some();
            !openai.describe(&model).await.is_err_and(denied)
        })
    })
}

/// The same handler with the rate limits of another lane.
fn with_lane(handler: &EventHandler, rate_limiters: &RateLimiters, lane: Lane) -> EventHandler {
    let model_client = handler.model_client.clone();
    let openai = model_client.openai.with_rate_limiter(rate_limiters.openai(lane));
    EventHandler {
        crm_reader: handler.crm_reader.with_rate_limiter(rate_limiters.hubspot(lane)),
        model_client: ModelClient { openai, ..model_client },
        ..handler.clone()
    }
}

/// A reader of contexts whose calls `hubspot` makes.
pub fn crm_reader(hubspot: hubspot::HubSpotClient, settings: &Settings) -> CrmReader {
    let reads = CrmReaderSettings {
        linger: Duration::from_millis(settings.hubspot.batch_linger_ms),
        max_in_flight: settings.hubspot.parallel_reads,
    };
    CrmReader::new(hubspot, reads)
}

/// The threads for long texts.
pub fn text_pool(settings: &Settings) -> TextPool {
    TextPool::new(settings.inference.text_threads)
}

fn batched_ledger_settings(settings: &Settings) -> BatchedLedgerSettings {
    BatchedLedgerSettings {
        batch_max: settings.ledger.batch_max,
        linger: Duration::from_millis(settings.ledger.batch_linger_ms),
        lease: lease(settings),
        unchanged_context_ttl: Duration::from_secs(3_600 * u64::from(settings.inference.unchanged_context_ttl_hours)),
    }
}

fn lease(settings: &Settings) -> Duration {
    Duration::from_secs(settings.inference.lease_seconds)
}

#[cfg(test)]
mod tests {
    use axum::{Json, Router, http::StatusCode};
    use maintenance::ProbeOutcome;
    use serde_json::{Value, json};
    use settings::Settings;

    use super::{load_playbooks, openai_probe};

    const LEADS: &str = include_str!("../../../deploy/playbooks/lead-qualification.toml");

    /// What is wrong with the shipped lead qualification with these options of its model.
    fn problems(name: &str, options: &str) -> String {
        let folder = std::env::temp_dir().join(format!("leadline-wiring-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder");
        let text = LEADS.replace("mode = \"schema\"", options);
        std::fs::write(folder.join("leads.toml"), text).expect("written");
        let mut settings = Settings::default();
        settings.inference.playbooks.clone_from(&folder);
        let loaded = load_playbooks(&settings);
        std::fs::remove_dir_all(&folder).expect("removed");
        loaded.err().map(|error| error.to_string()).unwrap_or_default()
    }

    /// What the probe finds out when OpenAI answers with this error.
    async fn probed(error: Value) -> ProbeOutcome {
        http_client::install_tls_provider();
        let answer = move || async move { (StatusCode::UNAUTHORIZED, Json(json!({ "error": error }))) };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        tokio::spawn(async move { axum::serve(listener, Router::new().fallback(answer)).await });
        let mut settings = Settings::default();
        settings.openai.api_key = Some("sk-restricted".to_owned().into());
        settings.openai.base_url = format!("http://{address}");
        let hooks = bootstrap::CallHooks { observer: None, rate_limiter: None };
        let openai = bootstrap::openai_client(&settings, hooks).expect("a client");
        openai_probe(&openai, "gpt-4o")().await
    }

    #[tokio::test]
    async fn a_key_that_may_not_read_about_models_is_not_rejected_by_the_probe() {
        let lacks_scope = json!({"message": "Missing scopes", "type": "invalid_request_error", "code": null});
        assert_eq!(probed(lacks_scope).await, ProbeOutcome::Available);
        for wrong in [
            json!({"type": "invalid_request_error", "code": "invalid_api_key"}),
            json!({"type": "authentication_error", "code": null}),
        ] {
            let outcome = probed(wrong.clone()).await;
            assert!(matches!(outcome, ProbeOutcome::Rejected { .. }), "{wrong}: {outcome:?}");
        }
    }

    #[test]
    fn options_and_limits_are_checked_for_every_fallback() {
        let plain = problems("plain", "effort = \"none\"\nfallback = [\"gpt-6.1-terra\", \"gpt-4o\"]");
        assert_eq!(plain, "");
        let refused = problems("refused", "effort = \"none\"\nfallback = [\"gpt-6.1-sol\"]");
        assert!(refused.contains("gpt-6.1-sol knows no effort `none`"), "{refused}");
        let unpriced = problems("unpriced", "fallback = [\"my-model\"]");
        assert!(unpriced.contains("`my-model`, which has no price"), "{unpriced}");
    }
}
