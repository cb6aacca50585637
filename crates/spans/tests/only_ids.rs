//! What is left of spans in a process that exports none. The only test of its program: whether a span is made is known to the process, and
//! subscribers of other tests would want more of them.
#![allow(clippy::expect_used, reason = "these are tests; their helpers too")]

mod collector;

use collector::Collector;
use opentelemetry::trace::TracerProvider;
use spans::messages::{self, MessageOf};
use tracing_subscriber::{
    Layer,
    filter::{LevelFilter, Targets},
    layer::SubscriberExt,
};

#[test]
fn where_nothing_is_exported_messages_have_ids_and_neither_names_nor_attributes() {
    let collector = Collector::new();
    let only_ids = Targets::new().with_target(spans::TARGET, LevelFilter::INFO);
    let only_ids = only_ids.with_targets(spans::ONLY_EXPORTED.map(|target| (target, LevelFilter::OFF)));
    let layer =
        tracing_opentelemetry::layer().with_tracer(collector.provider.tracer("test")).with_context_activation(false);
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
