//! What a collector gets.
#![allow(dead_code, reason = "not every test uses all of it")]

use opentelemetry::trace::TracerProvider;
use opentelemetry_sdk::{
    propagation::TraceContextPropagator,
    trace::{InMemorySpanExporter, SdkTracerProvider, SpanData},
};
use tracing_subscriber::layer::SubscriberExt;

/// Has the spans for as long as their provider.
pub struct Collector {
    exporter: InMemorySpanExporter,
    pub provider: SdkTracerProvider,
}

impl Collector {
    pub fn new() -> Self {
        // Of the process: each test sets it, because any of them may be the first that runs.
        opentelemetry::global::set_text_map_propagator(TraceContextPropagator::new());
        let exporter = InMemorySpanExporter::default();
        let provider = SdkTracerProvider::builder().with_simple_exporter(exporter.clone()).build();
        Self { exporter, provider }
    }

    pub fn spans(&self) -> Vec<SpanData> {
        self.exporter.get_finished_spans().expect("collected")
    }

    /// What `traced` makes.
    pub fn of(traced: impl FnOnce()) -> Self {
        let collector = Self::new();
        let layer = tracing_opentelemetry::layer()
            .with_tracer(collector.provider.tracer("test"))
            .with_context_activation(false);
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), traced);
        collector
    }

    pub fn span(&self, name: &str) -> SpanData {
        let spans = self.spans();
        let names: Vec<_> = spans.iter().map(|span| span.name.to_string()).collect();
        spans.iter().find(|span| span.name == name).unwrap_or_else(|| panic!("{name} in {names:?}")).clone()
    }

    pub fn count(&self) -> usize {
        self.spans().len()
    }
}
