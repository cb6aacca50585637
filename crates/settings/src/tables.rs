//! All sections together, and which of them a program needs.

use std::collections::BTreeMap;

use secrecy::SecretString;
use serde::Deserialize;

use crate::reload::ValueFiles;
use crate::sections::{
    AdminSection, BrokerSection, CircuitBreakerSection, DriftSection, HubSpotSection, InferenceSection, LedgerSection,
    OpenAiSection, RateLimitSection, ReceiverSection, ReconcileSection, RetentionSection, ReviewSection,
    SecretsSection, SpendSection, TelemetrySection, WriterSection,
};

/// Every setting. `deploy/leadline.toml` names and explains each one; there is a field for each table of that file.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// RabbitMQ.
    pub broker: BrokerSection,
    /// Postgres.
    pub ledger: LedgerSection,
    /// HubSpot.
    pub hubspot: HubSpotSection,
    /// OpenAI.
    pub openai: OpenAiSection,
    /// Which part of HubSpot's and OpenAI's rate limits the fleet uses.
    pub rate_limit: RateLimitSection,
    /// How much money the models may cost.
    pub spend: SpendSection,
    /// The receiver.
    pub receiver: ReceiverSection,
    /// The inference workers.
    pub inference: InferenceSection,
    /// The writers.
    pub writer: WriterSection,
    /// The webhook URLs of channels that playbooks notify, by the channel's name.
    pub notify: BTreeMap<String, SecretString>,
    /// When an outage of HubSpot or OpenAI is recognised, and when it is probed for its end.
    pub circuit_breaker: CircuitBreakerSection,
    /// When work whose message was lost is published again.
    pub reconcile: ReconcileSection,
    /// How long data is kept.
    pub retention: RetentionSection,
    /// Proposals.
    pub review: ReviewSection,
    /// Which rates of a playbook's version have which bounds.
    pub drift: DriftSection,
    /// The internal listener of every service.
    pub admin: AdminSection,
    /// Logs and traces.
    pub telemetry: TelemetrySection,
    /// Values that are read again while a service runs.
    pub secrets: SecretsSection,
    /// The files that hold values.
    #[serde(skip)]
    pub files: ValueFiles,
}

/// Which program reads the settings: each needs only some of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConfigScope {
    /// `leadline-receiver`
    Receiver,
    /// `leadline-inference`
    Inference,
    /// `leadline-writer`
    Writer,
    /// `leadline migrate`, `leadline event`: the ledger alone.
    LedgerOnly,
    /// `leadline status`, `leadline parked`, …: the ledger and the broker.
    LedgerAndBroker,
    /// `leadline playbook eval`: the model alone.
    OpenAiOnly,
    /// `--probe` of a service: the internal listener alone.
    AdminOnly,
    /// `leadline check`: everything that any service needs.
    Everything,
}
