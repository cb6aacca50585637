//! The internal listener of every service: `/livez`, `/readyz`, `/metrics`.

use std::{future::Future, pin::Pin, sync::Arc, time::Duration};

use axum::{Router, extract::State, http::StatusCode, response::IntoResponse, routing::get};
use metrics_exporter_prometheus::PrometheusHandle;
use tokio_util::sync::CancellationToken;

use crate::error::ServiceFailure;

type Check = Box<dyn Fn() -> Pin<Box<dyn Future<Output = Result<(), ServiceFailure>> + Send>> + Send + Sync>;

/// The checks that `/readyz` runs, one for each dependency of the service.
#[derive(Default)]
pub struct Readiness {
    checks: Vec<(&'static str, Check)>,
}

impl Readiness {
    /// Adds the check of the dependency `name`. The error that it returns is shown by `/readyz`.
    #[must_use]
    pub fn with<F, Fut>(mut self, name: &'static str, check: F) -> Self
    where
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), ServiceFailure>> + Send + 'static,
    {
        self.checks.push((name, Box::new(move || Box::pin(check()))));
        self
    }
}

struct Admin {
    readiness: Readiness,
    metrics: PrometheusHandle,
    stopping: CancellationToken,
    check_timeout: Duration,
}

pub(crate) fn router(
    readiness: Readiness,
    metrics: PrometheusHandle,
    stopping: CancellationToken,
    check_timeout: Duration,
) -> Router {
    let admin = Arc::new(Admin { readiness, metrics, stopping, check_timeout });
    Router::new()
        .route("/livez", get(async || "alive\n"))
        .route("/readyz", get(ready))
        .route("/metrics", get(async |State(admin): State<Arc<Admin>>| admin.metrics.render()))
        .with_state(admin)
}

/// 200 when every check passes, else 503; one line for each check. A stopping service is not ready, so that no new requests
/// are routed to it.
async fn ready(State(admin): State<Arc<Admin>>) -> impl IntoResponse {
    let mut lines = String::new();
    let mut ready = true;
    if admin.stopping.is_cancelled() {
        ready = false;
        lines.push_str("stopping\n");
    }
    for (name, check) in &admin.readiness.checks {
        let result = tokio::time::timeout(admin.check_timeout, check()).await;
        match result.unwrap_or_else(|_| Err("no answer in time".into())) {
            Ok(()) => lines.push_str(&format!("{name}: ok\n")),
            Err(error) => {
                ready = false;
                lines.push_str(&format!("{name}: {error}\n"));
            }
        }
    }
    (if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }, lines)
}
