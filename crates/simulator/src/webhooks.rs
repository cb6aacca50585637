//! Sending webhooks as HubSpot does: in batches, signed, up to ten at once, again after anything but 2xx.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use hubspot::signature;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use time::OffsetDateTime;
use tokio::sync::{Semaphore, mpsc};

use crate::{
    Config,
    hubspot::portal::{Author, Key},
    lock,
};

/// HubSpot waits this long for an answer.
const TIMEOUT: Duration = Duration::from_secs(5);

/// HubSpot spreads its retries over 24 hours; a simulator has less time.
const RETRY_BASE: Duration = Duration::from_millis(500);

/// Changes are gathered this long before they are sent.
const GATHER: Duration = Duration::from_millis(50);

/// A duplicate comes this much later.
const DUPLICATES_AFTER: Duration = Duration::from_millis(300);

/// Requests at once.
const CONCURRENT: usize = 10;

/// One webhook that was sent.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct WebhookDelivery {
    /// How many events it held.
    pub events: usize,
    /// The answer's status; 0 when there was none.
    pub status: u16,
    /// The answer's body.
    pub answer: String,
    /// How long the answer took.
    pub latency_ms: f64,
    /// Counts from 0.
    pub attempt: u32,
}

/// How HubSpot treats its subscribers; its documentation promises neither order nor uniqueness.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct DeliveryOptions {
    pub(crate) duplicates: bool,
    pub(crate) shuffles: bool,
}

/// Sends what happens in the portal to whoever subscribed.
pub(crate) struct Sender {
    post: Arc<Post>,
    changes: mpsc::UnboundedSender<Value>,
}

struct Post {
    http: reqwest::Client,
    url: Option<String>,
    signed_uri: String,
    secret: String,
    deliveries: Mutex<Vec<WebhookDelivery>>,
    delivery_options: Mutex<DeliveryOptions>,
    retries: u32,
    portal_id: i64,
    app_id: i64,
}

impl Sender {
    pub(crate) fn start(config: &Config) -> Self {
        let url = config.webhook_url.clone();
        let public = config.public_url.clone().or_else(|| url.clone()).unwrap_or_default();
        let post = Arc::new(Post {
            http: reqwest::Client::builder().timeout(TIMEOUT).build().unwrap_or_default(),
            url,
            signed_uri: signature::signed_uri(&public),
            secret: config.client_secret.clone(),
            deliveries: Mutex::default(),
            delivery_options: Mutex::default(),
            retries: config.webhook_retries,
            portal_id: config.portal_id,
            app_id: config.app_id,
        });
        let (changes, incoming) = mpsc::unbounded_channel();
        tokio::spawn(send_changes(post.clone(), incoming));
        Self { post, changes }
    }

    /// Tells subscribers that `author` changed a property.
    pub(crate) fn property_changed(&self, key: &Key, property: &str, value: &str, author: &Author) {
        let more = json!({"propertyName": property, "propertyValue": value, "isSensitive": false});
        self.happened(key, "propertyChange", author, more);
    }

    /// Tells subscribers that `author` made an object.
    pub(crate) fn created(&self, key: &Key, author: &Author) {
        self.happened(key, "creation", author, json!({"changeFlag": "CREATED"}));
    }

    fn happened(&self, (object_type, id): &Key, kind: &str, author: &Author, more: Value) {
        let post = &self.post;
        if post.url.is_none() {
            return;
        }
        let now = i64::try_from(OffsetDateTime::now_utc().unix_timestamp_nanos() / 1_000_000).unwrap_or(0);
        // Engagements have no names of their own among the subscriptions.
        let object = if object_type.is_engagement() { "object" } else { object_type.name() };
        let mut event = json!({
            "eventId": now % 4_000_000_000, "subscriptionId": 1, "portalId": post.portal_id,
            "appId": post.app_id, "occurredAt": now, "subscriptionType": format!("{object}.{kind}"),
            "attemptNumber": 0, "objectId": id, "objectTypeId": object_type.type_id(),
            "changeSource": author.source, "sourceId": author.id,
        });
        if let (Some(event), Value::Object(more)) = (event.as_object_mut(), more) {
            event.extend(more);
        }
        // The receiver of the channel lives as long as the process.
        let _ = self.changes.send(event);
    }

