//! Connects and wires the service, for its `main` and for tests that run it as a task.

use std::{process::ExitCode, sync::Arc};

use broker::{ConsumeMode, Stage};
use domain::Dependency;
use futures_util::future::OptionFuture;
use hubspot::HubSpotClient;
use ledger::{Ledger, Worker};
use maintenance::{CircuitBreakers, Eraser, Reconciler};
use openai::OpenAiClient;
use service::{Reload, ServiceFailure, Wired};
use settings::{ConfigScope, MissingSetting, Reloadable, Settings};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::{
    gate::{self, Gates},
    model_end::ModelEnds,
    playbook_set,
    wiring::{self, Wiring},
};

/// Deletions for privacy reasons at once. Each is a few statements, and they are rare.
const ERASURES_AT_ONCE: usize = 4;

/// The `main` of `leadline-inference`, which the image's one program runs, too, when it is called by that name.
pub async fn main() -> ExitCode {
    // Boxed, as it is large.
    Box::pin(service::main(
        "leadline-inference",
        "Reads the context of an event and asks the model about it",
        ConfigScope::Inference,
        start,
    ))
    .await
}

/// Connects to RabbitMQ and the ledger and starts the service's background tasks. The returned work consumes events until
/// `stop` is cancelled and what is in progress has ended.
///
/// # Errors
/// A playbook or a setting is wrong, RabbitMQ has queues with other arguments, or a pooler before Postgres works in another way.
pub async fn start(
    settings: Settings,
    stop: CancellationToken,
) -> Result<Wired<impl Future<Output = Result<(), ServiceFailure>> + Send + 'static>, ServiceFailure> {
    // Before anything connects, so that a wrong playbook is reported even when RabbitMQ is away.
    let playbooks = wiring::load_playbooks(&settings)?;
    let (connection, publisher) = bootstrap::connect_broker(&settings, "inference").await?;
    let ledger = bootstrap::connect_ledger_verified(&settings, "leadline-inference").await?;
    let entered = stop.run_until_cancelled(gate::enter(&settings, playbooks, &ledger)).await;
    let playbooks = entered.ok_or("stopped before the ledger said which playbooks have passed their gates")?;
    service::settings_info("playbooks", &playbook_set::digest(&playbooks));
    let circuit_breakers = CircuitBreakers::new(&settings.circuit_breaker, wiring::credentials(&settings)?);
    let readiness = circuit_breakers.add_readiness_checks(bootstrap::broker_and_ledger_readiness(&publisher, &ledger));
    let readiness = bootstrap::warn_of_ending_versions(readiness, &settings);
    let model_ends = ModelEnds::of(&playbooks);
    let readiness = model_ends.add_note(readiness);
    let gates = Gates::of(&playbooks);
    let readiness = gates.add_note(readiness);
    let worker = Worker::named("inference");
    let Wiring { live, backfill, erasures, probes, hubspot, quota_health } =
        wiring::wire(&settings, playbooks, &ledger, worker.clone(), publisher.clone(), circuit_breakers.clone())?;
    let readiness = bootstrap::add_quota_readiness(readiness, move || quota_health.broken());
    let readiness = live.model_circuits.add_note(readiness);
    let held_back = live.held_back.clone();
    let readiness = held_back.add_note(readiness);
    maintenance::run_drift_checks(&settings.drift, held_back.used().to_vec(), ledger.clone(), worker.clone(), &stop);
    tokio::spawn(stop.clone().run_until_cancelled_owned(async move { held_back.watch().await }));
    let openai = live.model_client.openai.clone();
    reload(&settings, (ledger.clone(), hubspot, openai.clone()), circuit_breakers.clone()).start(&stop);
    tokio::spawn(stop.clone().run_until_cancelled_owned(async move { model_ends.watch(&openai).await }));
    let (ledger_of_gates, watcher) = (ledger.clone(), worker.clone());
    let watched = async move { gates.watch(&ledger_of_gates, &watcher).await };
    tokio::spawn(stop.clone().run_until_cancelled_owned(watched));
    let (spend_limiter, spent) = (live.model_client.spend_limiter.clone(), ledger.clone());
    tokio::spawn(stop.clone().run_until_cancelled_owned(async move { spend_limiter.watch(&spent).await }));
    let writable = live.writable.clone();
    tokio::spawn(stop.clone().run_until_cancelled_owned(async move { writable.watch().await }));
    circuit_breakers.start_sync(ledger.clone(), worker.clone(), probes, Some(live.model_circuits.clone()));
    let reconciler = Reconciler::new(ledger.clone(), publisher.clone(), settings.reconcile.clone());
    let eraser = Eraser::new(ledger.clone(), connection.clone(), publisher.clone(), &settings);
    maintenance::run_erasures(eraser, ledger.clone(), worker.clone(), &stop);
    maintenance::run_maintenance(&settings, ledger, reconciler, worker, &stop);

    let consume = |connection, stage, concurrency, handler, mode| {
        let consumer = bootstrap::consumer_settings(&settings, stage, concurrency);
        broker::consume(connection, publisher.clone(), consumer, Arc::new(handler), mode, stop.clone())
    };
    let (mode, always) = (circuit_breakers.consume_mode(), watch::Sender::new(ConsumeMode::Normal));
    let live = consume(connection, Stage::Events, settings.inference.concurrency, live, mode.clone());
    let connection = bootstrap::connect_consumer(&settings, "erasures").await?;
    let readiness = bootstrap::add_consumer_readiness(readiness, "erasures", &connection);
    let erasures = consume(connection, Stage::Erasures, ERASURES_AT_ONCE, erasures, always.subscribe());
    let backfill = match backfill {
        None => None,
        Some(handler) => {
            let connection = bootstrap::connect_consumer(&settings, "backfill").await?;
            Some(consume(connection, Stage::Backfill, settings.inference.backfill_concurrency, handler, mode))
        }
    };
    let work = async move {
        tokio::join!(live, erasures, OptionFuture::from(backfill));
        drop(always);
        Ok(())
    };
    Ok(Wired { readiness, work })
}

/// What is read again while the service runs.
fn reload(
    settings: &Settings,
    (ledger, hubspot, openai): (Ledger, HubSpotClient, OpenAiClient),
    circuit_breakers: CircuitBreakers,
) -> Reload {
    let token = |settings: &Settings| bootstrap::credential(settings, Dependency::HubSpot);
    let clients = (ledger, hubspot);
    let mut reload =
        maintenance::reload_of_worker(settings, ConfigScope::Inference, clients, circuit_breakers.clone(), token);
    reload.hand([Reloadable::OpenAiApiKey], move |settings| {
        let key = settings.openai.api_key.as_ref().ok_or(MissingSetting("openai.api_key"))?;
        let credential = bootstrap::credential(settings, Dependency::OpenAi)?;
        // The key first, as with HubSpot's token.
        openai.replace_api_key(key)?;
        circuit_breakers.replace_credential(credential);
        Ok(())
    });
    reload
}
