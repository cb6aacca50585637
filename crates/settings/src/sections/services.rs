//! The three services.

use std::path::PathBuf;

use secrecy::SecretString;
use serde::Deserialize;

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ReceiverSection {
    pub listen: String,
    pub tls_certificate: Option<String>,
    pub tls_key: Option<SecretString>,
    pub public_url: Option<String>,
    pub max_body_bytes: usize,
    pub max_kept_bytes: usize,
    pub max_value_bytes: usize,
    pub read_timeout_ms: u64,
    pub max_in_flight: usize,
    pub max_connections: usize,
    pub max_connections_per_peer: usize,
    pub keep_alive_seconds: u64,
    pub connection_max_seconds: u64,
    pub linger_seconds: u64,
    pub retry_after_seconds: u64,
    pub max_bytes_in_flight: usize,
    pub max_bytes_per_peer: usize,
    pub overflow_check_seconds: u64,
}

impl Default for ReceiverSection {
    fn default() -> Self {
        Self {
            listen: "0.0.0.0:8080".to_owned(),
            tls_certificate: None,
            tls_key: None,
            public_url: None,
            max_body_bytes: 39_731_200,
            max_kept_bytes: 1_048_576,
            max_value_bytes: 4_096,
            read_timeout_ms: 1_500,
            max_in_flight: 256,
            max_connections: 1_024,
            max_connections_per_peer: 512,
            keep_alive_seconds: 90,
            connection_max_seconds: 600,
            linger_seconds: 0,
            retry_after_seconds: 10,
            max_bytes_in_flight: 12_582_912,
            max_bytes_per_peer: 6_291_456,
            overflow_check_seconds: 15,
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
    pub association_wait_seconds: u64,
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
            association_wait_seconds: 60,
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
            batch_linger_ms: 100,
            batch_max: 100,
            parallel_batches: 10,
            pipeline_cache_ttl_seconds: 300,
            refused_properties_seconds: 3_600,
            notify_timeout_seconds: 10,
            allow_plaintext: false,
            lease_seconds: 90,
        }
    }
}
