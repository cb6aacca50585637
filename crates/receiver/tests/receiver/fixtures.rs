//! A receiver in this process, with a real RabbitMQ.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use axum::http::StatusCode;
use broker::{BrokerSettings, Publisher, RetrySchedule, Topology};
use hubspot::{
    signature::{self, SignatureVerifier},
    webhook::BodyBounds,
};
use receiver::{
    body::BodyTime,
    handler::{self, WebhookHandler, WebhookLimits},
};
use reqwest::{Client, RequestBuilder, Response};
use serde_json::{Value, json};
use service::{
    LogLimit,
    listener::{self, ListenerLimits},
};
use testbed::{Role, TestNamespace, proxy::Proxy};
use time::OffsetDateTime;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tokio_util::sync::{CancellationToken, DropGuard};

pub const PUBLIC_URL: &str = "https://hooks.example.com/webhooks/hubspot";
pub const SECRET: &str = "the-client-secret";

/// What differs between the receivers of the tests.
pub struct Options {
    pub secrets: Vec<&'static str>,
    pub accept_v2: bool,
    pub limits: WebhookLimits,
    pub max_connections_per_peer: usize,
    pub max_queue_length: u32,
    /// Whether a proxy is between the receiver and RabbitMQ.
    pub through_proxy: bool,
    /// How long a connection may rest between two requests.
    pub keep_alive: Duration,
    /// How long it waits for RabbitMQ's confirm.
    pub confirm_timeout: Duration,
}

impl Default for Options {
    fn default() -> Self {
        let limits = WebhookLimits {
            max_in_flight: 256,
            max_bytes_in_flight: 8_388_608,
            max_bytes_per_peer: 4_194_304,
            body: BodyBounds::default(),
            body_time: body_time(Duration::from_secs(5)),
            retry_after_seconds: 1,
        };
        Self {
            secrets: vec![SECRET],
            accept_v2: false,
            limits,
            max_connections_per_peer: 512,
            max_queue_length: 100_000,
            through_proxy: false,
            keep_alive: Duration::from_secs(90),
            confirm_timeout: Duration::from_secs(30),
        }
    }
}

/// This time for a body, and for a pause in it.
pub fn body_time(time: Duration) -> BodyTime {
    BodyTime { pause: time, total: time }
}

/// A receiver on a free port. It stops when it is dropped.
pub struct TestReceiver {
    pub namespace: TestNamespace,
    publisher: Publisher,
    /// Between the receiver and RabbitMQ, if there is one.
    pub proxy: Option<Proxy>,
    pub address: SocketAddr,
    pub url: String,
    _stop: DropGuard,
}

