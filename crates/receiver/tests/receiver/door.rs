//! What strangers, and HubSpot's largest batches, cannot do to the receiver.

use std::{net::SocketAddr, time::Duration};

use axum::http::StatusCode;
use futures_util::future::select_all;
use hubspot::webhook::{BodyBounds, WebhookBody};
use receiver::{handler::WebhookLimits, wiring};
use reqwest::Client;
use serde_json::{Value, json};
use settings::Settings;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
};

use crate::fixtures::{Options, PUBLIC_URL, SECRET, TestReceiver, answer, begin, body_time, event, forged_headers};

/// An address of this machine that is not the one from which the good webhooks come.
const STRANGER: &str = "127.0.0.2:0";

/// Opens a connection from the address `from`, sends the head of a webhook that announces a megabyte, and `part` of its body.
async fn idle(receiver: &TestReceiver, from: &str, headers: &str, part: &[u8]) -> TcpStream {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind(from.parse::<SocketAddr>().expect("an address")).expect("bound");
    let mut stream = socket.connect(receiver.address).await.expect("connected");
    let head = format!("POST /webhooks/hubspot HTTP/1.1\r\nHost: x\r\n{headers}Content-Length: 1048576\r\n\r\n");
    stream.write_all(head.as_bytes()).await.expect("written");
    stream.write_all(part).await.expect("written");
    stream
}

/// Forty webhooks that HubSpot would send, one after the other: their statuses.
async fn forty_webhooks(receiver: &TestReceiver) -> Vec<StatusCode> {
    let mut statuses = Vec::new();
    for n in 0..40 {
        statuses.push(receiver.post(json!([event(1, n)]).to_string()).await.0);
    }
    statuses
}

#[tokio::test]
async fn a_hundred_idle_connections_without_a_signature_close_the_door_for_nobody() {
    let receiver = TestReceiver::start(Options::default()).await;
    let mut strangers = Vec::new();
    for _ in 0..100 {
        strangers.push(idle(&receiver, "127.0.0.1:0", "", b"[").await);
    }
    assert_eq!(forty_webhooks(&receiver).await, [StatusCode::OK; 40]);
    // They were answered from the head alone, and not one of them waits for its place.
    for mut stranger in strangers {
        let mut answer = [0; 12];
        let read = tokio::time::timeout(Duration::from_secs(30), stranger.read_exact(&mut answer));
        read.await.expect("an answer before the body").expect("an answer");
        assert_eq!(&answer, b"HTTP/1.1 401");
    }
}

#[tokio::test]
async fn a_hundred_idle_connections_with_forged_signatures_close_the_door_for_nobody() {
    let receiver = TestReceiver::start(Options::default()).await;
    let mut strangers = Vec::new();
    for n in 0..100 {
        // The first ones send nearly all of what they announce.
        let part = vec![b'1'; if n < 10 { 1_000_000 } else { 412 }];
        strangers.push(idle(&receiver, STRANGER, &forged_headers(), &part).await);
    }
    assert_eq!(forty_webhooks(&receiver).await, [StatusCode::OK; 40]);
}

#[tokio::test]
async fn what_one_stranger_sends_takes_no_more_than_a_part_of_the_memory() {
    let limits =
        WebhookLimits { max_bytes_in_flight: 2_000_000, max_bytes_per_peer: 1_200_000, ..Options::default().limits };
    let receiver = TestReceiver::start(Options { limits, ..Options::default() }).await;
    let part = vec![b'1'; 500_000];
    let mut strangers = Vec::new();
    for _ in 0..3 {
        strangers.push(idle(&receiver, STRANGER, &forged_headers(), &part).await);
    }
    // There is room for two of them.
    let answers = strangers.iter_mut().map(|stranger| {
        Box::pin(async {
            let mut answer = [0; 12];
            stranger.read_exact(&mut answer).await.map(|_| answer)
        })
    });
    let refused = tokio::time::timeout(Duration::from_secs(4), select_all(answers)).await.expect("one is refused").0;
    assert_eq!(&refused.expect("an answer"), b"HTTP/1.1 503");
    assert_eq!(forty_webhooks(&receiver).await, [StatusCode::OK; 40]);
}

