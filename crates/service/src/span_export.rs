//! Sends spans to the collector. Whatever becomes of the collector, no event waits for it: what cannot be sent is counted and dropped.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use opentelemetry::Context;
use opentelemetry_sdk::{
    Resource,
    error::OTelSdkResult,
    trace::{BatchConfigBuilder, BatchSpanProcessor, Span, SpanData, SpanExporter, SpanProcessor},
};

/// The most spans that wait to be sent: a few megabytes.
const MAX_WAITING: usize = 4_096;

/// The most spans of one request.
const MAX_BATCH: usize = 512;

/// How long spans wait for more of them.
const DELAY: Duration = Duration::from_secs(5);

/// A span processor that sends spans through `exporter`, from a thread of its own.
pub(crate) fn processor(exporter: impl SpanExporter + 'static) -> impl SpanProcessor {
    let waiting = Arc::<AtomicUsize>::default();
    let exporter = Counted { exporter, waiting: waiting.clone(), is_failing: AtomicBool::new(false) };
    let batches = BatchConfigBuilder::default().with_max_queue_size(MAX_WAITING);
    let batches = batches.with_max_export_batch_size(MAX_BATCH).with_scheduled_delay(DELAY).build();
    Bounded { batches: BatchSpanProcessor::builder(exporter).with_batch_config(batches).build(), waiting }
}

fn count(outcome: &'static str, spans: usize) {
    metrics::counter!("leadline_spans_total", "outcome" => outcome).increment(spans as u64);
}

/// Drops spans while too many wait. The SDK's own queue, which is as long, would drop them as well, without a word.
#[derive(Debug)]
struct Bounded {
    batches: BatchSpanProcessor,
    /// Spans that ended and are not about to be sent.
    waiting: Arc<AtomicUsize>,
}

impl SpanProcessor for Bounded {
    fn on_start(&self, span: &mut Span, context: &Context) {
        self.batches.on_start(span, context);
    }

    fn on_end(&self, span: SpanData) {
        if self.waiting.fetch_add(1, Ordering::Relaxed) < MAX_WAITING {
            self.batches.on_end(span);
        } else {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
            count("dropped", 1);
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.batches.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.batches.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.batches.set_resource(resource);
    }
}

/// Counts what becomes of spans that are sent.
#[derive(Debug)]
struct Counted<E> {
    exporter: E,
    waiting: Arc<AtomicUsize>,
    /// Whether the last request failed, so that an outage of the collector is two log lines.
    is_failing: AtomicBool,
}

impl<E: SpanExporter> SpanExporter for Counted<E> {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let spans = batch.len();
        self.waiting.fetch_sub(spans, Ordering::Relaxed);
        let result = self.exporter.export(batch).await;
        count(if result.is_ok() { "exported" } else { "failed" }, spans);
        // Not the error itself: it names the URL, which may hold a secret.
        let was_failing = self.is_failing.swap(result.is_err(), Ordering::Relaxed);
        if !was_failing && result.is_err() {
            tracing::warn!("telemetry.otlp_endpoint takes no traces; spans are dropped until it does");
        } else if was_failing && result.is_ok() {
            tracing::info!("telemetry.otlp_endpoint takes traces again");
        }
        result
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.exporter.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Mutex, mpsc};

    use metrics_exporter_prometheus::PrometheusBuilder;
    use opentelemetry::trace::{Tracer, TracerProvider};
    use opentelemetry_sdk::trace::SdkTracerProvider;

    use super::*;

    /// A collector that keeps the first request for as long as the sender is there.
    #[derive(Debug)]
    struct Hanging(Mutex<mpsc::Receiver<()>>);

    impl SpanExporter for Hanging {
        async fn export(&self, _: Vec<SpanData>) -> OTelSdkResult {
            let _ = self.0.lock().expect("unpoisoned").recv();
            Ok(())
        }
    }

    #[test]
    fn spans_that_a_hanging_collector_does_not_take_are_dropped_and_counted() {
        let recorder = PrometheusBuilder::new().build_recorder();
        let handle = recorder.handle();
        let (release, hangs) = mpsc::channel();
        let provider = SdkTracerProvider::builder().with_span_processor(processor(Hanging(Mutex::new(hangs)))).build();
        let tracer = provider.tracer("test");
        let ended = 3 * MAX_WAITING;
        metrics::with_local_recorder(&recorder, || (0..ended).for_each(|_| drop(tracer.start("span"))));
        let page = handle.render();
        let dropped = page.lines().find_map(|line| line.strip_prefix("leadline_spans_total{outcome=\"dropped\"} "));
        let dropped: usize = dropped.and_then(|count| count.parse().ok()).unwrap_or_else(|| panic!("{page}"));
        // Those that wait, and at most a few requests' worth that were on their way.
        assert!((ended - 2 * MAX_WAITING..=ended - MAX_WAITING).contains(&dropped), "{dropped} of {ended}");
        drop(release);
        provider.shutdown().expect("it ends");
    }

    #[test]
    fn a_stop_waits_no_longer_for_a_collector_that_hangs_than_it_is_told() {
        let (release, hangs) = mpsc::channel();
        let provider = SdkTracerProvider::builder().with_span_processor(processor(Hanging(Mutex::new(hangs)))).build();
        drop(provider.tracer("test").start("span"));
        let (stopped, has_stopped) = mpsc::channel();
        let stop = std::thread::spawn(move || stopped.send(provider.shutdown_with_timeout(Duration::from_millis(50))));
        let result = has_stopped.recv_timeout(Duration::from_secs(30)).expect("it ends while the collector hangs");
        assert!(result.is_err(), "the span was not taken");
        drop(release);
        stop.join().expect("no panic").expect("received");
    }
}