impl TestReceiver {
    pub async fn start(options: Options) -> Self {
        http_client::install_tls_provider();
        let namespace = testbed::namespace().await.expect("a namespace");
        let settings = broker_settings(&namespace, options.max_queue_length);
        broker::declare_topology(&settings).await.expect("declared");
        // With the rights that a receiver has.
        let mut url = namespace.amqp_url_of(Role::Receiver).expect("a URL");
        let mut proxy = None;
        if options.through_proxy {
            let between = Proxy::to(namespace.amqp_address().to_owned()).await.expect("a proxy");
            url = url.replace(namespace.amqp_address(), &between.address.to_string());
            proxy = Some(between);
        }
        let publisher = Publisher::open(BrokerSettings {
            address: vec![url.into()].into(),
            confirm_timeout: options.confirm_timeout,
            ..settings
        })
        .await
        .expect("a publisher");
        let secrets = options.secrets.into_iter().map(Into::into).collect();
        let verifier = SignatureVerifier::new(secrets, PUBLIC_URL, false, options.accept_v2);
        let log = Arc::new(LogLimit::new(1));
        let handler = WebhookHandler::new(verifier, publisher.clone(), log.clone(), options.limits);
        let public = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = public.local_addr().expect("an address");
        let limits = ListenerLimits {
            max_connections: 1_024,
            max_connections_per_peer: options.max_connections_per_peer,
            header_timeout: options.limits.body_time.pause,
            keep_alive: options.keep_alive,
            max_age: Duration::from_secs(600),
        };
        let stop = CancellationToken::new();
        tokio::spawn(listener::serve(public, handler::router(Arc::new(handler)), limits, log, stop.clone()));
        let url = format!("http://{address}/webhooks/hubspot");
        let receiver = Self { namespace, publisher, proxy, address, url, _stop: stop.drop_guard() };
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
    pub fn signed(&self, secret: &str, body: impl Into<Vec<u8>>) -> RequestBuilder {
        self.signed_for(PUBLIC_URL, "", secret, body)
    }

    /// A request to the receiver with this query, signed with `secret` as one to `signed_url`.
    pub fn signed_for(&self, signed_url: &str, query: &str, secret: &str, body: impl Into<Vec<u8>>) -> RequestBuilder {
        signed_request(&format!("{}{query}", self.url), signed_url, secret, body.into())
    }

    pub async fn post(&self, body: impl Into<Vec<u8>>) -> (StatusCode, String) {
        let response = answer(self.signed(SECRET, body)).await;
        (response.status(), response.text().await.expect("a body"))
    }

    /// The payloads of the messages in a queue, which are taken out of it.
    pub async fn take_payloads(&self, queue: &str) -> Vec<Value> {
        let messages = self.namespace.take_messages(queue, 1_000).await.expect("the messages");
        let payload = |message: &Value| serde_json::from_str(message["payload"].as_str().expect("text")).expect("JSON");
        messages.iter().map(payload).collect()
    }
}

/// A request to `url`, signed with `secret` as one to `signed_url`.
pub fn signed_request(url: &str, signed_url: &str, secret: &str, body: Vec<u8>) -> RequestBuilder {
    let timestamp = (OffsetDateTime::now_utc().unix_timestamp() * 1_000).to_string();
    let signature = signature::v3(secret, "POST", &signature::signed_uri(signed_url), &body, &timestamp);
    Client::new()
        .post(url)
        .header("X-HubSpot-Signature-v3", signature)
        .header("X-HubSpot-Request-Timestamp", timestamp)
        .body(body)
}

fn broker_settings(namespace: &TestNamespace, max_queue_length: u32) -> BrokerSettings {
    let retry_schedule = RetrySchedule::new(vec![Duration::from_secs(10)], 3).expect("a schedule");
    BrokerSettings {
        address: vec![namespace.amqp_url.clone().into()].into(),
        name: "receiver test".to_owned(),
        connect_timeout: Duration::from_secs(30),
        max_reconnect_delay: Duration::from_secs(1),
        confirm_timeout: Duration::from_secs(30),
        heartbeat: Duration::from_secs(30),
        frame_max: 16_384,
        topology: Topology { retry_schedule, delivery_limit: 20, max_queue_length },
    }
}

pub async fn answer(request: RequestBuilder) -> Response {
    request.send().await.expect("an answer")
}

/// HubSpot's event for a change of a contact; `n` makes it another event.
pub fn event(contact: i64, n: i64) -> Value {
    json!({"eventId": 1_000 + n, "subscriptionId": 1, "portalId": 9_876_543, "appId": 1_234_567,
        "occurredAt": 1_764_000_000_000_i64 + n * 1_000, "attemptNumber": 0, "objectId": contact, "objectTypeId": "0-1",
        "subscriptionType": "contact.propertyChange", "propertyName": "notes_last_updated",
        "propertyValue": "1764000000000", "changeSource": "CRM_UI", "sourceId": "userId:42"})
}

/// What the receiver answers to these bytes until it closes the connection.
pub async fn raw(receiver: &TestReceiver, bytes: &str) -> String {
    let mut stream = TcpStream::connect(&receiver.address).await.expect("connected");
    stream.write_all(bytes.as_bytes()).await.expect("written");
    let mut answer = String::new();
    let read = tokio::time::timeout(Duration::from_secs(30), stream.read_to_string(&mut answer));
    read.await.expect("the receiver closes the connection in time").expect("closed");
    answer
}

/// Sends the head of a good request and keeps its body back.
pub async fn begin(receiver: &TestReceiver, body: &str) -> TcpStream {
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
pub async fn refused(receiver: &TestReceiver) -> Response {
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

/// What a stranger who knows HubSpot's documentation, but no secret, sends.
pub fn forged_headers() -> String {
    let timestamp = OffsetDateTime::now_utc().unix_timestamp() * 1_000;
    let signature = "oaA3M5dEtt6kFsseJD/Hv/x+JNl1vsoxFj4oxmwP6Go=";
    format!("X-HubSpot-Signature-v3: {signature}\r\nX-HubSpot-Request-Timestamp: {timestamp}\r\n")
}
