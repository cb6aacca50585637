//! An inference: one answered question to the model, as the ledger stores it.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{
    event::RecordRef,
    ids::{InferenceId, ObjectId, ObjectType},
    model::ServiceTier,
    names::{closed_set, named_values},
};

/// One question to the model and its answer, whether the answer could be used or not.
///
/// The struct has one field for each column of the ledger's table `inference`. It is written once and never changed,
/// so groups of fields would serve no caller.
#[derive(Debug, Clone, PartialEq)]
pub struct Inference {
    /// The id in the ledger.
    pub id: InferenceId,
    /// The playbook's name.
    pub playbook: String,
    /// The playbook's version: a hash of its file.
    pub playbook_version: String,
    /// The record that the question is about.
    pub record: RecordRef,
    /// Set when the question condensed one part of a context that was too long for a single question: the SHA-256 of
    /// that part's prompt, in hex.
    pub part: Option<String>,
    /// The hash of the context and of the playbook's version; `None` for parts.
    pub context_hash: Option<String>,
    /// What was read for the question, beside the record itself: by this, an answer is found whose prompt holds the texts of
    /// another record.
    pub read: Vec<ReadRecord>,
    /// The model name in the request.
    pub model_requested: String,
    /// The dated model snapshot that answered.
    pub model: String,
    /// In which service tier, if the answer says it; by it the answer is priced.
    pub service_tier: Option<ServiceTier>,
    /// The messages as sent.
    pub prompt: serde_json::Value,
    /// The answer's content as received, before any validation.
    pub answer: String,
    /// Whether the answer could be used, and if not, why.
    pub outcome: InferenceOutcome,
    /// The answer's fields if they fit the playbook's schema, else null.
    pub fields: serde_json::Value,
    /// The names of the fields whose quotation was not found in the context.
    pub unverified: Vec<String>,
    /// The tokens that were billed; where an answer does not say it, the most that its request can use.
    pub usage: TokenUsage,
    /// The price of these tokens in micro-dollars (10⁻⁶ $); `None` for a model whose price is not configured. Requests of
    /// this question whose answer was lost are charges of their own and not part of it.
    pub cost_micro_dollars: Option<i64>,
    /// The time from the first byte sent to the last byte read, of the request that was answered.
    pub latency: Duration,
    /// OpenAI's `x-request-id` header, which OpenAI's support asks for.
    pub request_id: Option<String>,
}

/// A record or an engagement that was read for a question about another record, in the same portal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadRecord {
    /// Its type.
    pub object_type: ObjectType,
    /// Its id.
    pub object_id: ObjectId,
    /// Whether it is an engagement of the record that the question is about, and not of one associated with it.
    pub is_own: bool,
}

/// Whether an answer could be used, and if not, why.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InferenceOutcome {
    /// The answer fits the playbook's schema.
    Valid,
    /// The answer does not fit the schema, not even after one repair.
    Invalid,
    /// The answer fits, but quotations were not found, and the playbook parks such answers.
    Unverified,
    /// The model declined to answer.
    Refused,
    /// The answer reached the output limit, also with the doubled limit.
    Truncated,
    /// OpenAI's content filter withheld the answer.
    Filtered,
    /// The model answered nothing, also with the doubled limit.
    Empty,
}

named_values!(InferenceOutcome {
    Valid => "valid",
    Invalid => "invalid",
    Unverified => "unverified",
    Refused => "refused",
    Truncated => "truncated",
    Filtered => "filtered",
    Empty => "empty",
});

/// How much a reasoning model thinks before it answers (OpenAI's API reference, `reasoning_effort`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Effort {
    /// Not at all: the model answers as those without reasoning do.
    None,
    /// The least.
    Minimal,
    /// Little.
    Low,
    /// The default of most models.
    Medium,
    /// Much.
    High,
    /// Very much.
    Xhigh,
    /// As much as it can.
    Max,
}

named_values!(Effort {
    None => "none",
    Minimal => "minimal",
    Low => "low",
    Medium => "medium",
    High => "high",
    Xhigh => "xhigh",
    Max => "max",
});

closed_set! {
    /// What is known about the cost of a request to the model.
    pub enum ChargeState {
        Reserved = "reserved", "The request was or is about to be sent; the most that it can cost counts.";
        Answered = "answered", "The answer says what it cost.";
        Estimated = "estimated", "The answer was lost, unreadable or silent about its cost; the most that it can cost counts.";
        Free = "free", "The request was not sent, or rejected without an answer; it cost nothing.";
    }
}

closed_set! {
    /// Who asked for what the ledger knows about a record to be erased.
    pub enum ErasureCause {
        PrivacyDeletion = "privacy_deletion", "HubSpot deleted the record for privacy reasons; no event of it is taken any more.";
        Operator = "operator", "An operator erased it; what happens to the record afterwards is taken again.";
    }
}

/// The tokens of one inference, summed over its requests (a truncated or invalid answer is asked for again).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TokenUsage {
    /// Tokens of the prompt, cached ones included.
    pub prompt_tokens: i64,
    /// The part of the prompt that was billed at the lower price of cached tokens.
    pub cached_tokens: i64,
    /// The part of the prompt that was written to the cache, which some models bill at a higher price.
    pub cache_write_tokens: i64,
    /// Tokens of the answer.
    pub completion_tokens: i64,
}

impl TokenUsage {
    /// The tokens of the prompt and of the answer.
    pub fn total(&self) -> i64 {
        self.prompt_tokens + self.completion_tokens
    }
}

impl std::ops::AddAssign for TokenUsage {
    fn add_assign(&mut self, other: Self) {
        self.prompt_tokens += other.prompt_tokens;
        self.cached_tokens += other.cached_tokens;
        self.cache_write_tokens += other.cache_write_tokens;
        self.completion_tokens += other.completion_tokens;
    }
}
