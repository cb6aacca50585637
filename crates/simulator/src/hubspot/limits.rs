//! HubSpot's rate limits: calls per rolling ten seconds and per day, and searches per second.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use axum::{
    http::{HeaderMap, HeaderValue},
    response::Response,
};

use super::errors;
use crate::config::Config;

const WINDOW: Duration = Duration::from_secs(10);

/// Searches per second for the whole account (HubSpot's usage guidelines).
const SEARCHES_PER_SECOND: usize = 5;

/// The limits of a portal.
pub(crate) struct HubSpotLimits {
    /// The times of the calls within the window, oldest first.
    recent: VecDeque<Instant>,
    /// The times of the searches within the last second, oldest first.
    searches: VecDeque<Instant>,
    /// The times of the calls of association endpoints within the window, oldest first.
    associations: VecDeque<Instant>,
    today: usize,
    per_window: usize,
    per_day: usize,
    /// The association endpoints have a lower limit of their own (HubSpot's guide to associations); whether their calls count
    /// against the one of all calls, too, is not documented. Here they do.
    associations_per_window: usize,
}

impl HubSpotLimits {
    pub(crate) fn new(config: &Config) -> Self {
        Self {
            recent: VecDeque::new(),
            searches: VecDeque::new(),
            associations: VecDeque::new(),
            today: 0,
            per_window: config.calls_per_10s,
            per_day: config.calls_per_day,
            associations_per_window: config.association_calls_per_10s,
        }
    }

    /// Counts one call and returns the headers of its answer, or the 429. A refused call is not counted.
    pub(crate) fn take_call(&mut self) -> Result<HeaderMap, Box<Response>> {
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

    /// Counts one call of an association endpoint; `false` when the window has none left.
    pub(crate) fn take_association_call(&mut self) -> bool {
        let now = Instant::now();
        while self.associations.front().is_some_and(|first| now.duration_since(*first) >= WINDOW) {
            self.associations.pop_front();
        }
        let is_allowed = self.associations.len() < self.associations_per_window;
        if is_allowed {
            self.associations.push_back(now);
        }
        is_allowed
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

    /// Counts one search; `false` when this second has no search left.
    pub(crate) fn take_search(&mut self) -> bool {
        let now = Instant::now();
        while self.searches.front().is_some_and(|first| now.duration_since(*first) >= Duration::from_secs(1)) {
            self.searches.pop_front();
        }
        let is_allowed = self.searches.len() < SEARCHES_PER_SECOND;
        if is_allowed {
            self.searches.push_back(now);
        }
        is_allowed
    }
}
