//! Faults on demand: what goes wrong with HubSpot and OpenAI in practice.

use serde::{Deserialize, Serialize};

/// A fault, and which calls it strikes.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// Whose calls.
    pub target: Target,
    /// What happens.
    pub kind: FaultKind,
    /// Only calls whose path contains this.
    #[serde(default)]
    pub path: Option<String>,
    /// Only calls whose body contains this.
    #[serde(default)]
    pub contains: Option<String>,
    /// Only this many calls.
    #[serde(default)]
    pub times: Option<u32>,
    /// Of the calls that match, this share in percent; all by default.
    #[serde(default)]
    pub percent: Option<u8>,
}

impl Fault {
    /// `kind` for every call of `target`; the methods below narrow it.
    pub fn new(target: Target, kind: FaultKind) -> Self {
        Self { target, kind, path: None, contains: None, times: None, percent: None }
    }

    /// Only calls whose path contains `part`.
    #[must_use]
    pub fn on_path(self, part: &str) -> Self {
        Self { path: Some(part.to_owned()), ..self }
    }

    /// Only calls whose body contains `part`.
    #[must_use]
    pub fn containing(self, part: &str) -> Self {
        Self { contains: Some(part.to_owned()), ..self }
    }

    /// Only this many calls; all of them for `None`.
    #[must_use]
    pub fn times(self, times: impl Into<Option<u32>>) -> Self {
        Self { times: times.into(), ..self }
    }
}

/// Whose calls a fault strikes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// HubSpot's.
    Hubspot,
    /// OpenAI's.
    Openai,
}

/// What happens to a call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FaultKind {
    /// The answer comes later, by this many milliseconds.
    Latency(u64),
    /// The answer has this status, and `Retry-After` if given.
    Status {
        /// For example 429 or 503.
        code: u16,
        /// In seconds.
        #[serde(default)]
        retry_after: Option<u64>,
    },
    /// The call has its effect, and then the answer comes later, by this many milliseconds.
    LateAnswer(u64),
    /// The call has its effect, and then the connection breaks within the answer.
    LostAnswer,
    /// The answer does not come.
    Hang,
    /// The connection breaks within the answer.
    Cut,
    /// The answer is no JSON.
    Garbage,
    /// The model answers prose instead of JSON.
    Prose,
    /// The model declines.
    Refusal,
    /// The model's answer is cut at the output limit.
    Length,
    /// The content filter holds the answer back.
    ContentFilter,
    /// The model does what strangers tell it: it repeats its instructions and answers extremes.
    Gullible,
    /// The model quotes words that nobody wrote.
    Fabrication,
    /// No money is left.
    InsufficientQuota,
}

/// A model's misbehaviour, passed on to the handler that plays the model.
#[derive(Debug, Clone)]
pub(crate) struct Misbehaviour(pub(crate) FaultKind);
