//! Which model answers, and with which options it is asked.

/// Which model answers, and with which options it is asked.
#[derive(Debug, Clone)]
pub struct ModelOptions {
    /// The model's name; `None` takes the setting `openai.model`.
    pub name: Option<String>,
    /// How the request asks for the form of the answer.
    pub mode: AnswerMode,
    /// The sampling temperature; `None` leaves it out of the request, which reasoning models require.
    pub temperature: Option<f64>,
    /// The limit of the answer, in tokens. `OpenAI` counts it against the rate limit of tokens before the answer is
    /// known, so it should not be larger than needed.
    pub max_output_tokens: u32,
    /// What the playbook's questions may cost in a day (UTC), in micro-dollars. When it is spent, the playbook pauses
    /// until the next day; `None` sets no limit.
    pub max_micro_dollars_per_day: Option<i64>,
    /// What the playbook's questions about one record may cost in a day (UTC), in micro-dollars. When it is spent, events of
    /// that record wait until the next day; `None` leaves it to the settings.
    pub max_micro_dollars_per_record_and_day: Option<i64>,
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
