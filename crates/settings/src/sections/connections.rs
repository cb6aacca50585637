//! What the fleet connects to: broker, ledger, HubSpot, OpenAI.

use domain::{
    inference::Effort,
    model::{ModelApi, RequestedTier},
};
use secrecy::SecretString;
use serde::Deserialize;

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BrokerSection {
    pub url: SecretString,
    pub management_url: Option<SecretString>,
    pub allow_plaintext: bool,
    pub tls_ca: Option<String>,
    pub tls_certificate: Option<String>,
    pub tls_key: Option<SecretString>,
    pub connect_timeout_seconds: u64,
    pub reconnect_max_seconds: u64,
    pub confirm_timeout_ms: u64,
    pub heartbeat_seconds: u64,
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
            management_url: None,
            allow_plaintext: false,
            tls_ca: None,
            tls_certificate: None,
            tls_key: None,
            connect_timeout_seconds: 10,
            reconnect_max_seconds: 2,
            confirm_timeout_ms: 3_000,
            heartbeat_seconds: 5,
            frame_max_bytes: 8_192,
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
    pub migrate_url: Option<SecretString>,
    pub pool_mode: PoolMode,
    pub allow_plaintext: bool,
    pub max_connections: u32,
    pub acquire_timeout_ms: u64,
    pub statement_timeout_ms: u64,
    pub batch_linger_ms: u64,
    pub batch_max: usize,
}

/// What a pooler before Postgres gives a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PoolMode {
    /// A session of its own. There may be no pooler.
    Session,
    /// A session for each transaction.
    Transaction,
}

impl Default for LedgerSection {
    fn default() -> Self {
        Self {
            url: "postgres://leadline:leadline@127.0.0.1:5432/leadline".into(),
            migrate_url: None,
            pool_mode: PoolMode::Session,
            allow_plaintext: false,
            max_connections: 8,
            acquire_timeout_ms: 5_000,
            statement_timeout_ms: 10_000,
            batch_linger_ms: 50,
            batch_max: 200,
        }
    }
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HubSpotSection {
    pub base_url: String,
    pub allow_plaintext: bool,
    pub tls_ca: Option<String>,
    pub api_version: String,
    pub associations_version: String,
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
            tls_ca: None,
            api_version: "v3".to_owned(),
            associations_version: "2026-09".to_owned(),
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
            batch_linger_ms: 50,
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
    pub tls_ca: Option<String>,
    pub api: ModelApi,
    pub chat_path: String,
    pub responses_path: String,
    pub auth_header: String,
    pub api_key: Option<SecretString>,
    pub organization: Option<String>,
    pub project: Option<String>,
    pub model: String,
    pub effort: Option<Effort>,
    pub service_tier: RequestedTier,
    pub prompt_cache: bool,
    pub surcharge_percent: u32,
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
            tls_ca: None,
            api: ModelApi::ChatCompletions,
            chat_path: "/chat/completions".to_owned(),
            responses_path: "/responses".to_owned(),
            auth_header: "authorization".to_owned(),
            api_key: None,
            organization: None,
            project: None,
            model: "gpt-6-luna".to_owned(),
            effort: Some(Effort::Low),
            service_tier: RequestedTier::Default,
            prompt_cache: true,
            surcharge_percent: 0,
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
    #[serde(default)]
    pub cache_write_micro_dollars: Option<i64>,
    pub output_micro_dollars: i64,
    #[serde(default)]
    pub long_prompt_tokens: Option<i64>,
    #[serde(default)]
    pub flex_percent: Option<u32>,
    #[serde(default)]
    pub priority_percent: Option<u32>,
}
