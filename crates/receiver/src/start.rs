//! Connects and wires the service, for its `main` and for tests that run it as a task.

use std::sync::Arc;

use service::{ServiceFailure, Wired};
use settings::Settings;
use tokio_util::sync::CancellationToken;

use crate::{handler, server, wiring};

/// Connects to RabbitMQ and binds the public listener. The returned work accepts webhooks until `stop` is cancelled and the
/// requests in progress are answered.
///
/// # Errors
/// A setting is wrong, the address is in use, or RabbitMQ has queues with other arguments.
pub async fn start(
    settings: Settings,
    stop: CancellationToken,
) -> Result<Wired<impl Future<Output = Result<(), ServiceFailure>> + Send + 'static>, ServiceFailure> {
    let broker = bootstrap::broker_settings(&settings, "receiver")?;
    let publisher = broker::Publisher::open(broker).await?;
    let readiness = bootstrap::broker_readiness(&publisher);
    let handler = wiring::webhook_handler(&settings, publisher)?;
    let listen = &settings.receiver.listen;
    let listener = server::bind(listen).await.map_err(|error| format!("receiver.listen {listen}: {error}"))?;
    let limits = wiring::server_limits(&settings);
    let work = async move {
        server::serve(listener, handler::router(Arc::new(handler)), limits, stop).await;
        Ok(())
    };
    Ok(Wired { readiness, work })
}
