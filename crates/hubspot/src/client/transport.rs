//! One call: authenticated, timed out, retried, measured, classified.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use domain::ObjectType;
use http_client::{BodyError, json_error_position, read_body, retry_after};
use reqwest::Method;
use retry::{CallHooks, Failure, RateLimited, Reason, RetryAction, RetryPolicy, SharedRateLimiter};
use secrecy::{ExposeSecret, SecretString};
use serde::{Serialize, de::DeserializeOwned};

use super::{
    error::{HubSpotApiError, HubSpotError},
    limits::LimitHeaders,
    version::ApiVersion,
};

/// How HubSpot is called.
#[derive(Debug, Clone)]
pub struct HubSpotSettings {
    /// `https://api.hubapi.com`, or the simulator.
    pub base_url: String,
    /// The app's access token.
    pub token: SecretString,
    /// Which form of the API.
    pub api_version: ApiVersion,
    /// For one try, from connecting to the last byte.
    pub timeout: Duration,
    /// Tries within the process.
    pub retry: RetryPolicy,
    /// A longer answer is refused.
    pub max_response_bytes: usize,
    /// Who sees how every try ends, and who gives it leave.
    pub hooks: CallHooks,
}

/// What the token is good for is asked of no limit that is known, and has to be answered when the day is used up.
const FREE: &str = "token.";

/// A client of one portal's API. Cheap to clone; all clones share connections.
#[derive(Debug, Clone)]
pub struct HubSpotClient {
    http: reqwest::Client,
    settings: HubSpotSettings,
}

impl HubSpotClient {
    /// A client for `settings`.
    ///
    /// # Errors
    /// When no TLS provider is installed or the system's roots cannot be read.
    pub fn new(settings: HubSpotSettings) -> Result<Self, reqwest::Error> {
        let http = http_client::builder(settings.timeout).build()?;
        Ok(Self { http, settings })
    }

    /// The same client, whose calls need another one's leave.
    #[must_use]
    pub fn with_rate_limiter(&self, rate_limiter: SharedRateLimiter) -> Self {
        let mut client = self.clone();
        client.settings.hooks.rate_limiter = Some(rate_limiter);
        client
    }

    /// How much longer more should be put into a call, at present: no longer, unless calls are scarce.
    pub fn extra_linger(&self) -> Arc<dyn Fn() -> Duration + Send + Sync> {
        let rate_limiter = self.settings.hooks.rate_limiter.clone();
        Arc::new(move || rate_limiter.as_ref().map_or(Duration::ZERO, |rate_limiter| rate_limiter.extra_linger()))
    }

    /// How long one try of a call may take: what was sent longer ago has happened or never will.
    pub fn timeout(&self) -> Duration {
        self.settings.timeout
    }

    /// The API's version in use.
    pub(super) fn version(&self) -> ApiVersion {
        self.settings.api_version
    }

    /// Counts what is put into one call: how full calls are decides how far a limit of calls goes.
    pub(super) fn count_inputs(operation: &'static str, objects: &ObjectType, inputs: usize) {
        #[expect(clippy::cast_precision_loss, reason = "a thousand at most")]
        metrics::histogram!("leadline_hubspot_batch_size", "operation" => operation, "objects" => objects.to_string())
            .record(inputs as f64);
    }

    /// The token that calls are made with.
    pub(super) fn token(&self) -> &SecretString {
        &self.settings.token
    }

    /// Calls until it succeeds or the policy is used up. `operation` is the call's name in errors and metrics.
    pub(super) async fn call<B: Serialize + Sync, T: DeserializeOwned>(
        &self,
        operation: &'static str,
        method: Method,
        path: &str,
        query: &[(&str, &str)],
        body: Option<&B>,
    ) -> Result<T, HubSpotError> {
        retry::run(&self.settings.retry, || self.measured(operation, method.clone(), path, query, body, None)).await
    }

