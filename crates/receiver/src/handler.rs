//! The handler of a webhook: read → verify → split → publish → confirm → 200.

use std::{sync::Arc, time::Duration};

use axum::{
    Json, Router,
    body::Body,
    extract::{Request, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::post,
};
use broker::{Message, PublishError, Publisher, Route, Stage};
use bytes::Bytes;
use crashpoint::crash_point;
use futures_util::{StreamExt, future::join_all};
use hubspot::{
    signature::{SignatureError, SignatureHeaders, SignatureVerifier},
    webhook::{self, WebhookBodyError, WebhookElement},
};
use serde_json::json;
use settings::{Settings, SignatureVersion};
use time::OffsetDateTime;
use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time::Instant,
};
use tracing::{Instrument, Span};

/// What a webhook meets on its handler.
pub struct WebhookHandler {
    verifier: SignatureVerifier,
    publisher: Publisher,
    slots: Semaphore,
    /// Bytes of bodies that may be in memory together.
    bytes: Semaphore,
    max_body_bytes: usize,
    read_timeout: Duration,
    retry_after: String,
}

/// Why a webhook is not taken.
enum WebhookRejection {
    /// Too many requests at once, or the broker does not have every event: HubSpot sends the batch again.
    Unavailable(String),
    /// Not HubSpot's, or not for us.
    Unsigned(SignatureError),
    /// No array of events.
    Unreadable(WebhookBodyError),
    /// A longer body than we take.
    TooLarge(usize),
    /// The body did not come in time, or not whole.
    Incomplete,
}

pub fn router(handler: Arc<WebhookHandler>) -> Router {
    Router::new().route("/webhooks/hubspot", post(receive)).with_state(handler)
}

/// Takes one webhook. 200 says that RabbitMQ has every event of it; anything else makes HubSpot send it again.
async fn receive(State(handler): State<Arc<WebhookHandler>>, request: Request) -> Response {
    let started = Instant::now();
    let result = handler.take(request).await;
    let outcome = result.as_ref().map_or_else(WebhookRejection::outcome, |_| "accepted");
    metrics::counter!("leadline_webhooks_total", "outcome" => outcome).increment(1);
    metrics::histogram!("leadline_webhook_seconds", "outcome" => outcome).record(started.elapsed().as_secs_f64());
    match result {
        Ok(taken) => Json(json!({"accepted": taken.accepted, "parked": taken.parked})).into_response(),
        Err(rejection) => rejection.into_response(&handler.retry_after),
    }
}

struct Taken {
    accepted: usize,
    parked: usize,
}

impl WebhookHandler {
    pub fn new(settings: &Settings, publisher: Publisher) -> Result<Self, String> {
        let (hubspot, receiver) = (&settings.hubspot, &settings.receiver);
        let secrets = [&hubspot.client_secret, &hubspot.client_secret_previous];
        let public_url = receiver.public_url.as_deref().ok_or("receiver.public_url is not set")?;
        let accepts = |version| hubspot.signature_versions.contains(&version);
        Ok(Self {
            verifier: SignatureVerifier::new(
                secrets.into_iter().flatten().cloned().collect(),
                public_url,
                accepts(SignatureVersion::V1),
                accepts(SignatureVersion::V2),
            ),
            publisher,
            slots: Semaphore::new(receiver.max_in_flight),
            bytes: Semaphore::new(receiver.max_bytes_in_flight),
            max_body_bytes: receiver.max_body_bytes,
            read_timeout: Duration::from_millis(receiver.read_timeout_ms),
            retry_after: receiver.retry_after_seconds.to_string(),
        })
    }

    async fn take(&self, request: Request) -> Result<Taken, WebhookRejection> {
        // Refusing at once is better than queueing: memory stays bounded, and HubSpot comes back.
        let (head, body) = request.into_parts();
        let _admitted = match self.admit(&head.headers) {
            Ok(admitted) => admitted,
            Err(rejection) => {
                self.discard(body).await;
                return Err(rejection);
            }
        };
        let body = self.read(body).await?;
        self.verify(head.method.as_str(), &head.headers, &body)?;
        let elements = webhook::parse(&body).map_err(WebhookRejection::Unreadable)?;
        let messages = elements.into_iter().map(OutgoingMessage::of).collect();
        // While confirms are waited for, the messages alone are in memory.
        drop(body);
        crash_point!("receiver.before_publish");
        let taken = self.publish(messages).await?;
        crash_point!("receiver.after_confirm");
        Ok(taken)
    }

    /// Whether there is room for a request, and any hope for it.
    fn admit(&self, headers: &HeaderMap) -> Result<(SemaphorePermit<'_>, SemaphorePermit<'_>), WebhookRejection> {
        let slot = self
            .slots
            .try_acquire()
            .map_err(|_| WebhookRejection::Unavailable("too many requests at once".to_owned()))?;
        if !self.publisher.is_worth_trying() {
            return Err(WebhookRejection::Unavailable(PublishError::Unavailable.to_string()));
        }
        Ok((slot, self.room(headers)?))
    }

