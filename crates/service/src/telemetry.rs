//! Logs, traces, metrics.

use std::io::IsTerminal;

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use opentelemetry::{KeyValue, global, trace::TracerProvider};
use opentelemetry_otlp::{SpanExporter, WithExportConfig};
use opentelemetry_sdk::{Resource, propagation::TraceContextPropagator, trace::SdkTracerProvider};
use tracing_subscriber::{EnvFilter, Layer, layer::SubscriberExt, util::SubscriberInitExt};

use settings::{LogFormat, TelemetrySection};

/// Seconds; from a claim in the ledger to a slow model.
const BUCKETS: [f64; 16] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0];

/// What is put into one call: HubSpot takes a hundred records, and a thousand associations.
const INPUTS: [f64; 8] = [1.0, 2.0, 5.0, 10.0, 25.0, 50.0, 100.0, 1_000.0];

/// What telemetry needs until the service ends.
pub(crate) struct Running {
    pub(crate) metrics: PrometheusHandle,
    provider: SdkTracerProvider,
}

/// Why telemetry cannot start.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// `telemetry.log_level` is no filter.
    #[error("telemetry.log_level: {0}")]
    Level(#[from] tracing_subscriber::filter::ParseError),
    /// The OTLP exporter.
    #[error("telemetry.otlp_endpoint: {0}")]
    Otlp(#[from] opentelemetry_otlp::ExporterBuildError),
    /// Another subscriber is there.
    #[error("{0}")]
    Subscriber(#[from] tracing_subscriber::util::TryInitError),
    /// The metrics recorder.
    #[error("{0}")]
    Metrics(#[from] metrics_exporter_prometheus::BuildError),
}

/// Starts logs, traces and metrics of `service`. Traces have ids even when nobody collects them: the ledger and the
/// messages carry them.
pub(crate) fn start(service: &'static str, settings: &TelemetrySection) -> Result<Running, TelemetryError> {
    global::set_text_map_propagator(TraceContextPropagator::new());
    let resource = Resource::builder()
        .with_service_name(service)
        .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
        .build();
    let mut provider = SdkTracerProvider::builder().with_resource(resource);
    if let Some(endpoint) = &settings.otlp_endpoint {
        let traces = format!("{}/v1/traces", endpoint.trim_end_matches('/'));
        provider = provider.with_batch_exporter(SpanExporter::builder().with_http().with_endpoint(traces).build()?);
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
    // The exporter's own HTTP client must not trace itself.
    let spans = EnvFilter::try_new("info,hyper=off,reqwest=off,h2=off,opentelemetry=off,sqlx=off")?;
    tracing_subscriber::registry()
        .with(tracing_opentelemetry::layer().with_tracer(provider.tracer("leadline")).with_filter(spans))
        .with(lines.with_filter(filter))
        .try_init()?;

    let metrics = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &BUCKETS)?
        .set_buckets_for_metric(Matcher::Suffix("_inputs".to_owned()), &INPUTS)?
        .add_global_label("service", service)
        .install_recorder()?;
    Ok(Running { metrics, provider })
}

impl Running {
    /// Sends what is left.
    pub(crate) fn stop(&self) {
        if let Err(error) = self.provider.shutdown() {
            tracing::debug!(%error, "the last traces were not sent");
        }
    }
}
