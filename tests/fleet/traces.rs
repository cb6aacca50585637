//! What a collector gets of an event's way, and that its absence costs no event anything.

use std::collections::BTreeMap;

use lab::{CollectedSpan, SpanCollector};
use opentelemetry_proto::tonic::{
    common::v1::{AnyValue, KeyValue, any_value::Value},
    trace::v1::span::SpanKind,
};

use fixtures::{contact, ended_as, fleet, note_event, quick, send_accepted, until};

/// A note that no span may hold.
const PRIVATE: &str = "Her daughter Persephone is ill; they have $50k ready for Q1 and are excited.";

fn attributes(list: &[KeyValue]) -> BTreeMap<String, AnyValue> {
    list.iter().map(|entry| (entry.key.clone(), entry.value.clone().expect("a value"))).collect()
}

/// An attribute's value as text.
fn text(value: &AnyValue) -> String {
    match &value.value {
        Some(Value::StringValue(text)) => text.clone(),
        Some(Value::IntValue(number)) => number.to_string(),
        Some(Value::DoubleValue(number)) => number.to_string(),
        Some(Value::ArrayValue(array)) => array.values.iter().map(text).collect::<Vec<_>>().join(","),
        other => panic!("{other:?}"),
    }
}

const RECEIVER: &str = "leadline-receiver";
const INFERENCE: &str = "leadline-inference";
const WRITER: &str = "leadline-writer";

/// The way of an event that is answered and written: which service does what, of which kind.
const WAY: [(&str, &str, SpanKind); 15] = [
    (RECEIVER, "event", SpanKind::Internal),
    (RECEIVER, "publish leadline.events.exchange:leadline.events", SpanKind::Producer),
    (INFERENCE, "process leadline.events.exchange:leadline.events", SpanKind::Consumer),
    (INFERENCE, "claim events", SpanKind::Client),
    (INFERENCE, "POST /crm/v3/objects/contacts/batch/read", SpanKind::Client),
    (INFERENCE, "begin charges", SpanKind::Client),
    (INFERENCE, "chat gpt-4o", SpanKind::Client),
    (INFERENCE, "commit decisions", SpanKind::Client),
    (INFERENCE, "publish leadline.writes.exchange:leadline.writes", SpanKind::Producer),
    (WRITER, "process leadline.writes.exchange:leadline.writes", SpanKind::Consumer),
    (WRITER, "batch write", SpanKind::Internal),
    (WRITER, "take commands", SpanKind::Client),
    (WRITER, "lock records", SpanKind::Client),
    (WRITER, "POST /crm/v3/objects/contacts/batch/update", SpanKind::Client),
    (WRITER, "finish commands", SpanKind::Client),
];

// The collector has to answer while this thread waits for the services to stop.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_trace_spans_the_way_from_webhook_to_write_and_is_exported() {
    let collector = SpanCollector::start().await.expect("a collector");
    let plan = quick().with("telemetry.otlp_endpoint", collector.endpoint()).with("openai.model", "gpt-4o");
    let fleet = fleet(&plan).await;
    contact(&fleet, 1, &[PRIVATE]).await;
    send_accepted(&fleet, &[note_event(1, 1)]).await;
    let story = ended_as(&fleet, &note_event(1, 1), "written", None).await;
    let trace = story.trace_id.expect("the ledger knows the trace");
    let inference = &fleet.members[fleet.indices(INFERENCE)[0]];
    let exported = async || metrics(&inference.admin_url).await.contains("outcome=\"exported\"");
    until("the first spans are exported while the service runs", exported).await;
    // Exporters send what is left when the services stop.
    drop(fleet);

    let mut spans = collector.spans().expect("spans");
    spans.retain(|one| one.trace_id() == trace);
    let found: Vec<_> =
        spans.iter().map(|one| (one.service.as_str(), one.span.name.as_str(), one.span.kind())).collect();
    for step in WAY {
        assert!(found.contains(&step), "{step:?} in {found:#?}");
    }
    let of = |name: &str| attributes(&spans.iter().find(|one| one.span.name == name).expect(name).span.attributes);
    let says = |name: &str, expected: &[(&str, &str)]| {
        let attributes = of(name);
        for (key, value) in expected {
            assert_eq!(attributes.get(*key).map(text).as_deref(), Some(*value), "{key} of {name}: {attributes:?}");
        }
    };
    says(
        "chat gpt-4o",
        &[
            ("gen_ai.operation.name", "chat"),
            ("gen_ai.provider.name", "openai"),
            ("gen_ai.request.model", "gpt-4o"),
            ("gen_ai.response.model", "gpt-4o-2024-08-06"),
            ("gen_ai.response.finish_reasons", "stop"),
            ("gen_ai.output.type", "json"),
            ("server.address", "127.0.0.1"),
        ],
    );
    for tokens in ["gen_ai.usage.input_tokens", "gen_ai.usage.output_tokens"] {
        assert!(text(&of("chat gpt-4o")[tokens]).parse::<i64>().expect("a number") > 0, "{tokens}");
    }
    says("claim events", &[("db.system.name", "postgresql"), ("db.query.summary", "claim events")]);
    says(
        "POST /crm/v3/objects/contacts/batch/update",
        &[("http.request.method", "POST"), ("http.response.status_code", "200"), ("server.address", "127.0.0.1")],
    );
    says(
        "process leadline.writes.exchange:leadline.writes",
        &[("messaging.system", "rabbitmq"), ("messaging.operation.type", "process")],
    );
    // One tree: the receiver's span is its root, and every other one has a parent in it.
    let ids: Vec<_> = spans.iter().map(|one| one.span.span_id.clone()).collect();
    for CollectedSpan { service, span } in &spans {
        let is_root = span.parent_span_id.is_empty();
        assert_eq!(is_root, (service.as_str(), span.name.as_str()) == (RECEIVER, "event"), "{service}: {}", span.name);
        assert!(is_root || ids.contains(&span.parent_span_id), "the parent of {service}: {}", span.name);
    }
    let sent = format!("{:?}", spans.iter().map(|one| &one.span).collect::<Vec<_>>());
    let known = simulator::Config::default();
    for secret in ["Persephone", "$50k", &known.token, &known.api_key, &known.client_secret] {
        assert!(!sent.contains(secret), "`{secret}` in a span");
    }
}

#[tokio::test]
async fn without_its_collector_a_fleet_works_as_ever_and_counts_the_lost_spans() {
    // Port 1 of loopback: nothing listens there.
    let fleet = fleet(&quick().with("telemetry.otlp_endpoint", "http://127.0.0.1:1")).await;
    contact(&fleet, 1, &["They have $50k ready for Q1."]).await;
    send_accepted(&fleet, &[note_event(1, 1)]).await;
    ended_as(&fleet, &note_event(1, 1), "written", None).await;
    for service in [RECEIVER, INFERENCE, WRITER] {
        let member = &fleet.members[fleet.indices(service)[0]];
        let failed = format!("leadline_spans_total{{service=\"{service}\",outcome=\"failed\"}}");
        until(&failed, async || metrics(&member.admin_url).await.contains(&failed)).await;
        let ready = reqwest::get(format!("{}/readyz", member.admin_url)).await.expect("an answer");
        assert!(ready.status().is_success(), "{service} is ready");
        let lines = member.process.log();
        assert_eq!(lines.matches("takes no traces").count(), 1, "one line says so\n{lines}");
    }
}

async fn metrics(admin_url: &str) -> String {
    reqwest::get(format!("{admin_url}/metrics")).await.expect("an answer").text().await.expect("text")
}