#[tokio::test]
async fn one_stranger_takes_no_more_than_a_part_of_the_connections() {
    let receiver = TestReceiver::start(Options { max_connections_per_peer: 20, ..Options::default() }).await;
    let mut strangers = Vec::new();
    for _ in 0..20 {
        strangers.push(idle(&receiver, STRANGER, &forged_headers(), b"[").await);
    }
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind(STRANGER.parse::<SocketAddr>().expect("an address")).expect("bound");
    let mut one_more = socket.connect(receiver.address).await.expect("the system connects before the receiver accepts");
    let closed =
        tokio::time::timeout(Duration::from_secs(4), one_more.read(&mut [0; 1])).await.expect("closed at once");
    assert!(matches!(closed, Ok(0) | Err(_)), "{closed:?}");
    assert_eq!(forty_webhooks(&receiver).await, [StatusCode::OK; 40]);
}

#[tokio::test]
async fn a_webhook_is_signed_for_the_url_that_hubspot_calls_with_or_without_its_query() {
    let receiver = TestReceiver::start(Options::default()).await;
    let status = async |signed_url: String, query: &str| {
        let body = json!([event(1, 1)]).to_string();
        answer(receiver.signed_for(&signed_url, query, SECRET, body)).await.status()
    };
    for (signed_query, query) in [("", ""), ("?tenant=1", "?tenant=1"), ("", "?tenant=1"), ("?a=b%2Fc", "?a=b%2Fc")] {
        let answered = status(format!("{PUBLIC_URL}{signed_query}"), query).await;
        assert_eq!(answered, StatusCode::OK, "signed with `{signed_query}`, called with `{query}`");
    }
    for (signed_query, query) in [("?tenant=1", ""), ("?tenant=1", "?tenant=2")] {
        let answered = status(format!("{PUBLIC_URL}{signed_query}"), query).await;
        assert_eq!(answered, StatusCode::UNAUTHORIZED, "signed with `{signed_query}`, called with `{query}`");
    }
    let elsewhere = status("https://elsewhere.example.com/webhooks/hubspot?tenant=1".to_owned(), "?tenant=1").await;
    assert_eq!(elsewhere, StatusCode::UNAUTHORIZED);
}

/// A change of a property to this JSON text, which may be one that no JSON library would write.
fn changed_to(n: i64, value: &str) -> String {
    let mut event = event(n, n);
    event["propertyName"] = json!("call_transcript");
    event["propertyValue"] = json!("THE VALUE");
    event.to_string().replace("\"THE VALUE\"", &format!("\"{value}\""))
}

