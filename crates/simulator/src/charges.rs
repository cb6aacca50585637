//! What OpenAI would bill: every question that the model began to answer, even if the client has gone before the answer.

use serde::{Deserialize, Serialize};

/// One question that was billed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Charge {
    /// The header `X-Client-Request-Id`, by which a client tells its requests apart.
    pub client_request_id: Option<String>,
    /// The dated snapshot that answered.
    pub model: String,
    /// Tokens of the prompt.
    pub prompt_tokens: i64,
    /// Tokens of the answer.
    pub completion_tokens: i64,
    /// What they cost, in micro-dollars (10⁻⁶ $); 0 for a model without a known price.
    pub micro_dollars: i64,
}

/// The newest charges, up to a number that the settings bound.
#[derive(Debug, Default)]
pub(crate) struct Charges {
    kept: std::collections::VecDeque<Charge>,
}

impl Charges {
    /// The kept charges, oldest first.
    pub(crate) fn all(&self) -> Vec<Charge> {
        self.kept.iter().cloned().collect()
    }

    /// Keeps `charge`; drops the oldest one when there are more than `max_kept`.
    pub(crate) fn add(&mut self, charge: Charge, max_kept: usize) {
        self.kept.push_back(charge);
        if self.kept.len() > max_kept {
            self.kept.pop_front();
        }
    }
}
