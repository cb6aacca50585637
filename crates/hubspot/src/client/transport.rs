//! The path of every call: permit, authentication, timeout, metrics, classification, retries.

use std::{
    borrow::Cow,
    sync::{Arc, PoisonError, RwLock},
    time::{Duration, Instant},
};

use domain::ObjectType;
use http_client::{BodyError, json_error_position, read_body, retry_after};
use reqwest::Method;
use retry::{CallHooks, Failure, RateLimited, Reason, RetryAction, RetryPolicy, SharedRateLimiter, Shortage};
use secrecy::{ExposeSecret, SecretString};
use serde::{Serialize, de::DeserializeOwned};
use spans::{
    Server,
    calls::{self, HttpRequest},
};
use tracing::{Instrument, Span};

use super::{
    error::{HubSpotApiError, HubSpotError},
    error_body::ErrorBody,
    limits::LimitHeaders,
    operation::Operation,
    version::{ApiVersion, ApiVersions},
};

/// How the client calls HubSpot.
#[derive(Debug, Clone)]
pub struct HubSpotSettings {
    /// `https://api.hubapi.com`, or the simulator.
    pub base_url: String,
    /// Authorities that are trusted beside the system's, in PEM.
    pub authorities: Option<String>,
    /// The app's access token.
    pub token: SecretString,
    /// The versions of the API.
    pub api_versions: ApiVersions,
    /// The timeout of one attempt, from connecting to the last byte.
    pub timeout: Duration,
    /// How often failed attempts are repeated within the process.
    pub retry: RetryPolicy,
    /// Longer answers are an error.
    pub max_response_bytes: usize,
    /// The observer and the rate limiter of every attempt.
    pub hooks: CallHooks,
}

/// One call: what is asked of HubSpot.
pub(super) struct Call<'a, B> {
    operation: Operation,
    method: Method,
    path: &'a str,
    query: &'a [(&'a str, &'a str)],
    body: Option<&'a B>,
}

impl<'a> Call<'a, ()> {
    /// A GET without a body.
    pub(super) fn get(operation: Operation, path: &'a str, query: &'a [(&'a str, &'a str)]) -> Self {
        Self { operation, method: Method::GET, path, query, body: None }
    }
}

impl<'a, B> Call<'a, B> {
    /// A POST of `body` as JSON.
    pub(super) fn post(operation: Operation, path: &'a str, body: &'a B) -> Self {
        Self { operation, method: Method::POST, path, query: &[], body: Some(body) }
    }

    /// The path as traces show it. An id names a record, and may be an e-mail address.
    fn template(&self) -> Cow<'a, str> {
        match (self.operation, self.path.rsplit_once('/')) {
            (Operation::ReadObject, Some((records, _))) => format!("{records}/{{id}}").into(),
            _ => self.path.into(),
        }
    }
}

/// A client of one portal's API. Cheap to clone; all clones share connections.
#[derive(Debug, Clone)]
pub struct HubSpotClient {
    http: reqwest::Client,
    settings: HubSpotSettings,
    /// Whom traces name.
    server: Option<Server>,
    /// The token that calls are made with now: at first that of the settings.
    token: Arc<RwLock<SecretString>>,
}

impl HubSpotClient {
    /// A client with these settings.
    ///
    /// # Errors
    /// When no TLS provider is installed, or certificates cannot be read: the system's or those of the settings.
    pub fn new(settings: HubSpotSettings) -> Result<Self, reqwest::Error> {
        let http = http_client::builder_trusting(settings.timeout, settings.authorities.as_deref())?.build()?;
        let server = Server::of(&settings.base_url);
        let base_url = settings.base_url.trim_end_matches('/').to_owned();
        let settings = HubSpotSettings { base_url, ..settings };
        let token = Arc::new(RwLock::new(settings.token.clone()));
        Ok(Self { http, settings, server, token })
    }

