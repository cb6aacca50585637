//! Spans of traces, named as OpenTelemetry's semantic conventions of version 1.41.0 say: the last version that has messaging, HTTP,
//! databases and GenAI in one.
//!
//! Each event has a trace of its own, from the webhook to the write. Its context travels in the headers of messages. Spans that begin and
//! carry on a trace ([`messages`]) are always made, because messages and the ledger hold their ids; those of [`calls`] and [`batches`]
//! only where traces are exported. Log lines know nothing of all these: what a line is about is in spans of its own.

pub mod batches;
pub mod calls;
pub mod messages;
mod server;

use opentelemetry::{
    global,
    propagation::{Extractor, Injector},
    trace::{SpanContext, Status, TraceContextExt},
};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;

pub use opentelemetry::{Array, KeyValue, StringValue, Value};
pub use server::Server;

/// The version of the semantic conventions, as OTLP names it.
pub const SCHEMA_URL: &str = "https://opentelemetry.io/schemas/1.41.0";

/// The target of every span of this crate.
pub const TARGET: &str = "spans";

/// The targets of the spans that are of use only where traces are exported.
pub const ONLY_EXPORTED: [&str; 2] = ["spans::calls", "spans::batches"];

/// Header names of the W3C trace context.
const HEADERS: [&str; 2] = ["traceparent", "tracestate"];

/// A trace context as headers. Thousands of messages in progress carry one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TraceHeaders([Option<Box<str>>; HEADERS.len()]);

impl TraceHeaders {
    /// Those that `value` has for the names of the headers.
    pub fn read(value: impl Fn(&'static str) -> Option<String>) -> Self {
        Self(HEADERS.map(|name| value(name).map(String::into_boxed_str)))
    }

    /// Whether there is no trace context.
    pub fn is_empty(&self) -> bool {
        self.iter().next().is_none()
    }

    /// Names and values.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, &str)> {
        HEADERS.into_iter().zip(&self.0).filter_map(|(name, value)| Some((name, value.as_deref()?)))
    }
}

impl Injector for TraceHeaders {
    fn set(&mut self, key: &str, value: String) {
        if let Some(place) = HEADERS.iter().position(|name| *name == key).filter(|_| !value.is_empty()) {
            self.0[place] = Some(value.into_boxed_str());
        }
    }
}

impl Extractor for TraceHeaders {
    fn get(&self, key: &str) -> Option<&str> {
        self.iter().find_map(|(name, value)| (name == key).then_some(value))
    }

    fn keys(&self) -> Vec<&str> {
        self.iter().map(|(name, _)| name).collect()
    }
}

/// The current span's trace context as headers.
pub fn current_headers() -> TraceHeaders {
    let mut headers = TraceHeaders::default();
    let context = Span::current().context();
    global::get_text_map_propagator(|propagator| propagator.inject_context(&context, &mut headers));
    headers
}

/// Makes `span` a child of the trace context in `headers`.
fn set_parent(span: &Span, headers: &TraceHeaders) {
    let context = global::get_text_map_propagator(|propagator| propagator.extract(headers));
    // Fails only without an OpenTelemetry layer, and then there is no trace.
    let _ = span.set_parent(context);
}

/// The context by which other spans refer to `span`; `None` where there are no traces, or the span is not made.
fn context_of(span: &Span) -> Option<SpanContext> {
    if span.is_disabled() {
        return None;
    }
    let context = span.context();
    let context = context.span().span_context().clone();
    context.is_valid().then_some(context)
}

/// The id of the trace of `span`, in hex; `None` without an OpenTelemetry layer.
pub fn trace_id_of(span: &Span) -> Option<String> {
    context_of(span).map(|context| context.trace_id().to_string())
}

/// The id of the current trace, in hex; `None` without an OpenTelemetry layer.
pub fn current_trace_id() -> Option<String> {
    trace_id_of(&Span::current())
}

/// Says that what `span` is about failed, for a reason of a closed list.
pub fn fail(span: &Span, reason: &str) {
    if !span.is_disabled() {
        span.set_attribute("error.type", reason.to_owned());
        span.set_status(Status::error(""));
    }
}

/// Whether spans are exported. Those that are made all the same, for their ids, need no names and attributes otherwise.
fn are_exported() -> bool {
    tracing::span_enabled!(target: ONLY_EXPORTED[0], tracing::Level::INFO)
}

/// Adds attributes to `span`, which are made only if it is.
pub fn add<const N: usize>(span: &Span, attributes: impl FnOnce() -> [Option<KeyValue>; N]) {
    if !span.is_disabled() {
        attributes().into_iter().flatten().for_each(|KeyValue { key, value, .. }| span.set_attribute(key, value));
    }
}
