//! One call: authenticated, timed out, retried, measured, classified.

use std::time::{Duration, Instant};

use http_client::{BodyError, json_error_position, read_body, retry_after};
use reqwest::{
    Body,
    header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, InvalidHeaderValue},
};
use retry::{CallHooks, Failure, QuotaReport, Reason, RetryAction, RetryPolicy, SharedRateLimiter};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;

use crate::{
    chat::{ChatRequest, ChatResponse, Completion},
    connections::{ConnectionSharing, Connections, SharedConnection},
    error::{OpenAiApiError, OpenAiError},
};

/// How OpenAI, or a gateway to it, is called.
#[derive(Debug, Clone)]
pub struct OpenAiSettings {
    /// `https://api.openai.com/v1`, a gateway, or the simulator.
    pub base_url: String,
    /// Appended to the base URL for a chat completion.
    pub chat_path: String,
    /// `authorization` (the key is sent as a bearer token) or another header (the key is sent as it is).
    pub auth_header: String,
    /// The key.
    pub api_key: SecretString,
    /// `OpenAI-Organization`, if set.
    pub organization: Option<String>,
    /// `OpenAI-Project`, if set.
    pub project: Option<String>,
    /// For one try, from connecting to the last byte. OpenAI may take minutes.
    pub timeout: Duration,
    /// Tries within the process.
    pub retry: RetryPolicy,
    /// A longer answer is refused.
    pub max_response_bytes: usize,
    /// How its connections are shared.
    pub connections: ConnectionSharing,
    /// Who sees how every try of a question ends, and who gives it leave.
    pub hooks: CallHooks,
}

/// Why a client cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum OpenAiSetupError {
    /// A setting is no header.
    #[error("openai.auth_header or openai.api_key cannot be sent as an HTTP header")]
    Header,
    /// TLS.
    #[error(transparent)]
    Http(#[from] reqwest::Error),
}

impl From<InvalidHeaderValue> for OpenAiSetupError {
    fn from(_: InvalidHeaderValue) -> Self {
        Self::Header
    }
}

/// How long a 429 without `Retry-After` is waited out.
const RATE_LIMIT_WAIT: Duration = Duration::from_secs(1);

/// A client of one OpenAI project. Cheap to clone; all clones share connections.
#[derive(Debug, Clone)]
pub struct OpenAiClient {
    connections: Connections,
    settings: OpenAiSettings,
}

impl OpenAiClient {
    /// A client for `settings`.
    pub fn new(settings: OpenAiSettings) -> Result<Self, OpenAiSetupError> {
        let name: HeaderName = settings.auth_header.parse().map_err(|_| OpenAiSetupError::Header)?;
        let key = settings.api_key.expose_secret();
        let value = if name == reqwest::header::AUTHORIZATION { format!("Bearer {key}") } else { key.to_owned() };
        let mut value = HeaderValue::from_str(&value)?;
        value.set_sensitive(true);
        let mut headers = HeaderMap::from_iter([(name, value)]);
        for (name, value) in [("openai-organization", &settings.organization), ("openai-project", &settings.project)] {
            if let Some(value) = value {
                headers.insert(HeaderName::from_static(name), HeaderValue::from_str(value)?);
            }
        }
        let connections = Connections::new(settings.connections, settings.timeout, headers)?;
        Ok(Self { connections, settings })
    }

    /// The same client, whose questions need another one's leave.
    #[must_use]
    pub fn with_rate_limiter(&self, rate_limiter: SharedRateLimiter) -> Self {
        let mut client = self.clone();
        client.settings.hooks.rate_limiter = Some(rate_limiter);
        client
    }

    /// Asks until there is an answer or the policy is used up. OpenAI does not deduplicate: an answer that was not
    /// stored is paid for again.
    pub async fn complete(&self, request: &ChatRequest) -> Result<Completion, OpenAiError> {
        retry::run(&self.settings.retry, || async {
            let permit = match &self.settings.hooks.rate_limiter {
                Some(rate_limiter) => {
                    Some((rate_limiter, rate_limiter.acquire(&request.model, request.reserves()).await?))
                }
                None => None,
            };
            let started = Instant::now();
            let mut said = [None; 2];
            let result = self.complete_once(request, &mut said).await;
            let outcome = result.as_ref().map_or_else(|error| error.reason().as_str(), |_| "ok");
            if let Some((rate_limiter, permit)) = permit {
                match result.as_ref().map_err(|error| (error.reason(), error.retry_action())) {
                    Err((Reason::OpenAiRateLimited, RetryAction::RateLimited { after })) => {
                        rate_limiter.record_rejection(permit, said, after.unwrap_or(RATE_LIMIT_WAIT));
                    }
                    Ok(completion) => rate_limiter.record_answer(permit, said, Some(completion.usage.total())),
                    Err(_) => rate_limiter.record_answer(permit, said, None),
                }
            }
            if let Some(observer) = &self.settings.hooks.observer {
                observer.record(result.as_ref().err().map(|error| error as &dyn Failure));
            }
            metrics::counter!("leadline_openai_calls_total", "model" => request.model.clone(), "outcome" => outcome)
                .increment(1);
            metrics::histogram!("leadline_openai_call_seconds", "model" => request.model.clone())
                .record(started.elapsed().as_secs_f64());
            result
        })
        .await
    }

