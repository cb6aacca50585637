//! What is left of spans in a process that exports none.
#![allow(clippy::expect_used, reason = "these are tests; their helpers too")]

use futures_util::FutureExt;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use spans::{
    TraceHeaders,
    messages::{self, MessageOf, Trace},
};
use tracing_subscriber::{Layer, filter::filter_fn, layer::SubscriberExt};

/// The headers of a message that is published within `trace`.
fn headers(trace: &Trace) -> TraceHeaders {
    trace.of(async { spans::current_headers() }).now_or_never().expect("it waits for nothing")
}

#[test]
fn where_nothing_is_exported_an_event_has_its_ids_in_every_process() {
    opentelemetry::global::set_text_map_propagator(TraceContextPropagator::new());
    let lines = tracing_subscriber::fmt::layer().with_filter(filter_fn(|of| !of.target().starts_with(spans::TARGET)));
    tracing::subscriber::with_default(tracing_subscriber::registry().with(lines), || {
        let message = MessageOf { exchange: "x", routing_key: "q", id: "1", body_bytes: 2 };
        let root = messages::event("key");
        let id = root.id().expect("an id");
        let sent = headers(&root);
        assert!(
            sent["traceparent"].starts_with(&format!("00-{id}-")) && sent["traceparent"].ends_with("-01"),
            "{sent:?}"
        );
        let received = messages::process(&message, &sent);
        assert_eq!(received.id().as_ref(), Some(&id));
        let current = received.of(async { spans::current_trace_id() }).now_or_never().expect("it waits for nothing");
        assert_eq!(current, Some(id));
        assert_eq!(headers(&received), sent, "the next process gets them, too");
        assert!(spans::current_trace_id().is_none() && spans::current_headers().is_empty());

        let without = messages::process(&message, &TraceHeaders::new()).id();
        assert!(without.is_some() && without != messages::event("key").id(), "one that has none begins one");
    });
}