#[tokio::test]
async fn a_batch_of_transcripts_is_accepted_and_its_messages_are_small() {
    let receiver = TestReceiver::start(Options::default()).await;
    let events: Vec<_> = (0..18).map(|n| changed_to(n, &"They are ready. ".repeat(3_750))).collect();
    let body = format!("[{}]", events.join(","));
    assert!(body.len() > 1_080_000, "more than a megabyte");
    assert_eq!(receiver.post(body).await, (StatusCode::OK, r#"{"accepted":18,"parked":0}"#.to_owned()));
    let queued = receiver.take_payloads("leadline.events").await;
    assert_eq!(queued.len(), 18);
    for event in &queued {
        assert!(event.to_string().len() < 8_192, "{}", event.to_string().len());
        let value = event["payload"]["propertyValue"].as_str().expect("text");
        assert!(value.starts_with("They are ready. They are ready. ") && value.ends_with('…'), "{value}");
    }
}

/// With the limits that are shipped.
#[tokio::test]
async fn the_largest_batch_that_hubspot_can_send_is_accepted() {
    let limits = wiring::webhook_limits(&Settings::default());
    let receiver = TestReceiver::start(Options { limits, ..Options::default() }).await;
    let events: Vec<_> = (0..100).map(|n| changed_to(n, &"😀".repeat(65_536))).collect();
    let body = format!("[{}]", events.join(","));
    assert!(body.len() > 26_000_000);
    assert_eq!(receiver.post(body).await, (StatusCode::OK, r#"{"accepted":100,"parked":0}"#.to_owned()));
}

/// HubSpot opens ten connections at once, each for a hundred events.
#[tokio::test]
async fn ten_full_batches_with_long_values_at_once_are_accepted() {
    let limits = WebhookLimits {
        body_time: body_time(Duration::from_secs(120)),
        ..wiring::webhook_limits(&Settings::default())
    };
    let receiver = TestReceiver::start(Options { limits, ..Options::default() }).await;
    let batch = |batch: i64| {
        let events: Vec<_> = (0..100).map(|n| changed_to(100 * batch + n, &"They are ready. ".repeat(300))).collect();
        format!("[{}]", events.join(","))
    };
    // What is kept of them is within the limit also when all of it is held at the same time.
    let mut kept = WebhookBody::new(limits.body);
    kept.push(batch(0).as_bytes()).expect("read");
    assert!(10 * kept.kept_bytes() <= limits.max_bytes_per_peer, "{} bytes each", kept.kept_bytes());
    let mut connections = Vec::new();
    for n in 0..10 {
        let body = batch(n);
        let mut connection = begin(&receiver, &body).await;
        connection.write_all(&body.as_bytes()[..body.len() - 1]).await.expect("written");
        connections.push(connection);
    }
    // All of them have arrived but for their last byte.
    for mut connection in connections {
        connection.write_all(b"]").await.expect("written");
        let mut answer = String::new();
        connection.read_to_string(&mut answer).await.expect("an answer");
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
}

#[tokio::test]
async fn whatever_is_in_a_value_its_event_is_kept() {
    let receiver = TestReceiver::start(Options::default()).await;
    let values = [
        ("a\\u0000b", "a\u{fffd}b"),
        ("half an emoji: \\ud83d", "half an emoji: \u{fffd}"),
        ("the other half: \\ude00!", "the other half: \u{fffd}!"),
        ("both: \\ud83d\\ude00", "both: 😀"),
        ("\\\\u0000 is text", "\\u0000 is text"),
    ];
    let mut events: Vec<_> = values.iter().zip(0..).map(|((json, _), n)| changed_to(n, json)).collect();
    events.push(changed_to(99, &"ä".repeat(66_000)));
    let body = format!("[{}]", events.join(","));
    assert_eq!(receiver.post(body).await, (StatusCode::OK, r#"{"accepted":6,"parked":0}"#.to_owned()));
    let mut queued = receiver.take_payloads("leadline.events").await;
    queued.sort_by_key(|event| event["payload"]["objectId"].as_i64());
    let value = |event: &Value| event["payload"]["propertyValue"].as_str().expect("text").to_owned();
    for (event, (_, expected)) in queued.iter().zip(values) {
        assert_eq!(value(event), expected);
    }
    let cut = value(&queued[5]);
    assert!(cut.trim_start_matches('ä') == "…" && cut.chars().count() > 1_000, "cut between two characters: {cut}");
}

#[tokio::test]
async fn a_property_value_that_is_no_text_costs_the_value_and_not_the_event() {
    let receiver = TestReceiver::start(Options::default()).await;
    let mut odd = event(1, 1);
    odd["propertyValue"] = json!({"a": ["b\u{0}", null]});
    let (status, answer) = receiver.post(json!([odd]).to_string()).await;
    assert_eq!((status, answer.as_str()), (StatusCode::OK, r#"{"accepted":1,"parked":0}"#));
}

#[tokio::test]
async fn what_is_not_read_is_bounded_too() {
    let receiver = TestReceiver::start(Options::default()).await;
    // Not one long string, but many numbers: nothing of them can be left out.
    let body = format!("[{}]", vec!["1234567"; 200_000].join(","));
    let answered = answer(receiver.signed(SECRET, body)).await;
    assert_eq!(answered.status(), StatusCode::PAYLOAD_TOO_LARGE);
    let body = BodyBounds { max_bytes: 5_000, ..BodyBounds::default() };
    let limits = WebhookLimits { body, ..Options::default().limits };
    let receiver = TestReceiver::start(Options { limits, ..Options::default() }).await;
    let unsigned = Client::new().post(&receiver.url).body(vec![b' '; 6_000]);
    assert_eq!(answer(unsigned).await.status(), StatusCode::UNAUTHORIZED, "a stranger learns no limits");
}
