//! The sections. Every field has a default, named and explained in `deploy/leadline.toml`.
//!
//! Some sections have more than eight fields: each is one flat table of the file, and serde cannot flatten nested structs into
//! a table and reject unknown keys at the same time.
#![allow(missing_docs, reason = "deploy/leadline.toml documents every setting, and a test holds the two together")]

use std::path::PathBuf;

use secrecy::SecretString;
use serde::Deserialize;

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BrokerSection {
    pub url: SecretString,
    pub allow_plaintext: bool,
    pub connect_timeout_seconds: u64,
    pub reconnect_max_seconds: u64,
    pub confirm_timeout_ms: u64,
    pub frame_max_bytes: u32,
    pub delivery_limit: u32,
    pub max_queue_length: u32,
    pub retry_delays_seconds: Vec<u64>,
    pub max_attempts: u32,
    pub max_age_seconds: u64,
    pub shutdown_grace_seconds: u64,
}

impl Default for BrokerSection {
    fn default() -> Self {
        Self {
            url: "amqp://guest:guest@127.0.0.1:5672/%2f".into(),
            allow_plaintext: false,
            connect_timeout_seconds: 10,
            reconnect_max_seconds: 2,
            confirm_timeout_ms: 3_000,
            frame_max_bytes: 16_384,
            delivery_limit: 20,
            max_queue_length: 10_000_000,
            retry_delays_seconds: vec![10, 60, 600, 3_600],
            max_attempts: 10,
            max_age_seconds: 86_400,
            shutdown_grace_seconds: 25,
        }
    }
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LedgerSection {
    pub url: SecretString,
    pub allow_plaintext: bool,
    pub max_connections: u32,
    pub acquire_timeout_ms: u64,
    pub statement_timeout_ms: u64,
    pub batch_linger_ms: u64,
    pub batch_max: usize,
}

impl Default for LedgerSection {
    fn default() -> Self {
        Self {
            url: "postgres://leadline:leadline@127.0.0.1:5432/leadline".into(),
            allow_plaintext: false,
            max_connections: 8,
            acquire_timeout_ms: 5_000,
            statement_timeout_ms: 10_000,
            batch_linger_ms: 20,
            batch_max: 200,
        }
    }
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HubSpotSection {
    pub base_url: String,
    pub allow_plaintext: bool,
    pub api_version: String,
    pub token: Option<SecretString>,
    pub client_secret: Option<SecretString>,
    pub client_secret_previous: Option<SecretString>,
    pub app_id: Option<i64>,
    pub portal_id: Option<i64>,
    pub signature_versions: Vec<SignatureVersion>,
    pub timeout_seconds: u64,
    pub attempts: usize,
    pub backoff_ms: u64,
    pub backoff_max_ms: u64,
    pub max_response_bytes: usize,
    pub batch_linger_ms: u64,
    pub parallel_reads: usize,
}

impl Default for HubSpotSection {
    fn default() -> Self {
        Self {
            base_url: "https://api.hubapi.com".to_owned(),
            allow_plaintext: false,
            api_version: "v3".to_owned(),
            token: None,
            client_secret: None,
            client_secret_previous: None,
            app_id: None,
            portal_id: None,
            signature_versions: vec![SignatureVersion::V3],
            timeout_seconds: 15,
            attempts: 4,
            backoff_ms: 300,
            backoff_max_ms: 10_000,
            max_response_bytes: 33_554_432,
            batch_linger_ms: 20,
            parallel_reads: 2,
        }
    }
}

/// A version of HubSpot's webhook signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SignatureVersion {
    /// SHA-256 over secret and body; no time window.
    V1,
    /// SHA-256 over secret, method, URL and body; no time window.
    V2,
    /// HMAC-SHA256 with a timestamp; always accepted.
    V3,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct OpenAiSection {
    pub base_url: String,
    pub allow_plaintext: bool,
    pub chat_path: String,
    pub auth_header: String,
    pub api_key: Option<SecretString>,
    pub organization: Option<String>,
    pub project: Option<String>,
    pub model: String,
    pub timeout_seconds: u64,
    pub attempts: usize,
    pub backoff_ms: u64,
    pub backoff_max_ms: u64,
    pub max_response_bytes: usize,
    pub max_requests_per_connection: usize,
    pub http2_prior_knowledge: bool,
    pub models: Vec<ModelFacts>,
}

impl Default for OpenAiSection {
    fn default() -> Self {
        Self {
            base_url: "https://api.openai.com/v1".to_owned(),
            allow_plaintext: false,
            chat_path: "/chat/completions".to_owned(),
            auth_header: "authorization".to_owned(),
            api_key: None,
            organization: None,
            project: None,
            model: "gpt-4o".to_owned(),
            timeout_seconds: 60,
            attempts: 3,
            backoff_ms: 500,
            backoff_max_ms: 20_000,
            max_response_bytes: 4_194_304,
            max_requests_per_connection: 100,
            http2_prior_knowledge: false,
            models: Vec::new(),
        }
    }
}

/// Facts about a model that Leadline does not know, or whose price has changed. Prices are in micro-dollars per million tokens.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelFacts {
    pub name: String,
    pub window: usize,
    pub max_output: u32,
    pub input_micro_dollars: i64,
    pub cached_input_micro_dollars: i64,
    pub output_micro_dollars: i64,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RateLimitSection {
    pub hubspot_share: f64,
    pub hubspot_day_share: f64,
    pub hubspot_calls_per_10s: i64,
    pub hubspot_calls_per_day: i64,
    pub openai_share: f64,
    pub openai_requests_per_minute: i64,
    pub openai_tokens_per_minute: i64,
    pub backfill_share: f64,
    pub batch_linger_at_limit_ms: u64,
    pub max_wait_seconds: u64,
}

impl Default for RateLimitSection {
    fn default() -> Self {
        Self {
            hubspot_share: 0.8,
            hubspot_day_share: 0.9,
            hubspot_calls_per_10s: 100,
            hubspot_calls_per_day: 250_000,
            openai_share: 0.9,
            openai_requests_per_minute: 500,
            openai_tokens_per_minute: 30_000,
            backfill_share: 0.5,
            batch_linger_at_limit_ms: 4_000,
            max_wait_seconds: 30,
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
pub struct ReceiverSection {
    pub listen: String,
    pub public_url: Option<String>,
    pub max_body_bytes: usize,
    pub max_kept_bytes: usize,
    pub max_value_bytes: usize,
    pub read_timeout_ms: u64,
    pub max_in_flight: usize,
    pub max_connections: usize,
    pub max_connections_per_peer: usize,
    pub connection_max_seconds: u64,
    pub retry_after_seconds: u64,
    pub max_bytes_in_flight: usize,
    pub max_bytes_per_peer: usize,
}

impl Default for ReceiverSection {
    fn default() -> Self {
        Self {
            listen: "0.0.0.0:8080".to_owned(),
            public_url: None,
            max_body_bytes: 39_731_200,
            max_kept_bytes: 1_048_576,
            max_value_bytes: 4_096,
            read_timeout_ms: 1_500,
            max_in_flight: 256,
            max_connections: 1_024,
            max_connections_per_peer: 512,
            connection_max_seconds: 60,
            retry_after_seconds: 10,
            max_bytes_in_flight: 8_388_608,
            max_bytes_per_peer: 4_194_304,
        }
    }
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct InferenceSection {
    pub playbooks: PathBuf,
    pub protected_properties: Vec<String>,
    pub escape_formulas: bool,
    pub unchanged_context_ttl_hours: u32,
    pub max_parts: usize,
    pub debounce_ms: u64,
    pub concurrency: usize,
    pub backfill_concurrency: usize,
    pub text_threads: usize,
    pub lease_seconds: u64,
}

impl Default for InferenceSection {
    fn default() -> Self {
        let protected = [
            "email",
            "hubspot_owner_id",
            "lifecyclestage",
            "hs_lead_status",
            "dealstage",
            "pipeline",
            "amount",
            "closedate",
            "hs_pipeline",
            "hs_pipeline_stage",
            "hs_email_optout",
        ];
        Self {
            playbooks: PathBuf::from("deploy/playbooks"),
            protected_properties: protected.map(ToOwned::to_owned).to_vec(),
            escape_formulas: true,
            unchanged_context_ttl_hours: 24,
            max_parts: 32,
            debounce_ms: 500,
            concurrency: 1_200,
            backfill_concurrency: 4,
            text_threads: 2,
            lease_seconds: 240,
        }
    }
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct WriterSection {
    pub concurrency: usize,
    pub batch_linger_ms: u64,
    pub batch_max: usize,
    pub parallel_batches: usize,
    pub pipeline_cache_ttl_seconds: u64,
    /// For how long a property that HubSpot takes no value for is not sent, in seconds.
    pub refused_properties_seconds: u64,
    pub notify_timeout_seconds: u64,
    pub allow_plaintext: bool,
    pub lease_seconds: u64,
}

impl Default for WriterSection {
    fn default() -> Self {
        Self {
            concurrency: 1_000,
            batch_linger_ms: 50,
            batch_max: 100,
            parallel_batches: 4,
            pipeline_cache_ttl_seconds: 300,
            refused_properties_seconds: 3_600,
            notify_timeout_seconds: 10,
            allow_plaintext: false,
            lease_seconds: 90,
        }
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
}

impl Default for CircuitBreakerSection {
    fn default() -> Self {
        Self {
            failure_threshold: 20,
            poll_ms: 1_000,
            probe_first_seconds: 5,
            probe_max_seconds: 60,
            half_open_seconds: 30,
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
            connection_max_seconds: 60,
        }
    }
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TelemetrySection {
    pub log_level: String,
    pub log_format: LogFormat,
    pub refusals_per_minute: u32,
    pub otlp_endpoint: Option<String>,
    pub allow_plaintext: bool,
}

impl Default for TelemetrySection {
    fn default() -> Self {
        Self {
            log_level: "info".to_owned(),
            log_format: LogFormat::Json,
            refusals_per_minute: 60,
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
