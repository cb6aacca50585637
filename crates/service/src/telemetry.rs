//! Logs, traces and metrics of a service.

use std::{io::IsTerminal, time::Duration};

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use opentelemetry::{InstrumentationScope, KeyValue, global, trace::TracerProvider};
use opentelemetry_otlp::{SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::{
    Resource,
    propagation::TraceContextPropagator,
    trace::{SdkTracerProvider, TracerProviderBuilder},
};
use tracing_subscriber::{
    EnvFilter, Layer,
    filter::{FilterExt, LevelFilter, Targets, filter_fn},
    layer::SubscriberExt,
    util::SubscriberInitExt,
};

use settings::{LogFormat, TelemetrySection};

use crate::span_export;

/// Histogram buckets for durations, in seconds: from a claim in the ledger to a slow model.
const DURATION_BUCKETS: [f64; 16] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0];

/// Histogram buckets for batch sizes. A HubSpot call takes at most a hundred records, or a thousand associations.
const BATCH_SIZE_BUCKETS: [f64; 8] = [1.0, 2.0, 5.0, 10.0, 25.0, 50.0, 100.0, 1_000.0];

/// The buckets that the conventions of [`spans::SCHEMA_URL`] want for `gen_ai.client.token.usage`.
const TOKEN_BUCKETS: [f64; 14] = [
    1.0,
    4.0,
    16.0,
    64.0,
    256.0,
    1_024.0,
    4_096.0,
    16_384.0,
    65_536.0,
    262_144.0,
    1_048_576.0,
    4_194_304.0,
    16_777_216.0,
    67_108_864.0,
];

/// And for `gen_ai.client.operation.duration`.
const OPERATION_BUCKETS: [f64; 14] =
    [0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92];

/// How long the collector may take for one export.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a stop waits for the collector to take the last spans.
const LAST_EXPORT: Duration = Duration::from_secs(3);

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
    let mut provider = provider(service);
    if let Some(endpoint) = &settings.otlp_endpoint {
        let traces = format!("{}/v1/traces", endpoint.trim_end_matches('/'));
        let client = http_client::blocking_client(EXPORT_TIMEOUT)?;
        let exporter = SpanExporter::builder().with_http().with_http_client(client).with_endpoint(traces);
        provider = provider.with_span_processor(span_export::processor(exporter.build()?));
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
    let scope = InstrumentationScope::builder("leadline").with_version(env!("CARGO_PKG_VERSION"));
    let tracer = provider.tracer_with_scope(scope.with_schema_url(spans::SCHEMA_URL).build());
    // Where a span was made in the code, and on which thread, says nothing about an event.
    let layer = tracing_opentelemetry::layer().with_tracer(tracer).with_location(false).with_threads(false);
    let layer = layer.with_target(false).with_tracked_inactivity(false);
    // Nothing asks OpenTelemetry itself which span is current, and it would be told at each poll of a future.
    let layer = layer.with_context_activation(false);
    tracing_subscriber::registry()
        .with(layer.with_filter(traced(settings.otlp_endpoint.is_some())))
        .with(lines.with_filter(filter.and(filter_fn(|metadata| !is_traced(metadata)))))
        .try_init()?;

    let metrics = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &DURATION_BUCKETS)?
        .set_buckets_for_metric(Matcher::Full("leadline_hubspot_batch_size".to_owned()), &BATCH_SIZE_BUCKETS)?
        .set_buckets_for_metric(Matcher::Full("gen_ai_client_token_usage".to_owned()), &TOKEN_BUCKETS)?
        .set_buckets_for_metric(
            Matcher::Full("gen_ai_client_operation_duration_seconds".to_owned()),
            &OPERATION_BUCKETS,
        )?
        .add_global_label("service", service)
        .install_recorder()?;
    Ok(Running { metrics, provider })
}

/// A provider that keeps a link for each event of the largest batch. The SDK would keep 128.
fn provider(service: &'static str) -> TracerProviderBuilder {
    let resource = Resource::builder()
        .with_service_name(service)
        .with_schema_url([KeyValue::new("service.version", env!("CARGO_PKG_VERSION"))], spans::SCHEMA_URL)
        .build();
    SdkTracerProvider::builder().with_resource(resource).with_max_links_per_span(settings::MAX_LEDGER_BATCH)
}

/// Whether this is a span of a trace. Log lines do not name those.
fn is_traced(metadata: &tracing::Metadata<'_>) -> bool {
    metadata.is_span() && metadata.target().starts_with(spans::TARGET)
}

/// The spans that are made: those of the crate `spans` alone, because those of the exporter's own HTTP client would make new spans
/// without end. Some of them only where they are exported.
fn traced(is_exported: bool) -> Targets {
    let only_exported = if is_exported { LevelFilter::INFO } else { LevelFilter::OFF };
    let targets = Targets::new().with_target(spans::TARGET, LevelFilter::INFO);
    targets.with_targets(spans::ONLY_EXPORTED.map(|target| (target, only_exported)))
}

impl Running {
    /// Exports the spans that are not exported yet.
    pub(crate) fn stop(&self) {
        if let Err(error) = self.provider.shutdown_with_timeout(LAST_EXPORT) {
            tracing::debug!(%error, "the last spans were not exported");
        }
    }
}

#[cfg(test)]
mod tests {
    use opentelemetry_sdk::trace::InMemorySpanExporter;
    use spans::{
        batches::{self, Waiting},
        messages,
    };

    use super::*;

    #[test]
    fn a_batch_is_linked_with_all_of_two_hundred_who_wait_for_it() {
        let collector = InMemorySpanExporter::default();
        let provider = provider("test").with_simple_exporter(collector.clone()).build();
        let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("test")).with_context_activation(false);
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
            let waits: Vec<_> = (0..200).map(|key| messages::event(&key.to_string())).collect();
            drop(batches::batch("claim", waits.iter().map(Waiting::of)));
        });
        let spans = collector.get_finished_spans().expect("collected");
        let batch = spans.iter().find(|span| span.name == "batch claim").expect("a span");
        assert_eq!((batch.links.len(), batch.links.dropped_count), (199, 0));
    }
}
