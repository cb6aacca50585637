//! HubSpot's rate-limit headers.

use reqwest::header::HeaderMap;
use retry::QuotaReport;

/// The rate-limit headers of one answer. A missing header tells nothing; answers to searches have none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct LimitHeaders {
    /// Calls allowed per interval.
    pub max: Option<u64>,
    /// Calls left in the interval.
    pub remaining: Option<u64>,
    /// The interval's length in milliseconds.
    pub interval_ms: Option<u64>,
    /// Calls allowed per day, for the whole account.
    pub daily: Option<u64>,
    /// Calls left today.
    pub daily_remaining: Option<u64>,
    /// Calls allowed per second. Deprecated by HubSpot; the guide asks to monitor it.
    pub secondly: Option<u64>,
    /// Calls left in this second. Deprecated by HubSpot; the guide asks to monitor it.
    pub secondly_remaining: Option<u64>,
}

impl LimitHeaders {
    /// Reads the headers of an answer.
    pub(super) fn from_headers(headers: &HeaderMap) -> Self {
        let number = |name: &str| headers.get(name)?.to_str().ok()?.trim().parse().ok();
        Self {
            max: number("X-HubSpot-RateLimit-Max"),
            remaining: number("X-HubSpot-RateLimit-Remaining"),
            interval_ms: number("X-HubSpot-RateLimit-Interval-Milliseconds"),
            daily: number("X-HubSpot-RateLimit-Daily"),
            daily_remaining: number("X-HubSpot-RateLimit-Daily-Remaining"),
            secondly: number("X-HubSpot-RateLimit-Secondly"),
            secondly_remaining: number("X-HubSpot-RateLimit-Secondly-Remaining"),
        }
    }

    /// The reports about the interval and the day, in this order.
    pub(super) fn reports(self) -> [Option<QuotaReport>; 2] {
        let report = |quota: Option<u64>, remaining: Option<u64>| {
            QuotaReport::new(quota?.try_into().ok()?, remaining?.try_into().ok()?)
        };
        [report(self.max, self.remaining), report(self.daily, self.daily_remaining)]
    }

    /// Publishes the values as metrics.
    pub(super) fn publish(self) {
        #[expect(clippy::cast_precision_loss, reason = "limits are far below 2^53")]
        let gauge = |window: &'static str, side: &'static str, value: Option<u64>| {
            if let Some(value) = value {
                metrics::gauge!("leadline_hubspot_ratelimit", "window" => window, "side" => side).set(value as f64);
            }
        };
        gauge("interval", "max", self.max);
        gauge("interval", "remaining", self.remaining);
        gauge("daily", "max", self.daily);
        gauge("daily", "remaining", self.daily_remaining);
        gauge("secondly", "max", self.secondly);
        gauge("secondly", "remaining", self.secondly_remaining);
    }
}
