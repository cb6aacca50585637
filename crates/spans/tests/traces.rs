//! How spans hang together, as a collector sees them.
#![allow(clippy::expect_used, reason = "these are tests; their helpers too")]

mod collector;

use collector::Collector;
use opentelemetry::trace::SpanId;
use spans::{
    TraceHeaders,
    batches::{self, Waiting},
    calls::{self, HttpRequest},
    messages::{self, MessageOf},
};

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
fn a_message_without_a_trace_begins_one() {
    let collector = Collector::of(|| {
        let received = MessageOf { exchange: "x", routing_key: "q", id: "1", body_bytes: 2 };
        drop(messages::process(&received, &TraceHeaders::default()));
    });
    assert_eq!(collector.span("process x:q").parent_span_id, SpanId::INVALID);
}
