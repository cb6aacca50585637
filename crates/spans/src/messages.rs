//! The spans that make an event's way one trace: its begin in the receiver, and each time that a message is processed.

use opentelemetry::KeyValue;
use tracing::{Span, field::Empty};

use crate::{TraceHeaders, add, are_exported, calls, set_parent};

/// A message, as the conventions for RabbitMQ describe it.
#[derive(Debug, Clone, Copy)]
pub struct MessageOf<'a> {
    /// Where it is published.
    pub exchange: &'a str,
    /// The routing key, which is also the name of the queue.
    pub routing_key: &'a str,
    /// Its id.
    pub id: &'a str,
    /// The bytes of its body.
    pub body_bytes: usize,
}

impl MessageOf<'_> {
    /// `{exchange}:{routing key}`. The queue is left out where it is named as the key.
    fn destination(&self) -> String {
        format!("{}:{}", self.exchange, self.routing_key)
    }

    fn attributes(&self, operation: &'static str, kind: &'static str) -> [Option<KeyValue>; 7] {
        [
            KeyValue::new("messaging.system", "rabbitmq"),
            KeyValue::new("messaging.operation.name", operation),
            KeyValue::new("messaging.operation.type", kind),
            KeyValue::new("messaging.destination.name", self.destination()),
            KeyValue::new("messaging.rabbitmq.destination.routing_key", self.routing_key.to_owned()),
            KeyValue::new("messaging.message.id", self.id.to_owned()),
            KeyValue::new("messaging.message.body.size", i64::try_from(self.body_bytes).unwrap_or(i64::MAX)),
        ]
        .map(Some)
    }
}

/// The root of an event's trace.
pub fn event(key: &str) -> Span {
    let span = tracing::info_span!(parent: None, "event");
    if are_exported() {
        add(&span, || [Some(KeyValue::new("leadline.event.key", key.to_owned()))]);
    }
    span
}

/// The root of the trace of an element of a webhook that could not be read.
pub fn rejected_event() -> Span {
    tracing::info_span!(parent: None, "rejected event")
}

/// A message is published, within the trace that is current.
pub fn publish(message: &MessageOf<'_>) -> Span {
    let span = calls::begin("producer", || format!("publish {}", message.destination()));
    add(&span, || message.attributes("publish", "send"));
    span
}

/// A message that carries `headers` is processed.
pub fn process(message: &MessageOf<'_>, headers: &TraceHeaders) -> Span {
    let span = tracing::info_span!(parent: None, "process", otel.kind = "consumer", otel.name = Empty);
    if !span.is_disabled() {
        set_parent(&span, headers);
        if are_exported() {
            span.record("otel.name", format!("process {}", message.destination()));
            add(&span, || message.attributes("process", "process"));
        }
    }
    span
}
