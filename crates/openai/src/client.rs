//! The path of every call: permit, connection, authentication, timeout, metrics, classification, retries.

use std::{
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use http_client::{BodyError, MAX_NAME, TrustError, json_error_position, read_body, retry_after, shortened};
use reqwest::{
    Body, RequestBuilder, Url,
    header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, InvalidHeaderValue},
};
use retry::{CallHooks, Failure, QuotaReport, Reason, RetryAction, RetryPolicy, SharedRateLimiter};
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;
use spans::Server;
use time::Date;
use tracing::Instrument;
use uuid::Uuid;

use crate::{
    ModelApi,
    api_error::OpenAiApiError,
    chat::{self, ChatRequest, Completion},
    connections::{ConnectionSharing, Connections, SharedConnection},
    error::OpenAiError,
    lenient,
    models::parse_day,
    responses, traced,
};

/// How the client calls OpenAI or a gateway to it.
#[derive(Debug, Clone)]
pub struct OpenAiSettings {
    /// `https://api.openai.com/v1`, a gateway, or the simulator.
    pub base_url: String,
    /// The API through which models are asked.
    pub api: ModelApi,
    /// The path of that API, appended to the base URL.
    pub path: String,
    /// How the client authenticates.
    pub credentials: OpenAiCredentials,
    /// The timeout of one attempt, from connecting to the last byte. An answer may take minutes.
    pub timeout: Duration,
    /// How often failed attempts are repeated within the process.
    pub retry: RetryPolicy,
    /// Longer answers are an error.
    pub max_response_bytes: usize,
    /// How connections are made, and how requests share them.
    pub connections: ConnectionSharing,
    /// The observer and the rate limiter of every attempt of a chat completion.
    pub hooks: CallHooks,
}

/// How the client authenticates.
#[derive(Debug, Clone)]
pub struct OpenAiCredentials {
    /// The header with the key: `authorization`, where the key is sent as a bearer token, or another one, where it is
    /// sent alone.
    pub header: String,
    /// The API key.
    pub api_key: SecretString,
    /// The value of the header `OpenAI-Organization`, if it is sent.
    pub organization: Option<String>,
    /// The value of the header `OpenAI-Project`, if it is sent.
    pub project: Option<String>,
}

