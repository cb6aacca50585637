//! The receiver in this process, with a real RabbitMQ: which webhooks it accepts, and what it does with their events.

#![allow(clippy::expect_used)] // Clippy allows it in test functions only, not in what they share.

use std::{sync::Arc, time::Duration};

use axum::http::{HeaderValue, StatusCode};
use broker::{BrokerSettings, Publisher, RetrySchedule, Topology};
use hubspot::signature::{self, SignatureVerifier};
use receiver::{
    handler::{self, WebhookHandler, WebhookLimits},
    server::{self, ServerLimits},
};
use reqwest::{Client, RequestBuilder, Response};
use serde_json::{Value, json};
use testbed::{Role, TestNamespace};
use time::OffsetDateTime;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_util::sync::{CancellationToken, DropGuard};

const PUBLIC_URL: &str = "https://hooks.example.com/webhooks/hubspot";
const SECRET: &str = "the-client-secret";

/// What differs between the receivers of the tests.
struct Options {
    secrets: Vec<&'static str>,
    accept_v2: bool,
    limits: WebhookLimits,
    max_queue_length: u32,
}

impl Default for Options {
    fn default() -> Self {
        let limits = WebhookLimits {
            max_in_flight: 256,
            max_bytes_in_flight: 4_194_304,
            max_body_bytes: 1_048_576,
            read_timeout: Duration::from_secs(5),
            retry_after_seconds: 1,
        };
        Self { secrets: vec![SECRET], accept_v2: false, limits, max_queue_length: 100_000 }
    }
}

/// A receiver on a free port. It stops when it is dropped.
struct TestReceiver {
    namespace: TestNamespace,
    publisher: Publisher,
    address: String,
    url: String,
    _stop: DropGuard,
}

impl TestReceiver {
    async fn start(options: Options) -> Self {
        http_client::install_tls_provider();
        let namespace = testbed::namespace().await.expect("a namespace");
        let settings = broker_settings(&namespace, options.max_queue_length);
        broker::declare_topology(&settings).await.expect("declared");
        // With the rights that a receiver has.
        let url = namespace.amqp_url_of(Role::Receiver).expect("a URL").into();
        let publisher = Publisher::open(BrokerSettings { url, ..settings }).await.expect("a publisher");
        let secrets = options.secrets.into_iter().map(Into::into).collect();
        let verifier = SignatureVerifier::new(secrets, PUBLIC_URL, false, options.accept_v2);
        let handler = WebhookHandler::new(verifier, publisher.clone(), options.limits);
        let listener = server::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address").to_string();
        let limits = ServerLimits { max_connections: 64, header_timeout: options.limits.read_timeout };
        let stop = CancellationToken::new();
        tokio::spawn(server::serve(listener, handler::router(Arc::new(handler)), limits, stop.clone()));
        let url = format!("http://{address}/webhooks/hubspot");
        let receiver = Self { namespace, publisher, address, url, _stop: stop.drop_guard() };
        receiver.until_connected().await;
        receiver
    }

    /// The publisher connects in the background.
    async fn until_connected(&self) {
        let connected = async {
            while !self.publisher.is_ready() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), connected).await.expect("connected to RabbitMQ");
    }

    /// A request that HubSpot would sign like this with `secret`.
    fn signed(&self, secret: &str, body: impl Into<Vec<u8>>) -> RequestBuilder {
        let body = body.into();
        let timestamp = (OffsetDateTime::now_utc().unix_timestamp() * 1_000).to_string();
        let signature = signature::v3(secret, "POST", &signature::signed_uri(PUBLIC_URL), &body, &timestamp);
        Client::new()
            .post(&self.url)
            .header("X-HubSpot-Signature-v3", signature)
            .header("X-HubSpot-Request-Timestamp", timestamp)
            .body(body)
    }

    async fn post(&self, body: impl Into<Vec<u8>>) -> (StatusCode, String) {
        let response = answer(self.signed(SECRET, body)).await;
        (response.status(), response.text().await.expect("a body"))
    }

    /// The payloads of the messages in a queue, which are taken out of it.
    async fn take_payloads(&self, queue: &str) -> Vec<Value> {
        let messages = self.namespace.take_messages(queue, 1_000).await.expect("the messages");
        let payload = |message: &Value| serde_json::from_str(message["payload"].as_str().expect("text")).expect("JSON");
        messages.iter().map(payload).collect()
    }
}

fn broker_settings(namespace: &TestNamespace, max_queue_length: u32) -> BrokerSettings {
    let retry_schedule = RetrySchedule::new(vec![Duration::from_secs(10)], 3).expect("a schedule");
    BrokerSettings {
        url: namespace.amqp_url.clone().into(),
        name: "receiver test".to_owned(),
        connect_timeout: Duration::from_secs(30),
        max_reconnect_delay: Duration::from_secs(1),
        confirm_timeout: Duration::from_secs(30),
        frame_max: 16_384,
        topology: Topology { retry_schedule, delivery_limit: 20, max_queue_length },
    }
}

async fn answer(request: RequestBuilder) -> Response {
    request.send().await.expect("an answer")
}

