//! `GET /healthz` on the public listener, for load balancers that do not reach the internal one.

use axum::{Router, http::StatusCode, routing::get};
use broker::Publisher;
use tokio_util::sync::CancellationToken;

/// The route. It says nothing but the status, because strangers may ask it, and asks nobody.
pub(crate) fn router(publisher: Publisher, stopping: CancellationToken) -> Router {
    Router::new().route(
        "/healthz",
        get(move || {
            let takes_webhooks = publisher.is_ready() && !stopping.is_cancelled();
            async move { if takes_webhooks { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE } }
        }),
    )
}