    /// Whether the key is taken, without paying for an answer: asks for the model's description.
    pub async fn check(&self, model: &str) -> Result<(), OpenAiError> {
        let url = format!("{}/models/{model}", self.settings.base_url.trim_end_matches('/'));
        let connection = self.connection()?;
        let response = connection.http().get(url).send().await.map_err(|error| self.transport_error(error))?;
        if response.status().is_success() { Ok(()) } else { Err(self.api_error(response).await) }
    }

    async fn complete_once(
        &self,
        request: &ChatRequest,
        said: &mut [Option<QuotaReport>; 2],
    ) -> Result<Completion, OpenAiError> {
        let url = format!("{}{}", self.settings.base_url.trim_end_matches('/'), self.settings.chat_path);
        let started = Instant::now();
        let connection = self.connection()?;
        // As a stream, so that reqwest keeps no copy for redirects and tries of its own while thousands wait for answers.
        let body = Body::wrap(request.body());
        let asked = connection.http().post(url).header(CONTENT_TYPE, "application/json").body(body);
        let response = asked.send().await.map_err(|error| self.transport_error(error))?;
        *said = ["requests", "tokens"].map(|dimension| limit(response.headers(), dimension));
        if !response.status().is_success() {
            return Err(self.api_error(response).await);
        }
        let request_id = text(response.headers(), "x-request-id");
        let bytes = self.read(response).await?;
        let wire: ChatResponse =
            serde_json::from_slice(&bytes).map_err(|error| OpenAiError::Unreadable(json_error_position(&error)))?;
        wire.completion(request_id, started.elapsed()).map_err(|what| OpenAiError::Unreadable(what.to_owned()))
    }

    fn connection(&self) -> Result<SharedConnection, OpenAiError> {
        self.connections.pick().map_err(|error| self.transport_error(error))
    }

    async fn api_error(&self, response: reqwest::Response) -> OpenAiError {
        #[derive(Deserialize)]
        struct Body {
            error: OpenAiApiError,
        }
        let status = response.status().as_u16();
        let retry_after = retry_after(response.headers());
        let should_retry = text(response.headers(), "x-should-retry").and_then(|text| text.parse().ok());
        let request_id = text(response.headers(), "x-request-id");
        // Gateways answer with bodies of their own, or with none; the status says enough then.
        let body = self.read(response).await.unwrap_or_default();
        let error = serde_json::from_slice::<Body>(&body).map_or_else(|_| OpenAiApiError::default(), |body| body.error);
        OpenAiError::Api(Box::new(OpenAiApiError {
            http_status: status,
            retry_after,
            should_retry,
            request_id,
            ..error
        }))
    }

    async fn read(&self, response: reqwest::Response) -> Result<Vec<u8>, OpenAiError> {
        read_body(response, self.settings.max_response_bytes).await.map_err(|error| match error {
            BodyError::Transport(error) => self.transport_error(error),
            BodyError::TooLong(_) => OpenAiError::Unreadable(error.to_string()),
        })
    }

    fn transport_error(&self, error: reqwest::Error) -> OpenAiError {
        if error.is_timeout() {
            OpenAiError::TimedOut(self.settings.timeout)
        } else {
            OpenAiError::Connection(error.without_url())
        }
    }
}

/// What was said about `requests` or `tokens`; gateways say nothing.
fn limit(headers: &HeaderMap, dimension: &str) -> Option<QuotaReport> {
    let number = |side: &str| text(headers, &format!("x-ratelimit-{side}-{dimension}"))?.parse().ok();
    Some(QuotaReport { quota: number("limit")?, remaining: number("remaining")? })
}

fn text(headers: &HeaderMap, name: &str) -> Option<String> {
    headers.get(name)?.to_str().ok().map(ToOwned::to_owned)
}
