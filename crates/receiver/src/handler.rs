//! Processes one webhook, in this order: admit → read → verify → split → publish → confirm → 200.

use std::{sync::Arc, time::Duration};

use axum::{
    Json, Router,
    body::Body,
    extract::{Request, State},
    http::{HeaderMap, header},
    response::{IntoResponse, Response},
    routing::post,
};
use broker::{Message, PublishError, Publisher, Route, Stage};
use bytes::Bytes;
use crashpoint::crash_point;
use futures_util::future::join_all;
use hubspot::{
    signature::{SignatureHeaders, SignatureVerifier},
    webhook::{self, WebhookElement},
};
use serde_json::json;
use time::OffsetDateTime;
use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time::Instant,
};
use tracing::{Instrument, Span};

use crate::{
    body::{BodyError, BodyLimits},
    rejection::WebhookRejection,
};

/// How much the receiver takes.
#[derive(Debug, Clone, Copy)]
pub struct WebhookLimits {
    /// The most requests that are processed at the same time.
    pub max_in_flight: usize,
    /// The most bytes of bodies in memory.
    pub max_bytes_in_flight: usize,
    /// The most bytes of one body.
    pub max_body_bytes: usize,
    /// How long a body may take to arrive.
    pub read_timeout: Duration,
    /// After how many seconds HubSpot shall send a webhook again that was answered 503.
    pub retry_after_seconds: u64,
}

/// Processes webhooks.
pub struct WebhookHandler {
    verifier: SignatureVerifier,
    publisher: Publisher,
    requests: Semaphore,
    bytes: Semaphore,
    body_limits: BodyLimits,
    retry_after_seconds: u64,
}

/// The routes of the public listener: `POST /webhooks/hubspot`.
pub fn router(handler: Arc<WebhookHandler>) -> Router {
    Router::new().route("/webhooks/hubspot", post(receive)).with_state(handler)
}

/// Answers one webhook. 200 says that RabbitMQ has every event of it; after any other answer HubSpot sends it again.
async fn receive(State(handler): State<Arc<WebhookHandler>>, request: Request) -> Response {
    let started = Instant::now();
    let result = handler.process(request).await;
    let outcome = result.as_ref().map_or_else(WebhookRejection::outcome, |_| "accepted");
    metrics::counter!("leadline_webhooks_total", "outcome" => outcome).increment(1);
    metrics::histogram!("leadline_webhook_seconds", "outcome" => outcome).record(started.elapsed().as_secs_f64());
    match result {
        Ok(Published { accepted, parked }) => Json(json!({"accepted": accepted, "parked": parked})).into_response(),
        Err(rejection) => rejection.into_response(handler.retry_after_seconds),
    }
}

/// How many elements of a webhook are where.
struct Published {
    /// In the queue of events.
    accepted: usize,
    /// In the parking lot, because they are no events that Leadline knows.
    parked: usize,
}

impl WebhookHandler {
    /// A handler that accepts what `verifier` accepts and publishes with `publisher`.
    pub fn new(verifier: SignatureVerifier, publisher: Publisher, limits: WebhookLimits) -> Self {
        Self {
            verifier,
            publisher,
            requests: Semaphore::new(limits.max_in_flight),
            bytes: Semaphore::new(limits.max_bytes_in_flight),
            body_limits: BodyLimits { max_bytes: limits.max_body_bytes, read_timeout: limits.read_timeout },
            retry_after_seconds: limits.retry_after_seconds,
        }
    }

    async fn process(&self, request: Request) -> Result<Published, WebhookRejection> {
        let (head, body) = request.into_parts();
        let _admitted = match self.admit(&head.headers) {
            Ok(admitted) => admitted,
            Err(rejection) => {
                self.body_limits.discard(body).await;
                return Err(rejection);
            }
        };
        let body = self.read(body).await?;
        self.verify(head.method.as_str(), &head.headers, &body)?;
        let messages = split(&body)?;
        // While RabbitMQ confirms, only the messages are in memory.
        drop(body);
        crash_point!("receiver.before_publish");
        let published = self.publish(messages).await?;
        crash_point!("receiver.after_confirm");
        Ok(published)
    }