    /// From now on, calls of this client and its clones are made with another token.
    pub fn replace_token(&self, token: SecretString) {
        *self.token.write().unwrap_or_else(PoisonError::into_inner) = token;
    }

    /// The same client with another rate limiter.
    #[must_use]
    pub fn with_rate_limiter(&self, rate_limiter: SharedRateLimiter) -> Self {
        let mut client = self.clone();
        client.settings.hooks.rate_limiter = Some(rate_limiter);
        client
    }

    /// How much longer a batch of an `operation` should wait for more items at the moment. Zero, unless calls are scarce.
    pub fn extra_linger(&self, operation: Operation) -> Arc<dyn Fn() -> Duration + Send + Sync> {
        let rate_limiter = self.settings.hooks.rate_limiter.clone();
        let linger = move |limiter: &SharedRateLimiter| limiter.extra_linger(operation.limit());
        Arc::new(move || rate_limiter.as_ref().map_or(Duration::ZERO, &linger))
    }

    /// The timeout of one attempt: a call that was sent longer ago has taken effect or never will.
    pub fn timeout(&self) -> Duration {
        self.settings.timeout
    }

    /// The versions of the API.
    pub fn versions(&self) -> ApiVersions {
        self.settings.api_versions
    }

    /// The version of everything but associations.
    pub(super) fn version(&self) -> ApiVersion {
        self.settings.api_versions.api
    }

    /// Records how many inputs one call has. The rate limit counts calls, so fuller batches make it go further.
    pub(super) fn count_inputs(operation: Operation, objects: &ObjectType, inputs: usize) {
        #[expect(clippy::cast_precision_loss, reason = "a thousand at most")]
        metrics::histogram!("leadline_hubspot_batch_size", "operation" => operation.as_str(), "objects" => objects.to_string())
            .record(inputs as f64);
    }