/// Why a client cannot be created.
#[derive(Debug, thiserror::Error)]
pub enum OpenAiSetupError {
    /// A setting is not a valid header name or value.
    #[error("openai.auth_header or openai.api_key cannot be sent as an HTTP header")]
    Header,
    /// The address is none.
    #[error("openai.base_url with openai.path is no URL")]
    Url,
    /// It cannot be said whom to trust.
    #[error(transparent)]
    Trust(#[from] TrustError),
    /// The HTTP client cannot be set up.
    #[error(transparent)]
    Http(#[from] reqwest::Error),
}

impl From<InvalidHeaderValue> for OpenAiSetupError {
    fn from(_: InvalidHeaderValue) -> Self {
        Self::Header
    }
}

/// The header by which OpenAI lets a client name its requests (OpenAI's API reference, "Debugging requests").
const CLIENT_REQUEST_ID: &str = "x-client-request-id";

/// Tells one request from all others, also to OpenAI's support, and remembers whether it was sent.
#[derive(Debug)]
pub struct RequestTag {
    id: Uuid,
    /// Whether something was asked before for the same reason, with whatever success.
    is_repeat: bool,
    was_sent: AtomicBool,
}

impl RequestTag {
    /// The tag of the request `id`.
    pub fn new(id: Uuid) -> Self {
        Self { id, is_repeat: false, was_sent: AtomicBool::new(false) }
    }

    /// The tag of a request that is not the first one about the same event.
    #[must_use]
    pub fn repeated(self) -> Self {
        Self { is_repeat: true, ..self }
    }

    /// Whether the request was or is about to be sent, so that it may be billed.
    pub fn was_sent(&self) -> bool {
        self.was_sent.load(Ordering::Relaxed)
    }
}

/// What OpenAI says about a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ModelDescription {
    /// The first day on which it no longer answers, if that is known.
    pub shutdown_date: Option<Date>,
}

/// The longest wait that is obeyed, as in OpenAI's own clients: gateways answer a day. After it, another request finds out.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// The wait after a 429 without `Retry-After`.
const RATE_LIMIT_WAIT: Duration = Duration::from_secs(1);

/// A client of one OpenAI project. Cheap to clone; all clones share connections.
#[derive(Debug, Clone)]
pub struct OpenAiClient {
    connections: Connections,
    settings: OpenAiSettings,
    /// Where questions go, parsed once for all of them.
    url: Url,
    /// Whom traces and metrics name.
    server: Option<Server>,
    /// The header with the key, and its value now: at first that of the settings.
    key: (HeaderName, Arc<RwLock<HeaderValue>>),
}

impl OpenAiClient {
    /// A client with these settings.
    ///
    /// # Errors
    /// The address is no URL, a credential cannot be sent as a header, or TLS cannot be set up.
    pub fn new(settings: OpenAiSettings) -> Result<Self, OpenAiSetupError> {
        let credentials = &settings.credentials;
        let name: HeaderName = credentials.header.parse().map_err(|_| OpenAiSetupError::Header)?;
        let value = key_header(&name, &credentials.api_key)?;
        let mut headers = HeaderMap::new();
        for (name, value) in
            [("openai-organization", &credentials.organization), ("openai-project", &credentials.project)]
        {
            if let Some(value) = value {
                headers.insert(HeaderName::from_static(name), HeaderValue::from_str(value)?);
            }
        }
        let connections = Connections::new(settings.connections.clone(), settings.timeout, headers)?;
        let url = format!("{}{}", settings.base_url.trim_end_matches('/'), settings.path);
        let url = url.parse().map_err(|_| OpenAiSetupError::Url)?;
        let server = Server::of(&settings.base_url);
        Ok(Self { connections, settings, url, server, key: (name, Arc::new(RwLock::new(value))) })
    }

    /// From now on, requests of this client and its clones carry another key.
    ///
    /// # Errors
    /// It cannot be sent as a header; the one before stays.
    pub fn replace_api_key(&self, key: &SecretString) -> Result<(), OpenAiSetupError> {
        let (name, current) = &self.key;
        let value = key_header(name, key)?;
        *current.write().unwrap_or_else(PoisonError::into_inner) = value;
        Ok(())
    }

    /// The request with the key.
    fn with_key(&self, request: RequestBuilder) -> RequestBuilder {
        let (name, current) = &self.key;
        let value = current.read().unwrap_or_else(PoisonError::into_inner).clone();
        request.header(name, value)
    }

    /// The same client with another rate limiter.
    #[must_use]
    pub fn with_rate_limiter(&self, rate_limiter: SharedRateLimiter) -> Self {
        let mut client = self.clone();
        client.settings.hooks.rate_limiter = Some(rate_limiter);
        client
    }

    /// How often a request is to be repeated within the process, and after which pauses.
    pub fn retry_policy(&self) -> &RetryPolicy {
        &self.settings.retry
    }

