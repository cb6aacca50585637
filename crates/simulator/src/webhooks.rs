//! Sends webhooks as HubSpot does: in batches, signed, up to ten at once, repeated after an answer other than 2xx.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use hubspot::{signature, webhook::MAX_EVENTS};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use time::OffsetDateTime;
use tokio::sync::{Semaphore, mpsc};

use crate::{
    config::Config,
    hubspot::portal::{Author, RecordKey},
    lock::lock,
};

/// HubSpot waits this long for an answer.
const TIMEOUT: Duration = Duration::from_secs(5);

/// The delay before the first repetition; it doubles with each. HubSpot spreads its repetitions over 24 hours, which is
/// too long for a test.
const RETRY_BASE: Duration = Duration::from_millis(500);

/// How long changes are collected before they are sent in one batch.
const BATCH_LINGER: Duration = Duration::from_millis(50);

/// How long after the first delivery a duplicate is sent, at the latest.
const DUPLICATE_AFTER: Duration = Duration::from_millis(300);

/// Requests in flight at once (HubSpot's documentation of webhooks: ten).
const MAX_CONCURRENT: usize = 10;

/// One webhook that was sent.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct WebhookDelivery {
    /// How many events its body held.
    pub events: usize,
    /// The answer's status; 0 when there was no answer.
    pub status: u16,
    /// The answer's body, or the transport error when there was no answer.
    pub answer: String,
    /// How long the answer took, in milliseconds.
    pub latency_ms: f64,
    /// Counts from 0.
    pub attempt: u32,
}

/// How webhooks about changes are delivered; HubSpot's documentation promises neither order nor uniqueness.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct DeliveryOptions {
    /// Sends every event a second time.
    pub(crate) sends_twice: bool,
    /// Reverses the order within each batch.
    pub(crate) reorders: bool,
}

/// Sends webhooks to the configured URL.
pub(crate) struct WebhookSender {
    endpoint: Arc<Endpoint>,
    changes: mpsc::UnboundedSender<Value>,
    portal_id: i64,
    app_id: i64,
}

/// Where webhooks are sent and how the receiver answered.
struct Endpoint {
    http: reqwest::Client,
    url: Option<String>,
    signed_uri: String,
    secret: String,
    deliveries: Mutex<Vec<WebhookDelivery>>,
    delivery_options: Mutex<DeliveryOptions>,
    retries: u32,
}

impl WebhookSender {
    /// Starts the task that sends webhooks about changes.
    pub(crate) fn start(config: &Config) -> Self {
        let url = config.webhook_url.clone();
        let public = config.public_url.clone().or_else(|| url.clone()).unwrap_or_default();
        let endpoint = Arc::new(Endpoint {
            http: reqwest::Client::builder().timeout(TIMEOUT).build().unwrap_or_default(),
            url,
            signed_uri: signature::signed_uri(&public),
            secret: config.client_secret.clone(),
            deliveries: Mutex::default(),
            delivery_options: Mutex::default(),
            retries: config.webhook_retries,
        });
        let (changes, incoming) = mpsc::unbounded_channel();
        tokio::spawn(send_changes(endpoint.clone(), incoming));
        Self { endpoint, changes, portal_id: config.portal_id, app_id: config.app_id }
    }

    /// Queues a webhook that says that `author` changed a property.
    pub(crate) fn property_changed(&self, key: &RecordKey, property: &str, value: &str, author: &Author) {
        let details = json!({"propertyName": property, "propertyValue": value, "isSensitive": false});
        self.queue(key, "propertyChange", author, details);
    }

    /// Queues a webhook that says that `author` created a record.
    pub(crate) fn created(&self, key: &RecordKey, author: &Author) {
        self.queue(key, "creation", author, json!({"changeFlag": "CREATED"}));
    }

    /// Queues the webhooks about a contact that was deleted for privacy reasons: two, which HubSpot sends in any order or
    /// batch (facts: HubSpot's guide to the webhooks API, "GDPR delete").
    pub(crate) fn deleted_for_privacy(&self, key: &RecordKey, author: &Author) {
        self.queue(key, "deletion", author, json!({"changeFlag": "DELETED"}));
        self.queue(key, "privacyDeletion", author, json!({"changeFlag": "DELETED"}));
    }

