//! OpenAI's limits: requests and tokens per minute. The requested output is reserved with the prompt.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use axum::{
    http::{HeaderMap, HeaderName, HeaderValue, header},
    response::Response,
};

use super::errors;
use crate::Config;

const WINDOW: Duration = Duration::from_secs(60);

/// What was asked lately.
pub(crate) struct Limits {
    recent: VecDeque<(Instant, usize)>,
    requests: usize,
    tokens: usize,
}

impl Limits {
    pub(crate) fn new(config: &Config) -> Self {
        Self { recent: VecDeque::new(), requests: config.requests_per_minute, tokens: config.tokens_per_minute }
    }

    /// Takes one request of `tokens` and gives the headers of its answer, or the 429.
    pub(crate) fn take(&mut self, tokens: usize) -> Result<HeaderMap, Box<Response>> {
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