    /// Sends `events` once, signed with `secret`. `None` without a URL.
    pub(crate) async fn deliver(&self, events: &[Value], secret: &str, url: Option<&str>) -> Option<WebhookDelivery> {
        Some(self.post.send(url.or(self.post.url.as_deref())?, events, secret, 0).await)
    }

    pub(crate) fn set_delivery_options(&self, delivery_options: DeliveryOptions) {
        *lock(&self.post.delivery_options) = delivery_options;
    }

    pub(crate) fn deliveries(&self) -> Vec<WebhookDelivery> {
        lock(&self.post.deliveries).clone()
    }
}

async fn send_changes(post: Arc<Post>, mut incoming: mpsc::UnboundedReceiver<Value>) {
    let slots = Arc::new(Semaphore::new(CONCURRENT));
    let mut later: Vec<Value> = Vec::new();
    loop {
        // Duplicates go with the next changes, or on their own when there are none for a while.
        let mut fresh = match tokio::time::timeout(DUPLICATES_AFTER, incoming.recv()).await {
            Ok(Some(first)) => vec![first],
            Ok(None) => return,
            Err(_) if later.is_empty() => continue,
            Err(_) => Vec::new(),
        };
        tokio::time::sleep(GATHER).await;
        while let Ok(event) = incoming.try_recv() {
            fresh.push(event);
        }
        let delivery_options = *lock(&post.delivery_options);
        let mut batch = std::mem::take(&mut later);
        if delivery_options.duplicates {
            later.clone_from(&fresh);
        }
        batch.extend(fresh);
        if delivery_options.shuffles {
            batch.reverse();
        }
        later.extend(batch.split_off(batch.len().min(hubspot::webhook::MAX_EVENTS)));
        tokio::spawn(send_until_taken(post.clone(), slots.clone(), batch));
    }
}

async fn send_until_taken(post: Arc<Post>, slots: Arc<Semaphore>, mut batch: Vec<Value>) {
    let Some(url) = &post.url else { return };
    for attempt in 0..=post.retries {
        for event in &mut batch {
            event["attemptNumber"] = json!(attempt);
        }
        let slot = slots.acquire().await;
        let delivery = post.send(url, &batch, &post.secret, attempt).await;
        drop(slot);
        let taken = (200..300).contains(&delivery.status);
        lock(&post.deliveries).push(delivery);
        if taken {
            return;
        }
        tokio::time::sleep(RETRY_BASE * 2_u32.pow(attempt.min(6))).await;
    }
}

impl Post {
    async fn send(&self, url: &str, events: &[Value], secret: &str, attempt: u32) -> WebhookDelivery {
        let body = Value::from(events.to_vec()).to_string();
        let timestamp = (OffsetDateTime::now_utc().unix_timestamp_nanos() / 1_000_000).to_string();
        let started = Instant::now();
        let request = self
            .http
            .post(url)
            .header("Content-Type", "application/json")
            .header("X-HubSpot-Request-Timestamp", &timestamp)
            .header(
                "X-HubSpot-Signature-v3",
                signature::v3(secret, "POST", &self.signed_uri, body.as_bytes(), &timestamp),
            )
            .header("X-HubSpot-Signature", signature::v1(secret, body.as_bytes()))
            .header("X-HubSpot-Signature-Version", "v1")
            .body(body);
        let (status, answer) = match request.send().await {
            Ok(response) => (response.status().as_u16(), response.text().await.unwrap_or_default()),
            Err(error) => (0, error.without_url().to_string()),
        };
        let latency_ms = started.elapsed().as_secs_f64() * 1_000.0;
        WebhookDelivery { events: events.len(), status, answer, latency_ms, attempt }
    }
}
