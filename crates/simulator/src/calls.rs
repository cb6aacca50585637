//! The calls that both APIs received, so that tests can tell what HubSpot and OpenAI would have seen.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Longer request bodies are refused: 10 MiB, the order of HubSpot's own limit.
pub(crate) const MAX_BODY_BYTES: usize = 10 * 1024 * 1024;

/// One call and its answer.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Call {
    /// Counts from 1, in the order of the answers.
    pub number: u64,
    /// When the call arrived, in milliseconds since 1970.
    pub at_ms: i64,
    /// For example `PATCH`.
    pub method: String,
    /// Without the query.
    pub path: String,
    /// Without the question mark.
    pub query: String,
    /// The request's body; null when it is empty or not JSON.
    pub request: Value,
    /// The answer's status.
    pub status: u16,
    /// The answer's body; null when it is empty or not JSON.
    pub response: Value,
}

/// The newest calls, up to a number that the settings bound.
#[derive(Debug, Default)]
pub(crate) struct Calls {
    last_number: u64,
    kept: VecDeque<Call>,
}

impl Calls {
    /// The kept calls with a number above `number`, oldest first.
    pub(crate) fn after(&self, number: u64) -> Vec<Call> {
        self.kept.iter().filter(|call| call.number > number).cloned().collect()
    }

    /// Numbers `call` and keeps it; drops the oldest one when there are more than `max_kept`.
    pub(crate) fn add(&mut self, mut call: Call, max_kept: usize) {
        self.last_number += 1;
        call.number = self.last_number;
        self.kept.push_back(call);
        if self.kept.len() > max_kept {
            self.kept.pop_front();
        }
    }
}
