//! Connects and wires the service, for its `main` and for tests that run it as a task.

use std::{sync::Arc, time::Duration};

use service::{
    LogLimit, ServiceFailure, Wired,
    listener::{self, Entrance},
};
use settings::Settings;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::{handler, health, overflow, wiring};

/// Connects to RabbitMQ and binds the public listener. The returned work accepts webhooks until `stop` was cancelled for
/// `receiver.linger_seconds` and the requests in progress are answered.
///
/// # Errors
/// A setting is wrong, the address is in use, or RabbitMQ has queues with other arguments.
pub async fn start(
    settings: Settings,
    stop: CancellationToken,
) -> Result<Wired<impl Future<Output = Result<(), ServiceFailure>> + Send + 'static>, ServiceFailure> {
    let broker = bootstrap::broker_settings(&settings, "receiver")?;
    let publisher = broker::Publisher::open(broker).await?;
    let interval = Duration::from_secs(settings.receiver.overflow_check_seconds);
    let (readiness, full_queues) =
        overflow::watch(bootstrap::broker_readiness(&publisher), publisher.clone(), interval, &stop);
    let log = Arc::new(LogLimit::new(settings.telemetry.refusals_per_minute));
    let health = health::router(publisher.clone(), full_queues, stop.clone());
    let handler = wiring::webhook_handler(&settings, publisher, log.clone())?;
    let listen = &settings.receiver.listen;
    let public = TcpListener::bind(listen).await.map_err(|error| format!("receiver.listen {listen}: {error}"))?;
    tracing::info!(address = %public.local_addr()?, "listening for webhooks");
    let tls = wiring::tls(&settings)?;
    wiring::reload(&settings, handler.verifier().clone(), tls.clone()).start(&stop);
    let entrance = Entrance::new(public, tls);
    let limits = wiring::listener_limits(&settings);
    let router = handler::router(Arc::new(handler)).merge(health);
    let linger = Duration::from_secs(settings.receiver.linger_seconds);
    let work = async move {
        listener::serve(entrance, router, limits, log, later(stop, linger)).await;
        Ok(())
    };
    Ok(Wired { readiness, work })
}

/// A token that is cancelled this long after `stop`: load balancers hear of a stop later than the receiver, and what they send
/// meanwhile is to be taken.
fn later(stop: CancellationToken, linger: Duration) -> CancellationToken {
    let later = CancellationToken::new();
    let cancelled = later.clone().drop_guard();
    tokio::spawn(async move {
        stop.cancelled().await;
        tokio::time::sleep(linger).await;
        drop(cancelled);
    });
    later
}
