//! What makes an event's way one trace: its begin in the receiver, and each time that a message is processed.

use opentelemetry::{
    Context, KeyValue,
    trace::{FutureExt, SpanContext, TraceContextExt, TraceFlags, TraceState},
};
use opentelemetry_sdk::trace::{IdGenerator, RandomIdGenerator};
use tracing::{Instrument, Span, field::Empty};

use crate::{TraceHeaders, add, are_exported, calls, context_of, fail, read, set_parent};

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

/// The trace of an event, as far as one process has to do with it.
#[derive(Debug, Clone)]
pub struct Trace {
    /// What is exported of it; nothing where nothing is exported.
    span: Span,
    /// Its ids where nothing is exported: those of the span in which it began, in whichever process that was.
    ids: Context,
}

impl Trace {
    fn exported(span: Span) -> Self {
        Self { span, ids: Context::new() }
    }

    fn of_ids(ids: Context) -> Self {
        Self { span: Span::none(), ids }
    }

    /// Its id, in hex; `None` where there are no traces.
    pub fn id(&self) -> Option<String> {
        let ids = self.ids.span().span_context().clone();
        let ids = if ids.is_valid() { Some(ids) } else { context_of(&self.span) };
        ids.map(|ids| ids.trace_id().to_string())
    }

    /// Does `work` as a part of it.
    pub fn of<W: Future>(&self, work: W) -> impl Future<Output = W::Output> + use<W> {
        // The span is the inner one: where there is one, it is what is current.
        work.instrument(self.span.clone()).with_context(self.ids.clone())
    }

    /// What waits in it, for a batch.
    pub fn span(&self) -> &Span {
        &self.span
    }

    /// Says that what this process has to do for it failed, for a reason of a closed list.
    pub fn fail(&self, reason: &str) {
        fail(&self.span, reason);
    }
}

/// New ids. They say that the trace is sampled, as those of the SDK do: a later process may export it.
fn new_ids() -> Context {
    let ids = RandomIdGenerator::default();
    let (trace, span) = (ids.new_trace_id(), ids.new_span_id());
    let ids = SpanContext::new(trace, span, TraceFlags::SAMPLED, false, TraceState::NONE);
    Context::new().with_remote_span_context(ids)
}

/// The root of an event's trace.
pub fn event(key: &str) -> Trace {
    if !are_exported() {
        return Trace::of_ids(new_ids());
    }
    let span = tracing::info_span!(parent: None, "event");
    add(&span, || [Some(KeyValue::new("leadline.event.key", key.to_owned()))]);
    Trace::exported(span)
}

/// The root of the trace of an element of a webhook that could not be read.
pub fn rejected_event() -> Trace {
    if are_exported() {
        Trace::exported(tracing::info_span!(parent: None, "rejected event"))
    } else {
        Trace::of_ids(new_ids())
    }
}

/// A message is published, within the trace that is current.
pub fn publish(message: &MessageOf<'_>) -> Span {
    let span = calls::begin("producer", || format!("publish {}", message.destination()));
    add(&span, || message.attributes("publish", "send"));
    span
}

/// A message that carries `headers` is processed.
pub fn process(message: &MessageOf<'_>, headers: &TraceHeaders) -> Trace {
    let context = read(headers);
    if !are_exported() {
        let is_known = context.span().span_context().is_valid();
        return Trace::of_ids(if is_known { context } else { new_ids() });
    }
    let span = tracing::info_span!(parent: None, "process", otel.kind = "consumer", otel.name = Empty);
    set_parent(&span, context);
    span.record("otel.name", format!("process {}", message.destination()));
    add(&span, || message.attributes("process", "process"));
    Trace::exported(span)
}
