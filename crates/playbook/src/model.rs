//! Which model answers, and with which options it is asked.

use domain::{
    inference::Effort,
    model::{RequestedTier, Verbosity},
};

/// Which model answers, and with which options it is asked. It has more than eight fields because it is one table of the file.
#[derive(Debug, Clone)]
pub struct ModelOptions {
    /// The model's name; `None` takes the setting `openai.model`.
    pub name: Option<String>,
    /// The models that answer instead, in this order, while those before are away. The other options hold for them, too.
    pub fallback: Vec<String>,
    /// How the request asks for the form of the answer.
    pub mode: AnswerMode,
    /// The sampling temperature; `None` leaves it out of the request, which models that reason require.
    pub temperature: Option<f64>,
    /// How much the model reasons; `None` takes the setting `openai.effort`.
    pub effort: Option<Effort>,
    /// How fast and how dear the answer is; `None` takes the setting `openai.service_tier`.
    pub service_tier: Option<RequestedTier>,
    /// How many words the model makes; `None` leaves it to the model.
    pub verbosity: Option<Verbosity>,
    /// The limit of the answer, in tokens. `OpenAI` counts it against the rate limit of tokens before the answer is
    /// known, so it should not be larger than needed.
    pub max_output_tokens: u32,
    /// The limit of the reasoning, in tokens, beside that of the answer; `None` takes what is usual for the effort.
    pub max_reasoning_tokens: Option<u32>,
    /// What the playbook's questions may cost in a day (UTC), in micro-dollars. When it is spent, the playbook pauses
    /// until the next day; `None` sets no limit.
    pub max_micro_dollars_per_day: Option<i64>,
    /// What the playbook's questions about one record may cost in a day (UTC), in micro-dollars. When it is spent, events of
    /// that record wait until the next day; `None` leaves it to the settings.
    pub max_micro_dollars_per_record_and_day: Option<i64>,
    /// Where in its file each key of the table is, for findings that need the facts about the model.
    pub lines: ModelLines,
}

/// The lines of a playbook file on which keys of `[model]` are; `None` for keys that are not given.
#[derive(Debug, Clone, Copy, Default)]
pub struct ModelLines {
    /// `mode`
    pub mode: Option<usize>,
    /// `temperature`
    pub temperature: Option<usize>,
    /// `effort`
    pub effort: Option<usize>,
    /// `service_tier`
    pub service_tier: Option<usize>,
    /// `verbosity`
    pub verbosity: Option<usize>,
}

/// How the request asks for the form of the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AnswerMode {
    /// Structured outputs: a strict JSON schema.
    Schema,
    /// JSON mode, for models without structured outputs. The prompt contains the schema; an answer that does not fit
    /// it is repaired once.
    Json,
    /// Function calling with a strict schema of the arguments.
    Function,
}
