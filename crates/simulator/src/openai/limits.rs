//! OpenAI's rate limits: requests and tokens per minute. The requested output counts with the prompt, before the
//! answer.

use std::{
    collections::VecDeque,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use axum::{
    http::{HeaderMap, HeaderName, HeaderValue, header},
    response::Response,
};

use super::errors;
use crate::{config::Config, lock::lock};

const WINDOW: Duration = Duration::from_secs(60);

/// The limits and the requests that are being answered.
pub(crate) struct OpenAiTraffic {
    limits: Mutex<OpenAiLimits>,
    open_requests: AtomicUsize,
}

impl OpenAiTraffic {
    pub(crate) fn new(config: &Config) -> Self {
        Self { limits: Mutex::new(OpenAiLimits::new(config)), open_requests: AtomicUsize::new(0) }
    }

    /// Counts one request of `tokens` and returns the headers of its answer, or the 429. A refused request is not
    /// counted.
    pub(super) fn take(&self, tokens: usize) -> Result<HeaderMap, Box<Response>> {
        lock(&self.limits).take(tokens)
    }

    /// Waits for the model, and counts the request as open meanwhile.
    pub(crate) async fn wait_for_model(&self, answer: impl Future<Output = ()>) {
        self.open_requests.fetch_add(1, Ordering::Relaxed);
        answer.await;
        self.open_requests.fetch_sub(1, Ordering::Relaxed);
    }

    /// How many requests wait for the model.
    pub(crate) fn open_requests(&self) -> usize {
        self.open_requests.load(Ordering::Relaxed)
    }
}

struct OpenAiLimits {
    /// The time and the tokens of the requests within the window, oldest first.
    recent: VecDeque<(Instant, usize)>,
    requests: usize,
    tokens: usize,
}

impl OpenAiLimits {
    fn new(config: &Config) -> Self {
        Self { recent: VecDeque::new(), requests: config.requests_per_minute, tokens: config.tokens_per_minute }
    }

    fn take(&mut self, tokens: usize) -> Result<HeaderMap, Box<Response>> {
        let now = Instant::now();
        while self.recent.front().is_some_and(|(at, _)| now.duration_since(*at) >= WINDOW) {
            self.recent.pop_front();
        }
        let used: usize = self.recent.iter().map(|(_, tokens)| tokens).sum();
        let exceeded = match () {
            () if self.recent.len() >= self.requests => Some("requests"),
            () if used + tokens > self.tokens => Some("tokens"),
            () => None,
        };
        if let Some(what) = exceeded {
            let oldest = self.recent.front().map_or(WINDOW, |(at, _)| WINDOW.saturating_sub(now.duration_since(*at)));
            let mut response = errors::rate_limited(what);
            response.headers_mut().extend(self.headers(used, oldest));
            response.headers_mut().insert(header::RETRY_AFTER, (oldest.as_secs() + 1).into());
            return Err(Box::new(response));
        }
        self.recent.push_back((now, tokens));
        Ok(self.headers(used + tokens, WINDOW))
    }

    fn headers(&self, used: usize, reset: Duration) -> HeaderMap {
        let number = |name, value: usize| (HeaderName::from_static(name), HeaderValue::from(value));
        let reset = HeaderValue::from_str(&format!("{}s", reset.as_secs())).unwrap_or(HeaderValue::from_static("60s"));
        HeaderMap::from_iter([
            number("x-ratelimit-limit-requests", self.requests),
            number("x-ratelimit-limit-tokens", self.tokens),
            number("x-ratelimit-remaining-requests", self.requests.saturating_sub(self.recent.len())),
            number("x-ratelimit-remaining-tokens", self.tokens.saturating_sub(used)),
            (HeaderName::from_static("x-ratelimit-reset-requests"), reset.clone()),
            (HeaderName::from_static("x-ratelimit-reset-tokens"), reset),
        ])
    }
}