    /// Queues a webhook that says that `author` merged records of a type into the record `survivor`. HubSpot names the primary one
    /// as the object (unverified), and the one to go on with beside it.
    pub(crate) fn merged(&self, primary: &RecordKey, merged: &[i64], survivor: i64, moved: usize, author: &Author) {
        let details = json!({"primaryObjectId": primary.1, "mergedObjectIds": merged, "newObjectId": survivor,
            "numberOfPropertiesMoved": moved});
        self.queue(primary, "merge", author, details);
    }

    fn queue(&self, (object_type, id): &RecordKey, kind: &str, author: &Author, details: Value) {
        if self.endpoint.url.is_none() {
            return;
        }
        let now = i64::try_from(OffsetDateTime::now_utc().unix_timestamp_nanos() / 1_000_000).unwrap_or(0);
        let object = object_type.subscription_object();
        let mut event = json!({
            "eventId": now % 4_000_000_000, "subscriptionId": 1, "portalId": self.portal_id,
            "appId": self.app_id, "occurredAt": now, "subscriptionType": format!("{object}.{kind}"),
            "attemptNumber": 0, "objectId": id, "objectTypeId": object_type.type_id(),
            "changeSource": author.source, "sourceId": author.id,
        });
        if let (Some(event), Value::Object(details)) = (event.as_object_mut(), details) {
            event.extend(details);
        }
        // The task that receives runs as long as the process, so sending cannot fail.
        let _ = self.changes.send(event);
    }

    /// Sends `events` once, signed with `secret`, to `url` or else to the configured URL. `None` when there is neither.
    pub(crate) async fn deliver(&self, events: &[Value], secret: &str, url: Option<&str>) -> Option<WebhookDelivery> {
        Some(self.endpoint.send(url.or(self.endpoint.url.as_deref())?, events, secret, 0).await)
    }

    /// Sets how the following webhooks about changes are delivered.
    pub(crate) fn set_delivery_options(&self, delivery_options: DeliveryOptions) {
        *lock(&self.endpoint.delivery_options) = delivery_options;
    }

    /// The webhooks about changes that were sent, oldest first.
    pub(crate) fn deliveries(&self) -> Vec<WebhookDelivery> {
        lock(&self.endpoint.deliveries).clone()
    }
}

/// Collects changes into batches and sends each in a task of its own.
async fn send_changes(endpoint: Arc<Endpoint>, mut incoming: mpsc::UnboundedReceiver<Value>) {
    let slots = Arc::new(Semaphore::new(MAX_CONCURRENT));
    let mut later: Vec<Value> = Vec::new();
    loop {
        // Duplicates are sent with the next changes, or on their own when no change comes in time.
        let mut fresh = match tokio::time::timeout(DUPLICATE_AFTER, incoming.recv()).await {
            Ok(Some(first)) => vec![first],
            Ok(None) => return,
            Err(_) if later.is_empty() => continue,
            Err(_) => Vec::new(),
        };
        tokio::time::sleep(BATCH_LINGER).await;
        while let Ok(event) = incoming.try_recv() {
            fresh.push(event);
        }
        let delivery_options = *lock(&endpoint.delivery_options);
        let mut batch = std::mem::take(&mut later);
        if delivery_options.sends_twice {
            later.clone_from(&fresh);
        }
        batch.extend(fresh);
        if delivery_options.reorders {
            batch.reverse();
        }
        later.extend(batch.split_off(batch.len().min(MAX_EVENTS)));
        tokio::spawn(send_with_retries(endpoint.clone(), slots.clone(), batch));
    }
}

/// Sends `batch` until it is answered 2xx or the retries are used up.
async fn send_with_retries(endpoint: Arc<Endpoint>, slots: Arc<Semaphore>, mut batch: Vec<Value>) {
    let Some(url) = &endpoint.url else { return };
    for attempt in 0..=endpoint.retries {
        for event in &mut batch {
            event["attemptNumber"] = json!(attempt);
        }
        let slot = slots.acquire().await;
        let delivery = endpoint.send(url, &batch, &endpoint.secret, attempt).await;
        drop(slot);
        let is_accepted = (200..300).contains(&delivery.status);
        lock(&endpoint.deliveries).push(delivery);
        if is_accepted {
            return;
        }
        tokio::time::sleep(RETRY_BASE * 2_u32.pow(attempt.min(6))).await;
    }
}

impl Endpoint {
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
