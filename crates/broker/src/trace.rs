//! Trace context in message headers: one trace per event from webhook to write.

use std::collections::BTreeMap;

use opentelemetry::{
    global,
    propagation::{Extractor, Injector},
    trace::TraceContextExt,
};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;

/// Header names of the W3C trace context.
pub(crate) const HEADERS: [&str; 2] = ["traceparent", "tracestate"];

pub(crate) type TraceHeaders = BTreeMap<String, String>;

struct HeaderInjector<'a>(&'a mut TraceHeaders);

impl Injector for HeaderInjector<'_> {
    fn set(&mut self, key: &str, value: String) {
        if !value.is_empty() {
            self.0.insert(key.to_owned(), value);
        }
    }
}

struct HeaderExtractor<'a>(&'a TraceHeaders);

impl Extractor for HeaderExtractor<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(String::as_str)
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(String::as_str).collect()
    }
}

/// The current span's trace context as headers.
pub(crate) fn current() -> TraceHeaders {
    let mut headers = TraceHeaders::new();
    let context = Span::current().context();
    global::get_text_map_propagator(|propagator| {
        propagator.inject_context(&context, &mut HeaderInjector(&mut headers));
    });
    headers
}

/// Makes `span` a child of the trace context in `headers` (`traceparent`, `tracestate`) of a message or an HTTP request.
pub fn set_parent(span: &Span, headers: &BTreeMap<String, String>) {
    let context = global::get_text_map_propagator(|propagator| propagator.extract(&HeaderExtractor(headers)));
    // Fails only without an OpenTelemetry layer, and then there is no trace.
    let _ = span.set_parent(context);
}

/// The current trace's id in hex; `None` without an OpenTelemetry layer.
pub fn current_trace_id() -> Option<String> {
    let context = Span::current().context();
    let span = context.span();
    let id = span.span_context();
    id.is_valid().then(|| id.trace_id().to_string())
}
