//! `GET /healthz` on the public listener, for load balancers that do not reach the internal one.

use axum::{Router, http::StatusCode, routing::get};
use broker::Publisher;
use tokio_util::sync::CancellationToken;

use crate::overflow::FullQueues;

/// The route. It says nothing but the status, because strangers may ask it, and asks no other service.
pub(crate) fn router(publisher: Publisher, full_queues: FullQueues, stopping: CancellationToken) -> Router {
    Router::new().route(
        "/healthz",
        get(move || {
            let takes_webhooks = publisher.is_ready() && !full_queues.drop_messages() && !stopping.is_cancelled();
            async move { if takes_webhooks { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE } }
        }),
    )
}