    /// The token that calls are made with.
    pub(super) fn token(&self) -> SecretString {
        self.token.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Makes a call that may be repeated: until it succeeds or the retries are used up.
    pub(super) async fn call<B: Serialize + Sync, T: DeserializeOwned>(
        &self,
        call: &Call<'_, B>,
    ) -> Result<T, HubSpotError> {
        retry::run(&self.settings.retry, || self.attempt(call, None)).await
    }

    /// One attempt: permit, call, metrics. Nothing is sent after `not_after`.
    async fn attempt<B: Serialize + Sync, T: DeserializeOwned>(
        &self,
        call: &Call<'_, B>,
        not_after: Option<Instant>,
    ) -> Result<T, HubSpotError> {
        let is_late = || not_after.is_some_and(|not_after| Instant::now() > not_after);
        let too_late = || RateLimited { after: Duration::ZERO, shortage: Shortage::UsedUp };
        if is_late() {
            return Err(too_late().into());
        }
        let permit = match &self.settings.hooks.rate_limiter {
            Some(rate_limiter) if call.operation.needs_permit() => {
                Some((rate_limiter, rate_limiter.acquire(call.operation.limit(), 1).await?))
            }
            _ => None,
        };
        if is_late() {
            return Err(too_late().into());
        }
        let started = Instant::now();
        // No document says whose limits the headers of an association endpoint are.
        let has_own_limit = !call.operation.limit().is_empty();
        let mut limits = LimitHeaders::default();
        let span = self.span(call);
        let observer = self.settings.hooks.observer.as_ref().map(|observer| (observer, observer.credential()));
        let result = self.call_once(call, &mut limits, &span).instrument(span.clone()).await;
        let outcome = result.as_ref().map_or_else(|error| error.reason().as_str(), |_| "ok");
        if result.is_err() {
            spans::fail(&span, outcome);
        }
        let reports = if has_own_limit { [None; 2] } else { limits.reports() };
        if let Some((rate_limiter, permit)) = permit {
            match result.as_ref().map_err(|error| (error.reason(), error.retry_action(), error.outage())) {
                // A 429 of the daily limit is an outage: the report about the day, which has nothing left, is enough.
                Err((Reason::RateLimited, RetryAction::RateLimited { after }, None)) => {
                    rate_limiter.record_rejection(permit, reports, after.unwrap_or_default());
                }
                _ => rate_limiter.record_answer(permit, reports, None),
            }
        }
        if let Some((observer, with)) = observer {
            observer.record(with, result.as_ref().err().map(|error| error as &dyn Failure));
        }
        metrics::counter!("leadline_hubspot_calls_total", "operation" => call.operation.as_str(), "outcome" => outcome)
            .increment(1);
        metrics::histogram!("leadline_hubspot_call_seconds", "operation" => call.operation.as_str())
            .record(started.elapsed().as_secs_f64());
        result
    }

    /// Makes a call that creates an object. It is repeated only when it certainly did not take effect; otherwise the
    /// error is [`HubSpotError::InDoubt`]. Nothing is sent after `not_after`: the caller's lease ends then, and the
    /// wait for a permit may have been long.
    pub(super) async fn create_call<B: Serialize + Sync, T: DeserializeOwned>(
        &self,
        operation: Operation,
        path: &str,
        body: &B,
        not_after: Option<Instant>,
    ) -> Result<T, HubSpotError> {
        let call = Call::post(operation, path, body);
        retry::run(&self.settings.retry, || async {
            let result = self.attempt(&call, not_after).await;
            result.map_err(|error| if error.leaves_doubt() { HubSpotError::InDoubt(Box::new(error)) } else { error })
        })
        .await
    }

    fn span<B>(&self, call: &Call<'_, B>) -> Span {
        calls::http(&HttpRequest {
            method: call.method.as_str(),
            base_url: &self.settings.base_url,
            template: &call.template(),
            server: self.server.as_ref(),
        })
    }

    async fn call_once<B: Serialize + Sync, T: DeserializeOwned>(
        &self,
        call: &Call<'_, B>,
        limits: &mut LimitHeaders,
        span: &Span,
    ) -> Result<T, HubSpotError> {
        let Call { operation, method, path, query, body } = call;
        let operation = *operation;
        let mut request = self
            .http
            .request(method.clone(), format!("{}{path}", self.settings.base_url))
            .bearer_auth(self.token().expose_secret());
        if !query.is_empty() {
            request = request.query(query);
        }
        if let Some(body) = body {
            request = request.json(body);
        }
        let response = request.send().await.map_err(|error| self.transport_error(error))?;
        *limits = LimitHeaders::from_headers(response.headers());
        limits.publish();
        let status = response.status();
        calls::http_answered(span, status.as_u16());
        let retry_after = retry_after(response.headers());
        let bytes = match read_body(response, self.settings.max_response_bytes).await {
            Ok(bytes) => bytes,
            Err(BodyError::Transport(error)) => return Err(self.transport_error(error)),
            Err(error @ (BodyError::TooLong(_) | BodyError::Compressed(_))) => {
                return Err(HubSpotError::Unreadable { operation, message: error.to_string() });
            }
        };
        if status.is_success() {
            // Without content there is nothing to read, which only a call without a result takes for an answer.
            let content = if status == reqwest::StatusCode::NO_CONTENT { b"null" } else { &bytes[..] };
            return serde_json::from_slice(content).map_err(|error| match bytes.trim_ascii_start().first() {
                Some(b'{' | b'[') => HubSpotError::Unreadable { operation, message: json_error_position(&error) },
                _ => HubSpotError::NotJson { operation },
            });
        }
        let body = ErrorBody::read(&bytes);
        let http_status = status.as_u16();
        Err(HubSpotError::Api(Box::new(HubSpotApiError { http_status, operation, retry_after, body })))
    }

    fn transport_error(&self, error: reqwest::Error) -> HubSpotError {
        if error.is_timeout() {
            HubSpotError::TimedOut(self.settings.timeout)
        } else {
            // The URL is left out, because it may contain an e-mail address as an id.
            HubSpotError::Connection(error.without_url())
        }
    }
}
