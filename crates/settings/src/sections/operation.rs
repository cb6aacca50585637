//! What bounds and operates the fleet: limits, money, circuit breakers, maintenance, the admin listener, telemetry.

use secrecy::SecretString;
use serde::Deserialize;

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RateLimitSection {
    pub hubspot_share: f64,
    pub hubspot_day_share: f64,
    pub hubspot_calls_per_10s: i64,
    pub hubspot_calls_per_day: i64,
    pub hubspot_association_calls_per_10s: i64,
    pub hubspot_association_calls_per_day: i64,
    pub openai_share: f64,
    pub openai_requests_per_minute: i64,
    pub openai_tokens_per_minute: i64,
    pub backfill_share: f64,
    pub batch_linger_at_limit_ms: u64,
    pub max_wait_seconds: u64,
    pub max_hold_seconds: u64,
}

impl Default for RateLimitSection {
    fn default() -> Self {
        Self {
            hubspot_share: 0.8,
            hubspot_day_share: 0.9,
            hubspot_calls_per_10s: 100,
            hubspot_calls_per_day: 250_000,
            hubspot_association_calls_per_10s: 100,
            hubspot_association_calls_per_day: 500_000,
            openai_share: 0.9,
            openai_requests_per_minute: 500,
            openai_tokens_per_minute: 30_000,
            backfill_share: 0.5,
            batch_linger_at_limit_ms: 6_000,
            max_wait_seconds: 30,
            max_hold_seconds: 60,
        }
    }
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SpendSection {
    pub micro_dollars_per_day: i64,
    pub micro_dollars_per_record_and_day: i64,
}

impl Default for SpendSection {
    fn default() -> Self {
        Self { micro_dollars_per_day: 50_000_000, micro_dollars_per_record_and_day: 2_000_000 }
    }
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CircuitBreakerSection {
    pub failure_threshold: u32,
    pub poll_ms: u64,
    pub probe_first_seconds: u64,
    pub probe_max_seconds: u64,
    pub half_open_seconds: u64,
    pub refusal_threshold: u32,
    pub model_probe_max_seconds: u64,
}

impl Default for CircuitBreakerSection {
    fn default() -> Self {
        Self {
            failure_threshold: 20,
            poll_ms: 1_000,
            probe_first_seconds: 5,
            probe_max_seconds: 60,
            half_open_seconds: 30,
            refusal_threshold: 3,
            model_probe_max_seconds: 600,
        }
    }
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ReconcileSection {
    pub interval_seconds: u64,
    pub stuck_after_seconds: u64,
    pub batch: u32,
    pub max_requeues: u32,
}

impl Default for ReconcileSection {
    fn default() -> Self {
        Self { interval_seconds: 120, stuck_after_seconds: 300, batch: 500, max_requeues: 5 }
    }
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ReviewSection {
    /// How long a proposal waits for a person.
    pub expire_hours: u64,
    /// The channel of `[notify]` that is told what waits.
    pub channel: Option<String>,
    /// Where the page of a proposal is served; nowhere by default.
    pub listen: Option<String>,
    /// The address at which people reach the page.
    pub public_url: Option<String>,
    /// Signs the links to the page.
    pub link_secret: Option<SecretString>,
    pub link_hours: u64,
}

impl Default for ReviewSection {
    fn default() -> Self {
        Self { expire_hours: 168, channel: None, listen: None, public_url: None, link_secret: None, link_hours: 168 }
    }
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DriftSection {
    pub enabled: bool,
    pub interval_seconds: u64,
    pub window_hours: u64,
    pub min_sample: u32,
    pub max_overridden_percent: f64,
    pub max_refused_percent: f64,
    pub max_unverified_percent: f64,
    pub max_parked_percent: f64,
}

impl Default for DriftSection {
    fn default() -> Self {
        Self {
            enabled: true,
            interval_seconds: 600,
            window_hours: 168,
            min_sample: 50,
            max_overridden_percent: 30.0,
            max_refused_percent: 10.0,
            max_unverified_percent: 30.0,
            max_parked_percent: 20.0,
        }
    }
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RetentionSection {
    pub raw_days: u32,
    pub events_days: u32,
    pub interval_seconds: u64,
    pub batch: u32,
    pub pause_ms: u64,
}

impl Default for RetentionSection {
    fn default() -> Self {
        Self { raw_days: 90, events_days: 400, interval_seconds: 3_600, batch: 500, pause_ms: 200 }
    }
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AdminSection {
    pub listen: String,
    pub check_timeout_ms: u64,
    pub ready_cache_ms: u64,
    pub read_timeout_ms: u64,
    pub max_connections: usize,
    pub max_connections_per_peer: usize,
    pub keep_alive_seconds: u64,
    pub connection_max_seconds: u64,
}

impl Default for AdminSection {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:9090".to_owned(),
            check_timeout_ms: 2_000,
            ready_cache_ms: 1_000,
            read_timeout_ms: 2_000,
            max_connections: 32,
            max_connections_per_peer: 16,
            keep_alive_seconds: 90,
            connection_max_seconds: 600,
        }
    }
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SecretsSection {
    pub reload_seconds: u64,
}

impl Default for SecretsSection {
    fn default() -> Self {
        Self { reload_seconds: 10 }
    }
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TelemetrySection {
    pub log_level: String,
    pub log_format: LogFormat,
    pub refusals_per_minute: u32,
    pub log_prompts: bool,
    pub log_prompts_redacted: bool,
    pub log_prompts_max_bytes: usize,
    pub otlp_endpoint: Option<String>,
    pub allow_plaintext: bool,
}

impl Default for TelemetrySection {
    fn default() -> Self {
        Self {
            log_level: "info".to_owned(),
            log_format: LogFormat::Json,
            refusals_per_minute: 60,
            log_prompts: false,
            log_prompts_redacted: true,
            log_prompts_max_bytes: 32_768,
            otlp_endpoint: None,
            allow_plaintext: false,
        }
    }
}

/// The form of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// One JSON object a line, for machines.
    Json,
    /// For people.
    Human,
}