    async fn measured<B: Serialize + Sync, T: DeserializeOwned>(
        &self,
        operation: &'static str,
        method: Method,
        path: &str,
        query: &[(&str, &str)],
        body: Option<&B>,
        not_after: Option<Instant>,
    ) -> Result<T, HubSpotError> {
        let is_late = || not_after.is_some_and(|not_after| Instant::now() > not_after);
        if is_late() {
            return Err(HubSpotError::RateLimited(RateLimited { after: Duration::ZERO }));
        }
        let permit = match &self.settings.hooks.rate_limiter {
            Some(rate_limiter) if !operation.starts_with(FREE) => {
                Some((rate_limiter, rate_limiter.acquire("", 1).await?))
            }
            _ => None,
        };
        if is_late() {
            return Err(HubSpotError::RateLimited(RateLimited { after: Duration::ZERO }));
        }
        let started = Instant::now();
        let mut limits = LimitHeaders::default();
        let result = self.call_once(operation, method, path, query, body, &mut limits).await;
        let outcome = result.as_ref().map_or_else(|error| error.reason().as_str(), |_| "ok");
        if let Some((rate_limiter, permit)) = permit {
            match result.as_ref().map_err(|error| (error.reason(), error.retry_action(), error.outage())) {
                // A used-up day is no reason to hold; what is left says it all.
                Err((Reason::RateLimited, RetryAction::RateLimited { after }, None)) => {
                    rate_limiter.record_rejection(permit, limits.said(), after.unwrap_or_default());
                }
                _ => rate_limiter.record_answer(permit, limits.said(), None),
            }
        }
        if let Some(observer) = &self.settings.hooks.observer {
            observer.record(result.as_ref().err().map(|error| error as &dyn Failure));
        }
        metrics::counter!("leadline_hubspot_calls_total", "operation" => operation, "outcome" => outcome).increment(1);
        metrics::histogram!("leadline_hubspot_call_seconds", "operation" => operation)
            .record(started.elapsed().as_secs_f64());
        result
    }

    /// Like [`HubSpotClient::call`] for a call that creates something: it is repeated only after an answer that says that it did
    /// not happen. Otherwise the error is [`HubSpotError::InDoubt`]. Nothing is sent after `not_after`: the right to do so has an
    /// end, and our turn may have come late.
    pub(super) async fn create_call<B: Serialize + Sync, T: DeserializeOwned>(
        &self,
        operation: &'static str,
        path: &str,
        body: &B,
        not_after: Option<Instant>,
    ) -> Result<T, HubSpotError> {
        retry::run(&self.settings.retry, || async {
            let result = self.measured(operation, Method::POST, path, &[], Some(body), not_after).await;
            result.map_err(|error| if error.leaves_doubt() { HubSpotError::InDoubt(Box::new(error)) } else { error })
        })
        .await
    }

    async fn call_once<B: Serialize + Sync, T: DeserializeOwned>(
        &self,
        operation: &'static str,
        method: Method,
        path: &str,
        query: &[(&str, &str)],
        body: Option<&B>,
        limits: &mut LimitHeaders,
    ) -> Result<T, HubSpotError> {
        let mut request = self
            .http
            .request(method, format!("{}{path}", self.settings.base_url.trim_end_matches('/')))
            .bearer_auth(self.settings.token.expose_secret());
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
        let retry_after = retry_after(response.headers());
        let bytes = match read_body(response, self.settings.max_response_bytes).await {
            Ok(bytes) => bytes,
            Err(BodyError::Transport(error)) => return Err(self.transport_error(error)),
            Err(error @ BodyError::TooLong(_)) => {
                return Err(HubSpotError::Unreadable { operation, message: error.to_string() });
            }
        };
        if status.is_success() {
            return serde_json::from_slice(&bytes)
                .map_err(|error| HubSpotError::Unreadable { operation, message: json_error_position(&error) });
        }
        // Proxies and load balancers answer without HubSpot's body; the status says enough then.
        let mut error: HubSpotApiError = serde_json::from_slice(&bytes).unwrap_or_default();
        error.http_status = status.as_u16();
        error.operation = operation;
        error.retry_after = retry_after;
        Err(HubSpotError::Api(Box::new(error)))
    }

    fn transport_error(&self, error: reqwest::Error) -> HubSpotError {
        if error.is_timeout() {
            HubSpotError::TimedOut(self.settings.timeout)
        } else {
            // The URL may carry an e-mail address as id.
            HubSpotError::Connection(error.without_url())
        }
    }
}
