//! The internal listener of every service: `/livez`, `/readyz`, `/metrics`.

use std::{future::Future, pin::Pin, sync::Arc, time::Duration};

use axum::{Router, extract::State, http::StatusCode, response::IntoResponse, routing::get};
use metrics_exporter_prometheus::PrometheusHandle;
use tokio_util::sync::CancellationToken;

type Check = Box<dyn Fn() -> Pin<Box<dyn Future<Output = Result<(), String>> + Send>> + Send + Sync>;

/// What a service needs in order to do its work, asked at every `/readyz`.
#[derive(Default)]
pub struct Readiness {
    checks: Vec<(&'static str, Check)>,
}

impl Readiness {
    /// Adds a dependency; `check` says what is wrong with it.
    #[must_use]
    pub fn with<F, Fut>(mut self, name: &'static str, check: F) -> Self
    where
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), String>> + Send + 'static,
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

/// 200 when the service can do its work, else 503 with what is missing. A stopping service is not ready, so that no
/// new work is sent to it.
async fn ready(State(admin): State<Arc<Admin>>) -> impl IntoResponse {
    let mut lines = String::new();
    let mut ready = true;
    if admin.stopping.is_cancelled() {
        ready = false;
        lines.push_str("stopping\n");
    }
    for (name, check) in &admin.readiness.checks {
        let result = tokio::time::timeout(admin.check_timeout, check()).await;
        match result.unwrap_or_else(|_| Err("no answer in time".to_owned())) {
            Ok(()) => lines.push_str(&format!("{name}: ok\n")),
            Err(what) => {
                ready = false;
                lines.push_str(&format!("{name}: {what}\n"));
            }
        }
    }
    (if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }, lines)
}