    /// Reads a body without keeping it: a client that is still sending sees a broken connection instead of an answer.
    async fn discard(&self, body: Body) {
        let mut chunks = body.into_data_stream();
        let mut left = self.max_body_bytes;
        let reading = async {
            while let Some(Ok(chunk)) = chunks.next().await {
                let Some(less) = left.checked_sub(chunk.len()) else { return };
                left = less;
            }
        };
        // Whoever dawdles is cut off, here too.
        let _ = tokio::time::timeout(self.read_timeout, reading).await;
    }

    /// Room in memory for a body: as much as it announces, or as much as it may have at most.
    fn room(&self, headers: &HeaderMap) -> Result<SemaphorePermit<'_>, WebhookRejection> {
        let announced = headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
        let length: usize = announced.unwrap_or(self.max_body_bytes);
        if length > self.max_body_bytes {
            return Err(WebhookRejection::TooLarge(self.max_body_bytes));
        }
        let bytes = u32::try_from(length).unwrap_or(u32::MAX);
        self.bytes
            .try_acquire_many(bytes)
            .map_err(|_| WebhookRejection::Unavailable("too many bytes at once".to_owned()))
    }

    async fn read(&self, body: Body) -> Result<Bytes, WebhookRejection> {
        match tokio::time::timeout(self.read_timeout, axum::body::to_bytes(body, self.max_body_bytes)).await {
            Ok(Ok(body)) => Ok(body),
            // `to_bytes` has one error for a body that is too long and one that broke off.
            Ok(Err(error)) if error.to_string().contains("length limit") => {
                Err(WebhookRejection::TooLarge(self.max_body_bytes))
            }
            Ok(Err(_)) | Err(_) => Err(WebhookRejection::Incomplete),
        }
    }

    fn verify(&self, method: &str, headers: &HeaderMap, body: &[u8]) -> Result<(), WebhookRejection> {
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let headers = SignatureHeaders {
            signature_v3: text("X-HubSpot-Signature-v3"),
            timestamp: text("X-HubSpot-Request-Timestamp"),
            signature: text("X-HubSpot-Signature"),
        };
        self.verifier.verify(method, headers, body, OffsetDateTime::now_utc()).map_err(WebhookRejection::Unsigned)
    }

    /// Publishes every event, and what cannot be understood to the parking lot, and waits for all confirms together.
    async fn publish(&self, messages: Vec<OutgoingMessage>) -> Result<Taken, WebhookRejection> {
        let confirms = messages.into_iter().map(|OutgoingMessage { route, message, span }| {
            let is_event = route == Route::Queue(Stage::Events);
            async move { self.publisher.publish(route, &message).await.map(|()| is_event) }.instrument(span)
        });
        let mut taken = Taken { accepted: 0, parked: 0 };
        let mut failure = None;
        for confirmed in join_all(confirms).await {
            match confirmed {
                Ok(true) => taken.accepted += 1,
                Ok(false) => taken.parked += 1,
                Err(error) => failure = Some(error),
            }
        }
        metrics::counter!("leadline_events_received_total", "outcome" => "accepted").increment(taken.accepted as u64);
        metrics::counter!("leadline_events_received_total", "outcome" => "parked").increment(taken.parked as u64);
        // What is on the queue already will come twice; the ledger knows it by its key.
        failure.map_or(Ok(taken), |error| Err(WebhookRejection::Unavailable(error.to_string())))
    }
}

/// One element of a webhook, on its handler to a queue.
struct OutgoingMessage {
    route: Route,
    message: Message,
    /// One trace per event, not per request: it begins here and ends with the write.
    span: Span,
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
                tracing::warn!(%rejection, "an event cannot be understood; parked");
                let message = Message::new(format!("rejected:{}", rejection.index), element.raw.as_bytes().to_vec())
                    .with_reason(rejection.reason, &rejection.to_string());
                Self { route: Route::Parked(Stage::Events), message, span }
            }
        }
    }
}

impl WebhookRejection {
    fn outcome(&self) -> &'static str {
        match self {
            Self::Unavailable(_) => "unavailable",
            Self::Unsigned(_) => "bad_signature",
            Self::Unreadable(_) => "unreadable",
            Self::TooLarge(_) => "too_large",
            Self::Incomplete => "incomplete",
        }
    }

    fn into_response(self, retry_after: &str) -> Response {
        let (status, message) = match &self {
            Self::Unavailable(why) => (StatusCode::SERVICE_UNAVAILABLE, why.clone()),
            Self::Unsigned(error) => (StatusCode::UNAUTHORIZED, error.to_string()),
            Self::Unreadable(error) => (StatusCode::BAD_REQUEST, error.to_string()),
            Self::TooLarge(max) => (StatusCode::PAYLOAD_TOO_LARGE, format!("the body is longer than {max} bytes")),
            Self::Incomplete => (StatusCode::REQUEST_TIMEOUT, "the body did not come whole and in time".to_owned()),
        };
        tracing::warn!(status = status.as_u16(), why = message, "refused a webhook");
        let mut response = (status, Json(json!({"error": self.outcome(), "message": message}))).into_response();
        if status == StatusCode::SERVICE_UNAVAILABLE
            && let Ok(value) = retry_after.parse()
        {
            response.headers_mut().insert(header::RETRY_AFTER, value);
        }
        response
    }
}
