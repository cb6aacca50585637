//! Which webhooks are accepted, and what becomes of their events.

use std::time::{Duration, Instant};

use axum::http::{HeaderValue, StatusCode};
use hubspot::{signature, webhook::BodyBounds};
use receiver::handler::WebhookLimits;
use reqwest::{Client, RequestBuilder};
use serde_json::{Value, json};
use testbed::proxy::Traffic;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::fixtures::{
    Options, PUBLIC_URL, SECRET, TestReceiver, answer, begin, body_time, event, forged_headers, raw, refused,
};

#[tokio::test]
async fn bad_input_gets_its_own_clear_answer() {
    let receiver = TestReceiver::start(Options::default()).await;
    let cases: [(&[u8], &str); 5] = [
        (b"{}", "not a JSON array"),
        (b"[1,", "not a JSON array"),
        (b"[{\"a\":\"\xff\xfe\"}]", "not a JSON array"),
        (b"[]", "0 events"),
        (b"", "not a JSON array"),
    ];
    for (body, says) in cases {
        let (status, answer) = receiver.post(body).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{answer}");
        assert!(answer.contains(says), "{says} in {answer}");
    }
    let (status, answer) = receiver.post(json!(vec![event(1, 1); 101]).to_string()).await;
    assert_eq!((status, answer.contains("101 events")), (StatusCode::BAD_REQUEST, true));
    let get = reqwest::get(&receiver.url).await.expect("an answer");
    assert_eq!(get.status(), StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(receiver.take_payloads("leadline.events").await, Vec::<Value>::new(), "nothing of it is published");
    assert_eq!(receiver.take_payloads("leadline.events.parked").await, Vec::<Value>::new());
}

#[tokio::test]
async fn a_body_that_is_too_long_is_rejected_whether_or_not_its_length_is_announced() {
    let body = BodyBounds { max_bytes: 1_000, ..BodyBounds::default() };
    let limits = WebhookLimits { body, ..Options::default().limits };
    let receiver = TestReceiver::start(Options { limits, ..Options::default() }).await;
    let (status, answer) = receiver.post(vec![b' '; 1_001]).await;
    assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE);
    assert!(answer.contains("1000 bytes"), "it says how long a body may be: {answer}");
    let chunk = "x".repeat(600);
    let chunked = format!(
        "POST /webhooks/hubspot HTTP/1.1\r\nHost: x\r\n{}Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n\
         258\r\n{chunk}\r\n258\r\n{chunk}\r\n0\r\n\r\n",
        forged_headers()
    );
    let answer = raw(&receiver, &chunked).await;
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
}

