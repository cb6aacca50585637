//! How spans hang together, as a collector sees them.
#![allow(clippy::expect_used, reason = "these are tests; their helpers too")]

use opentelemetry::trace::{SpanId, TracerProvider};
use opentelemetry_sdk::{
    propagation::TraceContextPropagator,
    trace::{InMemorySpanExporter, SdkTracerProvider, SpanData},
};
use spans::{
    TraceHeaders,
    batches::{self, Waiting},
    calls::{self, HttpRequest},
    messages::{self, MessageOf},
};
use tracing_subscriber::{
    Layer,
    filter::{LevelFilter, Targets},
    layer::SubscriberExt,
};

/// Has the spans for as long as their provider.
struct Collector {
    exporter: InMemorySpanExporter,
    provider: SdkTracerProvider,
}

impl Collector {
    fn new() -> Self {
        // Of the process: each test sets it, because any of them may be the first that runs.
        opentelemetry::global::set_text_map_propagator(TraceContextPropagator::new());
        let exporter = InMemorySpanExporter::default();
        let provider = SdkTracerProvider::builder().with_simple_exporter(exporter.clone()).build();
        Self { exporter, provider }
    }

    fn spans(&self) -> Vec<SpanData> {
        self.exporter.get_finished_spans().expect("collected")
    }

    /// What `traced` makes.
    fn of(traced: impl FnOnce()) -> Self {
        let collector = Self::new();
        let layer = tracing_opentelemetry::layer().with_tracer(collector.provider.tracer("test"));
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), traced);
        collector
    }

    fn span(&self, name: &str) -> SpanData {
        let spans = self.spans();
        let names: Vec<_> = spans.iter().map(|span| span.name.to_string()).collect();
        spans.iter().find(|span| span.name == name).unwrap_or_else(|| panic!("{name} in {names:?}")).clone()
    }

    fn count(&self) -> usize {
        self.spans().len()
    }
}

const READ: HttpRequest<'_> =
    HttpRequest { method: "GET", base_url: "https://api.hubapi.com", template: "/crm/{id}", server: None };

#[test]
fn a_batch_belongs_to_the_first_that_waits_and_is_linked_with_all_others() {
    let collector = Collector::of(|| {
        let waits: Vec<_> =
            ["1", "2", "3"].map(messages::event).iter().map(|event| event.in_scope(|| batches::wait("read"))).collect();
        let batch = batches::batch("read", waits.iter().map(Waiting::of));
        drop(batch.in_scope(|| calls::http(&READ)));
    });
    let (batch, call) = (collector.span("batch read"), collector.span("GET /crm/{id}"));
    assert_eq!(call.parent_span_id, batch.span_context.span_id());
    assert_eq!(batch.links.len(), 2);
    let spans = collector.spans();
    let first = spans.iter().find(|span| span.span_context.span_id() == batch.parent_span_id).expect("a parent");
    assert_eq!(first.span_context.trace_id(), batch.span_context.trace_id());
    for link in batch.links.iter() {
        assert_ne!(link.span_context.trace_id(), batch.span_context.trace_id());
        assert!(spans.iter().any(|span| span.span_context == link.span_context && span.name == "read"));
    }
}

#[test]
fn a_message_carries_its_trace_on_and_what_belongs_to_none_makes_none() {
    let sent = MessageOf { exchange: "x", routing_key: "q", id: "1", body_bytes: 2 };
    let collector = Collector::of(|| {
        let root = messages::event("key");
        let headers = root.in_scope(|| messages::publish(&sent).in_scope(spans::current_headers));
        let received = messages::process(&sent, &headers);
        assert_eq!(spans::trace_id_of(&received), spans::trace_id_of(&root));
        spans::fail(&received, "missing_scope");
        // Maintenance, for example.
        assert!(calls::http(&READ).is_disabled() && batches::wait("read").is_disabled());
        assert!(batches::batch("read", [Waiting::default()]).is_disabled());
    });
    let (publish, process) = (collector.span("publish x:q"), collector.span("process x:q"));
    assert_eq!(process.parent_span_id, publish.span_context.span_id());
    assert!(process.attributes.iter().any(|attribute| attribute.key.as_str() == "error.type"));
    assert_eq!(collector.span("event").parent_span_id, SpanId::INVALID);
    assert_eq!(collector.count(), 3);
}

#[test]
fn where_nothing_is_exported_messages_have_ids_and_neither_names_nor_attributes() {
    let collector = Collector::new();
    let only_ids = Targets::new().with_target(spans::TARGET, LevelFilter::INFO);
    let only_ids = only_ids.with_targets(spans::ONLY_EXPORTED.map(|target| (target, LevelFilter::OFF)));
    let layer = tracing_opentelemetry::layer().with_tracer(collector.provider.tracer("test"));
    let layer = layer.with_location(false).with_threads(false).with_target(false).with_tracked_inactivity(false);
    tracing::subscriber::with_default(tracing_subscriber::registry().with(layer.with_filter(only_ids)), || {
        let root = messages::event("key");
        let message = MessageOf { exchange: "x", routing_key: "q", id: "1", body_bytes: 2 };
        let headers = root.in_scope(|| messages::publish(&message).in_scope(spans::current_headers));
        assert_eq!(spans::trace_id_of(&messages::process(&message, &headers)), spans::trace_id_of(&root));
    });
    assert_eq!(collector.count(), 2);
    for name in ["event", "process"] {
        let attributes = collector.span(name).attributes;
        assert!(attributes.is_empty(), "{name}: {attributes:?}");
    }
}

#[test]
fn a_message_without_a_trace_begins_one() {
    let collector = Collector::of(|| {
        let received = MessageOf { exchange: "x", routing_key: "q", id: "1", body_bytes: 2 };
        drop(messages::process(&received, &TraceHeaders::new()));
    });
    assert_eq!(collector.span("process x:q").parent_span_id, SpanId::INVALID);
}
