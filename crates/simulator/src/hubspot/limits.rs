//! HubSpot's limits: a rolling window of ten seconds, and a day.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use axum::{
    http::{HeaderMap, HeaderValue},
    response::Response,
};

use super::errors;
use crate::Config;

const WINDOW: Duration = Duration::from_secs(10);

/// What was called lately.
pub(crate) struct Limits {
    recent: VecDeque<Instant>,
    today: usize,
    per_window: usize,
    per_day: usize,
}

impl Limits {
    pub(crate) fn new(config: &Config) -> Self {
        Self { recent: VecDeque::new(), today: 0, per_window: config.calls_per_10s, per_day: config.calls_per_day }
    }

    /// Takes one call and gives the headers of its answer, or the 429. A refused call counts for nothing.
    pub(crate) fn take(&mut self) -> Result<HeaderMap, Box<Response>> {
        let now = Instant::now();
        while self.recent.front().is_some_and(|first| now.duration_since(*first) >= WINDOW) {
            self.recent.pop_front();
        }
        let policy = match () {
            () if self.today >= self.per_day => Some("DAILY"),
            () if self.recent.len() >= self.per_window => Some("TEN_SECONDLY_ROLLING"),
            () => None,
        };
        if let Some(policy) = policy {
            let mut response = errors::rate_limited(policy);
            response.headers_mut().extend(self.headers());
            return Err(Box::new(response));
        }
        self.recent.push_back(now);
        self.today += 1;
        Ok(self.headers())
    }

    fn headers(&self) -> HeaderMap {
        let per_second = self.per_window / 10;
        let values = [
            ("x-hubspot-ratelimit-daily", self.per_day),
            ("x-hubspot-ratelimit-daily-remaining", self.per_day - self.today),
            ("x-hubspot-ratelimit-interval-milliseconds", 10_000),
            ("x-hubspot-ratelimit-max", self.per_window),
            ("x-hubspot-ratelimit-remaining", self.per_window - self.recent.len()),
            ("x-hubspot-ratelimit-secondly", per_second),
            ("x-hubspot-ratelimit-secondly-remaining", per_second.min(self.per_window - self.recent.len())),
        ];
        let header = |(name, value): (&'static str, usize)| {
            (axum::http::HeaderName::from_static(name), HeaderValue::from(value))
        };
        values.into_iter().map(header).collect()
    }
}

/// Searches per second, for the whole account.
const SEARCHES: usize = 5;

/// The limit of search.
#[derive(Default)]
pub(crate) struct SearchLimit(VecDeque<Instant>);

impl SearchLimit {
    /// Takes one search, if there is one left within this second.
    pub(crate) fn take(&mut self) -> bool {
        let now = Instant::now();
        while self.0.front().is_some_and(|first| now.duration_since(*first) >= Duration::from_secs(1)) {
            self.0.pop_front();
        }
        let is_free = self.0.len() < SEARCHES;
        if is_free {
            self.0.push_back(now);
        }
        is_free
    }
}