#[tokio::test]
async fn a_webhook_without_a_good_signature_is_rejected() {
    let receiver = TestReceiver::start(Options::default()).await;
    let foreign = answer(receiver.signed("another secret", json!([event(1, 1)]).to_string())).await;
    assert_eq!(foreign.status(), StatusCode::UNAUTHORIZED);
    let unsigned = answer(Client::new().post(&receiver.url).body("[]")).await;
    assert_eq!(unsigned.status(), StatusCode::UNAUTHORIZED);
    let message = unsigned.text().await.expect("a body");
    assert!(message.contains("X-HubSpot-Signature-v3"), "it says which header is missing: {message}");
    let opaque = Client::new()
        .post(&receiver.url)
        .header("X-HubSpot-Signature-v3", HeaderValue::from_bytes(b"\xff\xfe").expect("opaque"))
        .header("X-HubSpot-Request-Timestamp", "99999999999999999999999")
        .body("[]");
    assert_eq!(answer(opaque).await.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(receiver.take_payloads("leadline.events").await, Vec::<Value>::new(), "nothing of it is published");
}

#[tokio::test]
async fn both_secrets_of_a_rotation_are_good_and_v2_only_where_it_is_switched_on() {
    let options = Options { secrets: vec![SECRET, "the-old-one"], accept_v2: true, ..Options::default() };
    let with_v2 = TestReceiver::start(options).await;
    let body = json!([event(1, 1)]).to_string();
    for secret in ["the-old-one", SECRET] {
        assert_eq!(answer(with_v2.signed(secret, body.clone())).await.status(), StatusCode::OK);
    }
    let without_v2 = TestReceiver::start(Options::default()).await;
    let signature = signature::v2(SECRET, "POST", PUBLIC_URL, body.as_bytes());
    for (receiver, status) in [(&with_v2, StatusCode::OK), (&without_v2, StatusCode::UNAUTHORIZED)] {
        let request = Client::new().post(&receiver.url).header("X-HubSpot-Signature", &signature).body(body.clone());
        assert_eq!(answer(request).await.status(), status);
    }
}

#[tokio::test]
async fn an_event_that_cannot_be_understood_is_parked_and_its_neighbours_are_not() {
    let receiver = TestReceiver::start(Options::default()).await;
    let mut too_big = event(2, 1);
    too_big["objectId"] = json!(9_223_372_036_854_775_808_u64);
    let mut unnamed = event(3, 1);
    unnamed["propertyName"] = json!("x".repeat(100_000));
    let mut unknown = event(4, 1);
    unknown["subscriptionType"] = json!("contact.teleported");
    let (status, answer) = receiver.post(json!([too_big, event(1, 1), unnamed, "text", unknown]).to_string()).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(serde_json::from_str::<Value>(&answer).expect("JSON"), json!({"accepted": 1, "parked": 4}));
    let events = receiver.take_payloads("leadline.events").await;
    assert_eq!(events.len(), 1);
    assert_eq!(events[0]["payload"], event(1, 1), "the event carries what HubSpot sent");
    let parked = receiver.namespace.take_messages("leadline.events.parked", 10).await.expect("the messages");
    let mut details: Vec<_> = parked
        .iter()
        .map(|message| message["properties"]["headers"]["x-leadline-detail"].as_str().expect("a detail").to_owned())
        .collect();
    details.sort();
    assert_eq!(details.len(), 4, "{details:?}");
    assert!(details[0].starts_with("events[0].objectId: is not a 64-bit integer"), "{details:?}");
    assert!(details[1].starts_with("events[2].propertyName: has 4099 bytes"), "{details:?}");
    assert!(details[2].starts_with("events[3]: is not a JSON object"), "{details:?}");
    assert!(details[3].starts_with("events[4].subscriptionType: `contact.teleported`"), "{details:?}");
    let payloads: String = parked.iter().map(|message| message["payload"].as_str().expect("text")).collect();
    assert!(payloads.contains("9223372036854775808"), "what HubSpot sent is kept to the digit");
}

#[tokio::test]
async fn a_webhook_that_is_answered_200_is_in_the_queue_with_every_event() {
    let receiver = TestReceiver::start(Options::default()).await;
    let events: Vec<_> = (0..100).map(|n| event(n, n)).collect();
    let (status, answer) = receiver.post(json!(events).to_string()).await;
    assert_eq!((status, answer.as_str()), (StatusCode::OK, r#"{"accepted":100,"parked":0}"#));
    let mut queued: Vec<_> =
        receiver.take_payloads("leadline.events").await.into_iter().map(|event| event["payload"].clone()).collect();
    queued.sort_by_key(|payload| payload["objectId"].as_i64());
    assert_eq!(queued, events);
}

#[tokio::test]
async fn a_full_queue_is_answered_503_with_retry_after() {
    let limits = WebhookLimits { retry_after_seconds: 7, ..Options::default().limits };
    let receiver = TestReceiver::start(Options { limits, max_queue_length: 10, ..Options::default() }).await;
    let mut statuses = Vec::new();
    for n in 0..5 {
        let events: Vec<_> = (0..10).map(|id| event(id, n)).collect();
        let response = answer(receiver.signed(SECRET, json!(events).to_string())).await;
        if response.status() == StatusCode::SERVICE_UNAVAILABLE {
            assert_eq!(response.headers()["retry-after"], "7");
        }
        statuses.push(response.status().as_u16());
    }
    assert_eq!(statuses[0], 200);
    assert_eq!(statuses[4], 503, "{statuses:?}");
}

#[tokio::test]
async fn a_webhook_is_answered_503_unless_rabbitmq_confirms_every_event_of_it() {
    let receiver = TestReceiver::start(Options { max_queue_length: 10, ..Options::default() }).await;
    let events: Vec<_> = (0..100).map(|n| event(n, n)).collect();
    let mut accepted_before = 0;
    // RabbitMQ's limit is not exact: more than ten messages that arrive together may be confirmed.
    loop {
        let (status, answer) = receiver.post(json!(events).to_string()).await;
        if status == StatusCode::SERVICE_UNAVAILABLE {
            break;
        }
        assert_eq!(status, StatusCode::OK, "{answer}");
        accepted_before += events.len();
        assert!(accepted_before <= 500, "the queue never became full");
    }
    let queued = receiver.take_payloads("leadline.events").await.len();
    assert!(queued >= accepted_before, "{queued} in the queue, {accepted_before} were answered 200");
}

/// Sends the head and the body of `request` on a connection that stays open.
async fn send(stream: &mut TcpStream, request: RequestBuilder) {
    let request = request.build().expect("a request");
    let body = request.body().and_then(reqwest::Body::as_bytes).expect("a body").to_vec();
    let mut head = format!("POST /webhooks/hubspot HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n", body.len());
    for (name, value) in request.headers() {
        head.push_str(&format!("{name}: {}\r\n", value.to_str().expect("text")));
    }
    stream.write_all(&[head.as_bytes(), b"\r\n", &body].concat()).await.expect("written");
}

/// The status line of the next answer.
async fn status(stream: &mut TcpStream) -> String {
    let mut answer = vec![0; 4_096];
    let read = tokio::time::timeout(Duration::from_secs(30), stream.read(&mut answer)).await;
    let length = read.expect("an answer in time").expect("an open connection");
    String::from_utf8_lossy(&answer[..length]).lines().next().unwrap_or_default().to_owned()
}

#[tokio::test]
async fn a_proxys_connection_may_rest_and_a_strangers_may_not() {
    let pause = Duration::from_millis(500);
    let limits = WebhookLimits { body_time: body_time(pause), ..Options::default().limits };
    let receiver = TestReceiver::start(Options { limits, ..Options::default() }).await;
    let body = json!([event(1, 1)]).to_string();
    let mut proxy = TcpStream::connect(receiver.address).await.expect("connected");
    send(&mut proxy, receiver.signed(SECRET, body.clone())).await;
    assert_eq!(status(&mut proxy).await, "HTTP/1.1 200 OK");
    // Longer than the head of a request may take.
    tokio::time::sleep(pause * 3).await;
    send(&mut proxy, receiver.signed(SECRET, body.clone())).await;
    assert_eq!(status(&mut proxy).await, "HTTP/1.1 200 OK", "the connection was kept");
    let mut stranger = TcpStream::connect(receiver.address).await.expect("connected");
    send(&mut stranger, receiver.signed("another secret", body)).await;
    assert_eq!(status(&mut stranger).await, "HTTP/1.1 401 Unauthorized");
    assert_eq!(status(&mut stranger).await, "", "closed, long before the proxy's would be");
}

#[tokio::test]
async fn webhooks_are_taken_again_soon_after_the_connection_to_rabbitmq_died_in_silence() {
    let confirm_timeout = Duration::from_secs(1);
    let options = Options { through_proxy: true, confirm_timeout, ..Options::default() };
    let receiver = TestReceiver::start(options).await;
    assert_eq!(receiver.post(json!([event(1, 1)]).to_string()).await.0, StatusCode::OK);
    receiver.proxy.as_ref().expect("a proxy").silence_open_connections();
    let died = Instant::now();
    let mut attempt = 1;
    loop {
        attempt += 1;
        let (status, answer) = receiver.post(json!([event(1, attempt)]).to_string()).await;
        if status == StatusCode::OK {
            break;
        }
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "HubSpot sends it again: {answer}");
        assert!(died.elapsed() < Duration::from_secs(10), "{attempt} webhooks were refused");
        tokio::task::yield_now().await;
    }
    let queued = receiver.take_payloads("leadline.events").await;
    assert!(queued.len() >= 2, "what is answered 200 is in the queue: {queued:?}");
}

#[tokio::test]
async fn more_requests_at_once_than_allowed_are_answered_503_at_once() {
    let limits = WebhookLimits { max_in_flight: 1, ..Options::default().limits };
    let receiver = TestReceiver::start(Options { limits, through_proxy: true, ..Options::default() }).await;
    let proxy = receiver.proxy.as_ref().expect("a proxy");
    // The first request takes the only place until RabbitMQ has confirmed.
    proxy.set(Traffic::Stalls);
    let first = receiver.signed(SECRET, json!([event(1, 1)]).to_string());
    let first = tokio::spawn(async move { answer(first).await.status() });
    let refused = refused(&receiver).await;
    assert_eq!(refused.headers()["retry-after"], "1");
    assert!(refused.text().await.expect("a body").contains("too many requests at once"));
    proxy.set(Traffic::Flows);
    assert_eq!(first.await.expect("an answer"), StatusCode::OK);
    assert_eq!(receiver.post(json!([event(2, 1)]).to_string()).await.0, StatusCode::OK, "the place is free again");
}

#[tokio::test]
async fn more_bytes_at_once_than_allowed_are_answered_503_at_once() {
    let body = json!([event(1, 1)]).to_string();
    // Room for this body and a part of another one.
    let room = body.len() + 10;
    let limits = WebhookLimits { max_bytes_in_flight: room, max_bytes_per_peer: room, ..Options::default().limits };
    let receiver = TestReceiver::start(Options { limits, ..Options::default() }).await;
    // All but its last byte has arrived.
    let mut first = begin(&receiver, &body).await;
    first.write_all(&body.as_bytes()[..body.len() - 1]).await.expect("written");
    assert!(refused(&receiver).await.text().await.expect("a body").contains("too many bytes at once"));
    first.write_all(b"]").await.expect("the body is sent");
    let mut answer = String::new();
    first.read_to_string(&mut answer).await.expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert_eq!(receiver.post(body).await.0, StatusCode::OK, "the room is free again");
}

#[tokio::test]
async fn a_client_that_sends_too_slowly_is_cut_off() {
    let limits = WebhookLimits { body_time: body_time(Duration::from_millis(300)), ..Options::default().limits };
    let receiver = TestReceiver::start(Options { limits, ..Options::default() }).await;
    let head = format!("POST /webhooks/hubspot HTTP/1.1\r\nHost: x\r\n{}Content-Length: 10\r\n\r\n[", forged_headers());
    let slow_body = raw(&receiver, &head).await;
    assert!(slow_body.starts_with("HTTP/1.1 408"), "{slow_body}");
    let slow_head = raw(&receiver, "POST /webhooks/hub").await;
    assert!(slow_head.is_empty() || slow_head.starts_with("HTTP/1.1 408"), "{slow_head}");
}
