//! Logs, traces and metrics of a service.

use std::{io::IsTerminal, time::Duration};

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use opentelemetry::{KeyValue, global, trace::TracerProvider};
use opentelemetry_otlp::{SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::{Resource, propagation::TraceContextPropagator, trace::SdkTracerProvider};
use tracing_subscriber::{EnvFilter, Layer, layer::SubscriberExt, util::SubscriberInitExt};

use settings::{LogFormat, TelemetrySection};

/// Histogram buckets for durations, in seconds: from a claim in the ledger to a slow model.
const DURATION_BUCKETS: [f64; 16] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0];

/// Histogram buckets for batch sizes. A HubSpot call takes at most a hundred records, or a thousand associations.
const BATCH_SIZE_BUCKETS: [f64; 8] = [1.0, 2.0, 5.0, 10.0, 25.0, 50.0, 100.0, 1_000.0];

/// How long the collector may take for one export.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(10);

/// Telemetry that was started. Keep it until the service ends.
pub(crate) struct Running {
    pub(crate) metrics: PrometheusHandle,
    provider: SdkTracerProvider,
}

/// Why telemetry did not start.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// `telemetry.log_level` is not a valid filter.
    #[error("telemetry.log_level: {0}")]
    Level(#[from] tracing_subscriber::filter::ParseError),
    /// The OTLP exporter could not be built.
    #[error("telemetry.otlp_endpoint: {0}")]
    Otlp(#[from] opentelemetry_otlp::ExporterBuildError),
    /// The exporter's HTTP client could not be built.
    #[error("the HTTP client for telemetry.otlp_endpoint: {0}")]
    Client(#[from] reqwest::Error),
    /// The process already has a log subscriber.
    #[error("{0}")]
    Subscriber(#[from] tracing_subscriber::util::TryInitError),
    /// The metrics recorder could not be installed.
    #[error("{0}")]
    Metrics(#[from] metrics_exporter_prometheus::BuildError),
}

/// Starts logs, traces and metrics of `service`. Traces have ids even when they are not exported: the ledger and the messages
/// store them.
pub(crate) fn start(service: &'static str, settings: &TelemetrySection) -> Result<Running, TelemetryError> {
    global::set_text_map_propagator(TraceContextPropagator::new());
    let resource = Resource::builder()
        .with_service_name(service)
        .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
        .build();
    let mut provider = SdkTracerProvider::builder().with_resource(resource);
    if let Some(endpoint) = &settings.otlp_endpoint {
        let traces = format!("{}/v1/traces", endpoint.trim_end_matches('/'));
        let client = http_client::blocking_client(EXPORT_TIMEOUT)?;
        let exporter = SpanExporter::builder().with_http().with_http_client(client).with_endpoint(traces);
        provider = provider.with_batch_exporter(exporter.build()?);
    }
    let provider = provider.build();
    global::set_tracer_provider(provider.clone());

    let filter = EnvFilter::try_new(&settings.log_level)?;
    let lines = match settings.log_format {
        LogFormat::Json => tracing_subscriber::fmt::layer().json().flatten_event(true).with_current_span(true).boxed(),
        LogFormat::Human => {
            let colours = std::io::stdout().is_terminal();
            tracing_subscriber::fmt::layer().with_target(false).with_ansi(colours).compact().boxed()
        }
    };
    // Spans of the exporter's own HTTP client would create new spans without end.
    let spans = EnvFilter::try_new("info,hyper=off,reqwest=off,h2=off,opentelemetry=off,sqlx=off")?;
    tracing_subscriber::registry()
        .with(tracing_opentelemetry::layer().with_tracer(provider.tracer("leadline")).with_filter(spans))
        .with(lines.with_filter(filter))
        .try_init()?;

    let metrics = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &DURATION_BUCKETS)?
        .set_buckets_for_metric(Matcher::Full("leadline_hubspot_batch_size".to_owned()), &BATCH_SIZE_BUCKETS)?
        .add_global_label("service", service)
        .install_recorder()?;
    Ok(Running { metrics, provider })
}

impl Running {
    /// Exports the spans that are not exported yet.
    pub(crate) fn stop(&self) {
        if let Err(error) = self.provider.shutdown() {
            tracing::debug!(%error, "the last spans were not exported");
        }
    }
}
