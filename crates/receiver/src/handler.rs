//! Processes one webhook, in this order: head → body → verify → split → publish → confirm → 200.

use std::sync::Arc;

use axum::{
    Extension, Json, Router,
    extract::{Request, State},
    http::{HeaderMap, header, request::Parts},
    response::{IntoResponse, Response},
    routing::post,
};
use broker::{Message, PublishError, Publisher, Route, Stage};
use crashpoint::crash_point;
use futures_util::future::join_all;
use hubspot::{
    signature::{SignatureHeaders, SignatureVerifier, Verification},
    webhook::{BodyBounds, WebhookBody, WebhookBodyError, WebhookElement},
};
use serde_json::json;
use service::{Holding, LogLimit, Peer, PeerLimit};
use spans::messages;
use time::OffsetDateTime;
use tokio::{sync::Semaphore, time::Instant};
use tracing::{Instrument, Span};

use crate::{
    body::{BodyTime, IncomingBody},
    rejection::WebhookRejection,
};

/// How much the receiver takes.
#[derive(Debug, Clone, Copy)]
pub struct WebhookLimits {
    /// The most verified webhooks that are published at the same time.
    pub max_in_flight: usize,
    /// The most bytes of bodies in memory.
    pub max_bytes_in_flight: usize,
    /// The most of them that come from one peer.
    pub max_bytes_per_peer: usize,
    /// How much of one body arrives, and how much of it is kept.
    pub body: BodyBounds,
    /// How long a body may take to arrive.
    pub body_time: BodyTime,
    /// After how many seconds HubSpot shall send a webhook again that was answered 503.
    pub retry_after_seconds: u64,
}

/// Processes webhooks.
pub struct WebhookHandler {
    verifier: SignatureVerifier,
    publisher: Publisher,
    log: Arc<LogLimit>,
    places: Semaphore,
    bytes: Arc<PeerLimit>,
    limits: WebhookLimits,
}

/// The routes of the public listener: `POST /webhooks/hubspot`.
pub fn router(handler: Arc<WebhookHandler>) -> Router {
    Router::new().route("/webhooks/hubspot", post(receive)).with_state(handler)
}

/// Answers one webhook. 200 says that RabbitMQ has every event of it; after any other answer HubSpot sends it again.
async fn receive(
    State(handler): State<Arc<WebhookHandler>>,
    Extension(peer): Extension<Peer>,
    request: Request,
) -> Response {
    let started = Instant::now();
    let result = handler.process(request, peer).await;
    let outcome = result.as_ref().map_or_else(WebhookRejection::outcome, |_| "accepted");
    metrics::counter!("leadline_webhooks_total", "outcome" => outcome).increment(1);
    metrics::histogram!("leadline_webhook_seconds", "outcome" => outcome).record(started.elapsed().as_secs_f64());
    match result {
        Ok(Published { accepted, parked }) => Json(json!({"accepted": accepted, "parked": parked})).into_response(),
        Err(rejection) => {
            if let Some(left_out) = handler.log.admit(outcome) {
                tracing::warn!(status = rejection.status().as_u16(), why = %rejection, left_out, "rejected a webhook");
            }
            rejection.into_response(handler.limits.retry_after_seconds)
        }
    }
}

/// How many elements of a webhook are where.
struct Published {
    /// In the queue of events.
    accepted: usize,
    /// In the parking lot, because they are no events that Leadline knows.
    parked: usize,
}

/// A webhook that HubSpot has signed, and the memory that it takes.
struct Verified {
    body: WebhookBody,
    memory: Holding,
}

impl WebhookHandler {
    /// A handler that accepts what `verifier` accepts and publishes with `publisher`. `log` bounds the lines about what is
    /// rejected.
    pub fn new(verifier: SignatureVerifier, publisher: Publisher, log: Arc<LogLimit>, limits: WebhookLimits) -> Self {
        Self {
            verifier,
            publisher,
            log,
            places: Semaphore::new(limits.max_in_flight),
            bytes: PeerLimit::new(limits.max_bytes_in_flight, limits.max_bytes_per_peer),
            limits,
        }
    }

    /// What it verifies webhooks with.
    pub fn verifier(&self) -> &SignatureVerifier {
        &self.verifier
    }