/// HubSpot's event for a change of a contact; `n` makes it another event.
fn event(contact: i64, n: i64) -> Value {
    json!({"eventId": 1_000 + n, "subscriptionId": 1, "portalId": 9_876_543, "appId": 1_234_567,
        "occurredAt": 1_764_000_000_000_i64 + n * 1_000, "attemptNumber": 0, "objectId": contact, "objectTypeId": "0-1",
        "subscriptionType": "contact.propertyChange", "propertyName": "notes_last_updated",
        "propertyValue": "1764000000000", "changeSource": "CRM_UI", "sourceId": "userId:42"})
}

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
    let limits = WebhookLimits { max_body_bytes: 1_000, ..Options::default().limits };
    let receiver = TestReceiver::start(Options { limits, ..Options::default() }).await;
    let (status, answer) = receiver.post(vec![b' '; 1_001]).await;
    assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE);
    assert!(answer.contains("1000 bytes"), "it says how long a body may be: {answer}");
    let chunk = "x".repeat(600);
    let chunked = format!(
        "POST /webhooks/hubspot HTTP/1.1\r\nHost: x\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n\
         258\r\n{chunk}\r\n258\r\n{chunk}\r\n0\r\n\r\n"
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
    let mut too_long = event(3, 1);
    too_long["propertyValue"] = json!("x".repeat(100_000));
    let mut unknown = event(4, 1);
    unknown["subscriptionType"] = json!("contact.teleported");
    let (status, answer) = receiver.post(json!([too_big, event(1, 1), too_long, "text", unknown]).to_string()).await;
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
    assert!(details[1].starts_with("events[2].propertyValue: has 100000 characters"), "{details:?}");
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

#[tokio::test]
async fn more_requests_at_once_than_allowed_are_answered_503_at_once() {
    let limits = WebhookLimits { max_in_flight: 1, ..Options::default().limits };
    let receiver = TestReceiver::start(Options { limits, ..Options::default() }).await;
    // The first request takes the only place until its body is there.
    let body = json!([event(1, 1)]).to_string();
    let mut first = begin(&receiver, &body).await;
    let refused = refused(&receiver).await;
    assert_eq!(refused.headers()["retry-after"], "1");
    assert!(refused.text().await.expect("a body").contains("too many requests at once"));
    first.write_all(body.as_bytes()).await.expect("the body is sent");
    let mut answer = String::new();
    first.read_to_string(&mut answer).await.expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert_eq!(receiver.post(json!([event(2, 1)]).to_string()).await.0, StatusCode::OK, "the place is free again");
}

#[tokio::test]
async fn more_bytes_at_once_than_allowed_are_answered_503_at_once() {
    let body = json!([event(1, 1)]).to_string();
    // Room for this body and a part of another one.
    let limits = WebhookLimits { max_bytes_in_flight: body.len() + 10, ..Options::default().limits };
    let receiver = TestReceiver::start(Options { limits, ..Options::default() }).await;
    let _first = begin(&receiver, &body).await;
    assert!(refused(&receiver).await.text().await.expect("a body").contains("too many bytes at once"));
}

#[tokio::test]
async fn a_client_that_sends_too_slowly_is_cut_off() {
    let limits = WebhookLimits { read_timeout: Duration::from_millis(300), ..Options::default().limits };
    let receiver = TestReceiver::start(Options { limits, ..Options::default() }).await;
    let slow_body = raw(&receiver, "POST /webhooks/hubspot HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n[").await;
    assert!(slow_body.starts_with("HTTP/1.1 408"), "{slow_body}");
    let slow_head = raw(&receiver, "POST /webhooks/hub").await;
    assert!(slow_head.is_empty() || slow_head.starts_with("HTTP/1.1 408"), "{slow_head}");
}

/// What the receiver answers to these bytes until it closes the connection.
async fn raw(receiver: &TestReceiver, bytes: &str) -> String {
    let mut stream = TcpStream::connect(&receiver.address).await.expect("connected");
    stream.write_all(bytes.as_bytes()).await.expect("written");
    let mut answer = String::new();
    let read = tokio::time::timeout(Duration::from_secs(30), stream.read_to_string(&mut answer));
    read.await.expect("the receiver closes the connection in time").expect("closed");
    answer
}

/// Sends the head of a good request and keeps its body back.
async fn begin(receiver: &TestReceiver, body: &str) -> TcpStream {
    let request = receiver.signed(SECRET, body).build().expect("a request");
    let mut head = format!(
        "POST /webhooks/hubspot HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {}\r\n",
        body.len()
    );
    for (name, value) in request.headers() {
        head.push_str(&format!("{name}: {}\r\n", value.to_str().expect("text")));
    }
    let mut stream = TcpStream::connect(&receiver.address).await.expect("connected");
    stream.write_all(format!("{head}\r\n").as_bytes()).await.expect("written");
    stream
}

/// The first answer other than 200: the head of the request before may still be on its way when the next one comes.
async fn refused(receiver: &TestReceiver) -> Response {
    let refused = async {
        loop {
            let response = answer(receiver.signed(SECRET, json!([event(3, 1)]).to_string())).await;
            if response.status() != StatusCode::OK {
                return response;
            }
        }
    };
    let response = tokio::time::timeout(Duration::from_secs(4), refused).await.expect("the limit is reached");
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    response
}
