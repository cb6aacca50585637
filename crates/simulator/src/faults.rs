//! Faults on demand: the ways in which HubSpot and OpenAI fail in practice.

use serde::{Deserialize, Serialize};

/// A fault and the calls that it applies to.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// The API whose calls fail.
    pub target: Target,
    /// What happens.
    pub kind: FaultKind,
    /// Only calls whose path contains this.
    #[serde(default)]
    pub path: Option<String>,
    /// Only calls whose body contains this.
    #[serde(default)]
    pub contains: Option<String>,
    /// Only this many calls; without a bound for `None`.
    #[serde(default)]
    pub times: Option<u32>,
    /// The share of the matching calls, in percent; all of them for `None`.
    #[serde(default)]
    pub percent: Option<u8>,
}

impl Fault {
    /// A fault of every call to `target`; the methods below narrow it.
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

    /// Only this many calls; without a bound for `None`.
    #[must_use]
    pub fn times(self, times: impl Into<Option<u32>>) -> Self {
        Self { times: times.into(), ..self }
    }
}

/// The API whose calls a fault applies to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// HubSpot.
    Hubspot,
    /// OpenAI.
    Openai,
}

/// What happens to a call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FaultKind {
    /// The call is processed later, by this many milliseconds.
    Latency(u64),
    /// The call has no effect; the answer has this status, and `Retry-After` if given.
    Status {
        /// For example 429 or 503.
        code: u16,
        /// In seconds.
        #[serde(default)]
        retry_after: Option<u64>,
    },
    /// The call takes effect, and its answer comes later, by this many milliseconds.
    LateAnswer(u64),
    /// The call takes effect, and the connection breaks within the answer.
    LostAnswer,
    /// The call takes effect, and a gateway that has given up on its answer answers with this status, for example 504.
    GatewayGaveUp(u16),
    /// The call takes effect, and the answer's rate-limit headers hold numbers that no limit can have: gateways send -1 and 0.
    OddLimits,
    /// The call is processed when the faults are switched off.
    Held,
    /// The call has no effect, and no answer comes.
    Hang,
    /// The call has no effect, and the connection breaks within the answer.
    Cut,
    /// The answer is not JSON.
    Garbage,
    /// The call has no effect; the answer is JSON, but one of its records does not have the documented form.
    Malformed,
    /// The model answers with prose instead of JSON.
    Prose,
    /// The model declines.
    Refusal,
    /// The model's answer is truncated at the output limit.
    Length,
    /// The content filter holds the answer back.
    ContentFilter,
    /// The model obeys instructions in the data: it repeats its own instructions and answers the largest values.
    Gullible,
    /// The model quotes words that are not in the data.
    Fabrication,
    /// Every U+FFFD in the answer arrives as half of a surrogate pair or as a byte that is no text.
    HalfCharacters,
    /// The model writes U+0000 and half of a surrogate pair, as JSON escapes, which Postgres cannot store.
    Unstorable,
    /// The answer is billed and does not say what it cost.
    NoUsage,
    /// The answer is billed and holds no choice.
    NoChoices,
    /// The answer is processed in this service tier, whatever was asked for: OpenAI answers some priority requests in the
    /// standard tier, and a project may be set to another one.
    Tier(String),
    /// The account has no credit left (429 `insufficient_quota`).
    InsufficientQuota,
    /// The call has no effect; the answer has this status and this body, as a gateway or another version of the API answers.
    Answer {
        /// For example 402 or 520.
        code: u16,
        /// JSON, or a page.
        body: String,
    },
    /// The model's answer is billed, and arrives in a form that users of gateways and compatible servers have reported.
    OddForm(OddForm),
}

/// A form of a model's answer that OpenAI does not document, and that was seen in the field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OddForm {
    /// Null for the model, the finish reason and the cached tokens.
    Nulls,
    /// Null instead of the choices.
    NullChoices,
    /// An empty refusal beside the answer.
    EmptyRefusal,
    /// The content as a list of parts.
    Parts,
    /// The arguments of a function call as an object.
    ArgumentsObject,
    /// One answer over two calls of the function.
    TwoCalls,
    /// Numbers of tokens as floats.
    Floats,
    /// More cached tokens than the prompt has.
    CachedAbovePrompt,
    /// More tokens than any model reads or writes.
    HugeCounts,
    /// A byte order mark before the JSON.
    ByteOrderMark,
    /// Compressed, although nobody asked for it.
    Gzip,
    /// Server-sent events, although nobody asked for a stream.
    EventStream,
    /// An error in an answer of success.
    ErrorWithin,
    /// No content at all, as when reasoning has taken all of the room.
    Empty,
}

/// A fault of the model itself, passed to the endpoint that plays the model.
#[derive(Debug, Clone)]
pub(crate) struct Misbehaviour(pub(crate) FaultKind);
