//! An inference: one answered question, as the ledger keeps it.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{event::RecordRef, ids::InferenceId};

/// One question to the model and what came back, whatever it was worth.
#[derive(Debug, Clone, PartialEq)]
pub struct Inference {
    /// Its id in the ledger.
    pub id: InferenceId,
    /// The playbook's name.
    pub playbook: String,
    /// The playbook's version: a hash of its content.
    pub playbook_version: String,
    /// The record it is about.
    pub record: RecordRef,
    /// For a part of a context that was too long for one question: the SHA-256 of that part's prompt, in hex.
    pub part: Option<String>,
    /// The hash of the context and the playbook's version; none for parts.
    pub context_hash: Option<String>,
    /// The model that was asked for.
    pub model_requested: String,
    /// The dated snapshot that answered.
    pub model: String,
    /// The messages as sent.
    pub prompt: serde_json::Value,
    /// The answer's content as received, before any validation.
    pub answer: String,
    /// What the answer was worth.
    pub outcome: InferenceOutcome,
    /// The answer's fields that passed the playbook's schema; null when none did.
    pub fields: serde_json::Value,
    /// Fields whose quotation was not found in what the model had read.
    pub unverified: Vec<String>,
    /// Tokens paid for.
    pub usage: Usage,
    /// What they cost, in micro-dollars (10⁻⁶ $); unknown for a model without a price.
    pub cost_micro_dollars: Option<i64>,
    /// From the first byte sent to the last byte read, of the try that answered.
    pub latency: Duration,
    /// OpenAI's `x-request-id`, which its support asks for.
    pub request_id: Option<String>,
}

/// What an answer was worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InferenceOutcome {
    /// It passed the playbook's schema.
    Valid,
    /// It did not, not even after one repair.
    Invalid,
    /// It did, but its quotations were not found, and the playbook wants a person to look.
    Unverified,
    /// The model declined.
    Refused,
    /// It was cut at the output limit, even with more room.
    Cut,
    /// OpenAI's content filter held it back.
    Filtered,
}

impl InferenceOutcome {
    /// The name in the ledger.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Valid => "valid",
            Self::Invalid => "invalid",
            Self::Unverified => "unverified",
            Self::Refused => "refused",
            Self::Cut => "truncated",
            Self::Filtered => "filtered",
        }
    }
}

/// Tokens of one inference, repairs included.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Tokens of the prompt, cached ones included.
    pub prompt_tokens: i64,
    /// The part of the prompt that was billed at the cached price.
    pub cached_tokens: i64,
    /// Tokens of the answer.
    pub completion_tokens: i64,
}

impl std::ops::AddAssign for Usage {
    fn add_assign(&mut self, other: Self) {
        self.prompt_tokens += other.prompt_tokens;
        self.cached_tokens += other.cached_tokens;
        self.completion_tokens += other.completion_tokens;
    }
}
