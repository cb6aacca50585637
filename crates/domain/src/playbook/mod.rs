//! A playbook: a declarative file that says which events start which question, and what becomes of the answer.
//!
//! [`Playbook::parse`] is the only way to one, and it refuses everything that could fail later: what is read here is
//! right. The file's form is in [`file`], what triggers it in [`trigger`], the answer's shape in [`fields`], the
//! wording in [`prompt`].

mod fields;
mod file;
mod prompt;
#[cfg(test)]
mod tests;
mod trigger;

use crate::{event::Event, ids::ObjectType, write_command::PropertyChange};

pub use fields::{Field, FieldKind, Fields, Mismatch};
pub use file::{Finding, Findings};
pub use prompt::{Prompt, PromptError, Rendered};
pub use trigger::Trigger;

/// What the operator wants done about certain events.
#[derive(Debug)]
pub struct Playbook {
    /// Its name: the key under which the ledger keeps inferences.
    pub name: String,
    /// The first 12 hex digits of the SHA-256 of the file.
    pub version: String,
    /// What it is for.
    pub description: String,
    /// The events that start it.
    pub triggers: Vec<Trigger>,
    /// What is read from HubSpot.
    pub reads: ContextPlan,
    /// Which model, and how.
    pub model: ModelPlan,
    /// What the model is asked.
    pub prompt: Prompt,
    /// What it has to answer, and where each field goes.
    pub fields: Fields,
    /// Properties whose value comes from the fleet, not from the model.
    pub stamps: Vec<Stamp>,
}

/// What is read from HubSpot for one inference.
#[derive(Debug, Clone)]
pub struct ContextPlan {
    /// Properties of the record.
    pub properties: Vec<String>,
    /// Kinds of engagements.
    pub engagements: Vec<ObjectType>,
    /// How many of each kind at most, newest first.
    pub newest: usize,
    /// The context's share of the model's window, in tokens.
    pub max_tokens: usize,
}

/// Which model answers, and how it is asked.
#[derive(Debug, Clone)]
pub struct ModelPlan {
    /// The model's name; `None` takes the setting `openai.model`.
    pub name: Option<String>,
    /// How the answer's shape is asked for.
    pub mode: AnswerMode,
    /// Sampling temperature; `None` leaves it out, as reasoning models demand.
    pub temperature: Option<f64>,
    /// Room for the answer, in tokens. `OpenAI` reserves it against the token limit, so keep it tight.
    pub max_output_tokens: u32,
}

/// How the answer's shape is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AnswerMode {
    /// Structured outputs: a strict JSON schema.
    Schema,
    /// JSON mode, for models without structured outputs; one repair when the answer does not fit.
    Json,
}

/// A property whose value comes from the fleet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stamp {
    /// The property that gets it.
    pub property: String,
    /// Which value.
    pub value: StampValue,
}

/// A value that the fleet itself knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StampValue {
    /// When the answer was accepted, ISO 8601 UTC.
    ProcessedAt,
    /// The model snapshot that answered.
    Model,
    /// The playbook's name and version.
    Playbook,
}

impl Playbook {
    /// Whether `event` starts this playbook.
    pub fn is_triggered_by(&self, event: &Event) -> bool {
        self.triggers.iter().any(|trigger| trigger.matches(event))
    }

    /// The properties it writes. A change of one of them must start nothing: it may be our own write.
    pub fn written_properties(&self) -> impl Iterator<Item = &str> {
        let fields = self.fields.iter().map(|field| field.property.as_str());
        fields.chain(self.stamps.iter().map(|stamp| stamp.property.as_str()))
    }

    /// The stamps' values for an answer of `model` accepted at `now`.
    pub fn stamped(&self, now: time::OffsetDateTime, model: &str) -> Vec<PropertyChange> {
        let value = |value| match value {
            StampValue::ProcessedAt => now
                .replace_nanosecond(u32::from(now.millisecond()) * 1_000_000)
                .unwrap_or(now)
                .format(&time::format_description::well_known::Rfc3339)
                .unwrap_or_default(),
            StampValue::Model => model.to_owned(),
            StampValue::Playbook => format!("{}@{}", self.name, self.version),
        };
        self.stamps
            .iter()
            .map(|stamp| PropertyChange { property: stamp.property.clone(), value: value(stamp.value) })
            .collect()
    }
}
