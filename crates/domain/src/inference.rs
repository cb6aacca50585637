//! An inference: one answered question, as the ledger keeps it.

use std::time::Duration;

use crate::{closed_set::closed_set, event::RecordRef, ids::InferenceId};

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

closed_set! {
    /// Whether an answer could be used.
    pub enum InferenceOutcome {
        Valid = "valid", "The answer passed the playbook's schema.";
        Invalid = "invalid", "The answer does not match the playbook's schema, even after one repair.";
        Unverified = "unverified", "A quotation was not found in what the model had read, and the playbook asks for a person to look.";
        Refused = "refused", "The model declined to answer.";
        Truncated = "truncated", "The answer was truncated at the output limit, even with more output tokens.";
        Filtered = "filtered", "OpenAI's content filter withheld the answer.";
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