    /// Sends a request once, as `tag`, after the rate limiter's permit. OpenAI has no idempotency key, so a request whose
    /// answer was lost is billed, and billed again when it is repeated.
    ///
    /// # Errors
    /// Why there is no answer. [`OpenAiError::may_be_billed`] says whether it may cost something all the same.
    pub async fn complete_once(&self, request: &ChatRequest, tag: &RequestTag) -> Result<Completion, OpenAiError> {
        let permit = match &self.settings.hooks.rate_limiter {
            Some(rate_limiter) => {
                Some((rate_limiter, rate_limiter.acquire(&request.model, request.reserved_tokens()).await?))
            }
            None => None,
        };
        let started = Instant::now();
        let mut reports = [None; 2];
        let span = traced::span(request, self.settings.api, self.server.as_ref());
        let observer = self.settings.hooks.observer.as_ref().map(|observer| (observer, observer.credential()));
        let result = self.send(request, tag, &mut reports).instrument(span.clone()).await;
        traced::record(&span, (request, self.server.as_ref()), &result, started.elapsed());
        let outcome = result.as_ref().map_or_else(|error| error.reason().as_str(), |_| "ok");
        if let Some((rate_limiter, permit)) = permit {
            match result.as_ref().map_err(|error| (error.reason(), error.retry_action())) {
                Err((Reason::OpenAiRateLimited, RetryAction::RateLimited { after })) => {
                    rate_limiter.record_rejection(permit, reports, after.unwrap_or(RATE_LIMIT_WAIT));
                }
                Ok(completion) => {
                    rate_limiter.record_answer(permit, reports, completion.usage.map(|usage| usage.total()));
                }
                // A request that is too long is not counted, and a shorter one is about to follow.
                Err((Reason::ContextTooLong, _)) => rate_limiter.record_answer(permit, reports, Some(0)),
                Err(_) => rate_limiter.record_answer(permit, reports, None),
            }
        }
        // Whatever one event brings about, it is no outage by itself: of its answers that are no JSON, one counts.
        let is_told = !tag.is_repeat || !matches!(result, Err(OpenAiError::NotJson));
        if let Some((observer, with)) = observer.filter(|_| is_told) {
            observer.record(with, result.as_ref().err().map(|error| error as &dyn Failure));
        }
        metrics::counter!("leadline_openai_calls_total", "model" => request.model.clone(), "outcome" => outcome)
            .increment(1);
        metrics::histogram!("leadline_openai_call_seconds", "model" => request.model.clone())
            .record(started.elapsed().as_secs_f64());
        result
    }

    /// Checks the key and the model without a billed request: reads the description of the model.
    ///
    /// # Errors
    /// The key is invalid (401), the model is unknown (404), or the call fails.
    pub async fn describe(&self, model: &str) -> Result<ModelDescription, OpenAiError> {
        let url = format!("{}/models/{model}", self.settings.base_url.trim_end_matches('/'));
        let connection = self.connection()?;
        let response =
            self.with_key(connection.http().get(url)).send().await.map_err(|error| self.transport_error(error))?;
        if !response.status().is_success() {
            return Err(OpenAiError::Api(self.api_error(response).await));
        }
        // Compatible servers describe their models in other ways, or not at all.
        let body = lenient::json(&self.read(response).await?).unwrap_or_default();
        Ok(ModelDescription { shutdown_date: body["shutdown_date"].as_str().and_then(parse_day) })
    }

    async fn send(
        &self,
        request: &ChatRequest,
        tag: &RequestTag,
        reports: &mut [Option<QuotaReport>; 2],
    ) -> Result<Completion, OpenAiError> {
        let started = Instant::now();
        let connection = self.connection()?;
        // Sent as a stream, so that reqwest keeps no copy for redirects and retries while thousands of requests wait.
        let body = Body::wrap(match self.settings.api {
            ModelApi::ChatCompletions => request.body(),
            ModelApi::Responses => responses::body(request),
        });
        let post = self.with_key(connection.http().post(self.url.clone())).header(CONTENT_TYPE, "application/json");
        let post = post.header(CLIENT_REQUEST_ID, tag.id.to_string()).body(body);
        tag.was_sent.store(true, Ordering::Relaxed);
        // What follows is boxed: thousands of requests wait here, and do not need its memory.
        let response = post.send().await.map_err(|error| self.transport_error(error))?;
        *reports = QUOTA_HEADERS.map(|names| quota_report(response.headers(), names));
        if !response.status().is_success() {
            let mut error = Box::pin(self.api_error(response)).await;
            error.never_fits = never_fits(request, &error, reports[1]);
            return Err(OpenAiError::Api(error));
        }
        let request_id = text(response.headers(), "x-request-id");
        let body = Box::pin(self.json_answer(response)).await?;
        let read = match self.settings.api {
            ModelApi::ChatCompletions => chat::read,
            ModelApi::Responses => responses::read,
        };
        read(&body, request, request_id, started.elapsed())
    }