    /// Reserves a place and the memory for a request. Requests beyond the limits are rejected at once instead of queued:
    /// memory stays bounded, and HubSpot sends them again.
    fn admit(&self, headers: &HeaderMap) -> Result<(SemaphorePermit<'_>, SemaphorePermit<'_>), WebhookRejection> {
        let request = self
            .requests
            .try_acquire()
            .map_err(|_| WebhookRejection::Unavailable("too many requests at once".to_owned()))?;
        if !self.publisher.is_worth_trying() {
            return Err(WebhookRejection::Unavailable(PublishError::Unavailable.to_string()));
        }
        Ok((request, self.reserve_bytes(headers)?))
    }

    /// Reserves memory for a body: as much as the request announces, or else the maximum.
    fn reserve_bytes(&self, headers: &HeaderMap) -> Result<SemaphorePermit<'_>, WebhookRejection> {
        let announced = headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
        let max_bytes = self.body_limits.max_bytes;
        let length: usize = announced.unwrap_or(max_bytes);
        if length > max_bytes {
            return Err(WebhookRejection::TooLarge(max_bytes));
        }
        let bytes = u32::try_from(length).unwrap_or(u32::MAX);
        self.bytes
            .try_acquire_many(bytes)
            .map_err(|_| WebhookRejection::Unavailable("too many bytes at once".to_owned()))
    }

    async fn read(&self, body: Body) -> Result<Bytes, WebhookRejection> {
        self.body_limits.read(body).await.map_err(|error| match error {
            BodyError::TooLarge => WebhookRejection::TooLarge(self.body_limits.max_bytes),
            BodyError::Incomplete => WebhookRejection::Incomplete,
        })
    }

    fn verify(&self, method: &str, headers: &HeaderMap, body: &[u8]) -> Result<(), WebhookRejection> {
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let headers = SignatureHeaders {
            signature_v3: text("X-HubSpot-Signature-v3"),
            timestamp: text("X-HubSpot-Request-Timestamp"),
            signature: text("X-HubSpot-Signature"),
        };
        Ok(self.verifier.verify(method, headers, body, OffsetDateTime::now_utc())?)
    }

    /// Publishes every message and waits for all confirms together.
    async fn publish(&self, messages: Vec<OutgoingMessage>) -> Result<Published, WebhookRejection> {
        let confirms = messages.into_iter().map(|OutgoingMessage { route, message, span }| {
            let is_event = route == Route::Queue(Stage::Events);
            async move { self.publisher.publish(route, &message).await.map(|()| is_event) }.instrument(span)
        });
        let mut published = Published { accepted: 0, parked: 0 };
        let mut failure = None;
        for confirmed in join_all(confirms).await {
            match confirmed {
                Ok(true) => published.accepted += 1,
                Ok(false) => published.parked += 1,
                Err(error) => failure = Some(error),
            }
        }
        let Published { accepted, parked } = published;
        metrics::counter!("leadline_events_received_total", "outcome" => "accepted").increment(accepted as u64);
        metrics::counter!("leadline_events_received_total", "outcome" => "parked").increment(parked as u64);
        // HubSpot sends the events that were published again, too. The ledger recognises them by their keys.
        failure.map_or(Ok(published), |error| Err(WebhookRejection::Unavailable(error.to_string())))
    }
}

/// One element of a webhook, and where it goes.
struct OutgoingMessage {
    route: Route,
    message: Message,
    /// The root of the element's trace. Each event has a trace of its own, from here to the write.
    span: Span,
}

/// Splits a body into one message for each element: an event for the queue, anything else for the parking lot.
fn split(body: &[u8]) -> Result<Vec<OutgoingMessage>, WebhookRejection> {
    Ok(webhook::parse(body)?.into_iter().map(OutgoingMessage::of).collect())
}

impl OutgoingMessage {
    fn of(element: WebhookElement<'_>) -> Self {
        match element.event {
            Ok(event) => {
                let span = tracing::info_span!(parent: None, "event", key = %event.key);
                let body = serde_json::to_vec(&event).unwrap_or_else(|_| element.raw.as_bytes().to_vec());
                Self { route: Route::Queue(Stage::Events), message: Message::new(event.key.as_str(), body), span }
            }
            Err(rejection) => {
                let span = tracing::info_span!(parent: None, "rejected event");
                tracing::warn!(%rejection, "cannot read an element of a webhook; it goes to the parking lot");
                let message = Message::new(format!("rejected:{}", rejection.index), element.raw.as_bytes().to_vec())
                    .with_reason(rejection.reason, &rejection.to_string());
                Self { route: Route::Parked(Stage::Events), message, span }
            }
        }
    }
}