    async fn process(&self, request: Request, peer: Peer) -> Result<Published, WebhookRejection> {
        let (head, body) = request.into_parts();
        let mut incoming = IncomingBody::new(body, self.limits.body_time);
        let verified = match self.look_at_head(&head) {
            Ok(verification) => self.take_body(verification, &mut incoming, peer).await,
            Err(rejection) => Err(rejection),
        };
        if verified.is_err() {
            incoming.drain(self.limits.body.max_bytes);
        }
        let Verified { body, memory } = verified?;
        let messages = self.split(&body)?;
        // While RabbitMQ confirms, only the messages are in memory: about as much.
        drop(body);
        // Only what HubSpot has signed takes a place. Requests beyond the limit are rejected at once instead of queued: memory
        // stays bounded, and HubSpot sends them again.
        let _place =
            self.places.try_acquire().map_err(|_| WebhookRejection::unavailable("too many requests at once"))?;
        crash_point!("receiver.before_publish");
        let published = self.publish(messages).await?;
        crash_point!("receiver.after_confirm");
        drop(memory);
        Ok(published)
    }

    /// What the head of a request shows, before anything is reserved for its body: whether it can be HubSpot's, whether it
    /// announces too much, and whether there is a broker to publish to.
    fn look_at_head<'a>(&self, head: &'a Parts) -> Result<Verification<'a>, WebhookRejection> {
        let text = |name: &str| head.headers.get(name).and_then(|value| value.to_str().ok());
        let headers = SignatureHeaders {
            signature_v3: text("X-HubSpot-Signature-v3"),
            timestamp: text("X-HubSpot-Request-Timestamp"),
            signature: text("X-HubSpot-Signature"),
        };
        let now = OffsetDateTime::now_utc();
        let verification = self.verifier.begin(head.method.as_str(), head.uri.query(), headers, now)?;
        let max_bytes = self.limits.body.max_bytes;
        if announced_length(&head.headers).is_some_and(|length| length > max_bytes) {
            return Err(WebhookRejection::TooLarge(WebhookBodyError::TooLong(max_bytes)));
        }
        if !self.publisher.is_worth_trying() {
            return Err(WebhookRejection::unavailable(PublishError::Unavailable));
        }
        Ok(verification)
    }

    /// Takes the body as it arrives, counts what is kept of it, and verifies it.
    async fn take_body(
        &self,
        mut verification: Verification<'_>,
        incoming: &mut IncomingBody,
        peer: Peer,
    ) -> Result<Verified, WebhookRejection> {
        let (mut body, mut memory) = (WebhookBody::new(self.limits.body), self.bytes.holding(peer));
        while let Some(chunk) = incoming.next().await? {
            // It may have been found out meanwhile that there is no broker to publish to.
            if !self.publisher.is_worth_trying() {
                return Err(WebhookRejection::unavailable(PublishError::Unavailable));
            }
            let kept = body.kept_bytes();
            verification.update(&chunk);
            body.push(&chunk)?;
            memory.take(body.kept_bytes().saturating_sub(kept))?;
        }
        verification.finish()?;
        Ok(Verified { body, memory })
    }

    /// Splits a body into one message for each element: an event for the queue, anything else for the parking lot.
    fn split(&self, body: &WebhookBody) -> Result<Vec<OutgoingMessage>, WebhookRejection> {
        Ok(body.elements()?.into_iter().map(|element| OutgoingMessage::of(element, &self.log)).collect())
    }

    /// Publishes every message and waits for all confirms together.
    async fn publish(&self, messages: Vec<OutgoingMessage>) -> Result<Published, WebhookRejection> {
        let confirms = messages.into_iter().map(|OutgoingMessage { route, message, span }| {
            let is_event = matches!(route, Route::Queue(_));
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
        failure.map_or(Ok(published), |error| Err(WebhookRejection::unavailable(error)))
    }
}

/// One element of a webhook, and where it goes.
struct OutgoingMessage {
    route: Route,
    message: Message,
    /// The root of the element's trace. Each event has a trace of its own, from here to the write.
    span: Span,
}

/// How many bytes a request announces.
fn announced_length(headers: &HeaderMap) -> Option<usize> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

impl OutgoingMessage {
    fn of(element: WebhookElement, log: &LogLimit) -> Self {
        match element.event {
            Ok(event) => {
                let key = event.key.as_str();
                let span = messages::event(key);
                let message = Message::of(key, &event).unwrap_or_else(|_| Message::new(key, element.raw.into_bytes()));
                Self { route: Route::Queue(Stage::of_event(&event.key)), message, span }
            }
            Err(rejection) => {
                let span = messages::rejected_event();
                if let Some(left_out) = log.admit("element") {
                    tracing::warn!(%rejection, left_out, "cannot read an element of a webhook; it goes to the parking lot");
                }
                let message = Message::new(format!("rejected:{}", rejection.index), element.raw.into_bytes())
                    .with_reason(rejection.reason, &rejection.to_string());
                Self { route: Route::Parked(Stage::Events), message, span }
            }
        }
    }
}