    /// The body of an answer of success, as JSON. It is neither a stream nor an error.
    async fn json_answer(&self, response: reqwest::Response) -> Result<Value, OpenAiError> {
        let media_type = text(response.headers(), CONTENT_TYPE.as_str());
        let body = self.read(response).await?;
        if lenient::is_event_stream(media_type.as_deref(), &body) {
            return Err(OpenAiError::EventStream);
        }
        let body = lenient::json(&body).map_err(|error| match body.trim_ascii_start().first() {
            Some(b'{' | b'[') => OpenAiError::Unreadable(json_error_position(&error)),
            _ => OpenAiError::NotJson,
        })?;
        OpenAiApiError::within(&body).map_or(Ok(body), Err)
    }

    fn connection(&self) -> Result<SharedConnection, OpenAiError> {
        self.connections.pick().map_err(|error| self.transport_error(error))
    }

    async fn api_error(&self, response: reqwest::Response) -> Box<OpenAiApiError> {
        let status = response.status().as_u16();
        let retry_after = retry_after(response.headers()).map(|wait| wait.min(LONGEST_WAIT));
        let should_retry = text(response.headers(), "x-should-retry").and_then(|text| text.parse().ok());
        let request_id = text(response.headers(), "x-request-id");
        let body = self.read(response).await.unwrap_or_default();
        Box::new(OpenAiApiError {
            http_status: status,
            retry_after,
            should_retry,
            request_id,
            ..OpenAiApiError::read(&body)
        })
    }

    async fn read(&self, response: reqwest::Response) -> Result<Vec<u8>, OpenAiError> {
        read_body(response, self.settings.max_response_bytes).await.map_err(|error| match error {
            BodyError::Transport(error) => self.transport_error(error),
            BodyError::TooLong(_) | BodyError::Compressed(_) => OpenAiError::Unreadable(error.to_string()),
        })
    }

    fn transport_error(&self, error: reqwest::Error) -> OpenAiError {
        if error.is_timeout() && !error.is_connect() {
            OpenAiError::TimedOut(self.settings.timeout)
        } else {
            OpenAiError::Connection(error.without_url())
        }
    }
}

fn key_header(name: &HeaderName, key: &SecretString) -> Result<HeaderValue, OpenAiSetupError> {
    let key = key.expose_secret();
    let value = if name == reqwest::header::AUTHORIZATION { format!("Bearer {key}") } else { key.to_owned() };
    let mut value = HeaderValue::from_str(&value)?;
    value.set_sensitive(true);
    Ok(value)
}

/// Whether a request that was rejected for its tokens fits the limit at no time: the limit is smaller than the request, or none
/// of it was used up. OpenAI answers both as any other rate limit, and says the difference in words alone.
fn never_fits(request: &ChatRequest, error: &OpenAiApiError, tokens: Option<QuotaReport>) -> bool {
    let is_about = |what: &str| error.kind.as_deref() == Some(what);
    tokens.is_some_and(|tokens| {
        let is_smaller = tokens.quota() < request.reserved_tokens() && !is_about("requests");
        is_smaller || (tokens.remaining() == tokens.quota() && is_about("tokens"))
    })
}

/// The headers that say how many requests, and how many tokens, OpenAI allows and has left (OpenAI's guide to rate limits).
const QUOTA_HEADERS: [[&str; 2]; 2] = [
    ["x-ratelimit-limit-requests", "x-ratelimit-remaining-requests"],
    ["x-ratelimit-limit-tokens", "x-ratelimit-remaining-tokens"],
];

/// The quota that two headers tell; `None` when they are missing or say nothing, as behind many gateways.
fn quota_report(headers: &HeaderMap, [limit, remaining]: [&str; 2]) -> Option<QuotaReport> {
    let number = |name: &str| headers.get(name)?.to_str().ok()?.parse().ok();
    QuotaReport::new(number(limit)?, number(remaining)?)
}

fn text(headers: &HeaderMap, name: &str) -> Option<String> {
    headers.get(name)?.to_str().ok().map(|value| shortened(value, MAX_NAME))
}
