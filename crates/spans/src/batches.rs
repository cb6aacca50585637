//! Work that is done for many events at once. It has one span, which is part of the trace of the first event that waits for it, and is
//! linked with those of all others.

use opentelemetry::{
    Context, KeyValue,
    trace::{SpanContext, TraceContextExt},
};
use tracing::{Span, field::Empty};
use tracing_opentelemetry::OpenTelemetrySpanExt;

use crate::{add, context_of};

/// Who waits for a batch.
#[derive(Debug, Clone, Default)]
pub struct Waiting(Option<SpanContext>);

impl Waiting {
    /// Whoever `span` belongs to.
    pub fn of(span: &Span) -> Self {
        Self(context_of(span))
    }
}

/// Waiting for a batch of what is called `name`, within the trace that is current.
pub fn wait(name: &'static str) -> Span {
    if Span::current().is_none() {
        return Span::none();
    }
    tracing::info_span!("wait", otel.name = name)
}

/// The batch that `waiting` wait for.
pub fn batch(name: &'static str, waiting: impl IntoIterator<Item = Waiting>) -> Span {
    let mut waiting = waiting.into_iter().filter_map(|Waiting(context)| context);
    let Some(first) = waiting.next() else { return Span::none() };
    let span = tracing::info_span!(parent: None, "batch", otel.name = Empty);
    if !span.is_disabled() {
        span.record("otel.name", format!("batch {name}"));
        // Fails only without an OpenTelemetry layer, and then nothing waits in a trace.
        let _ = span.set_parent(Context::new().with_remote_span_context(first));
        let mut size = 1;
        for context in waiting {
            span.add_link(context);
            size += 1;
        }
        add(&span, || [Some(KeyValue::new("leadline.batch.size", size))]);
    }
    span
}
