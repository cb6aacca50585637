//! Whether a completion is an answer that can be used.

use domain::inference::InferenceOutcome;
use openai::{Completion, FinishReason};
use playbook::Playbook;
use retry::Reason;
use serde_json::{Map, Value};

use crate::StepError;

/// What a completion is worth.
pub(crate) enum AnswerCheck {
    /// It matches the playbook's schema.
    Valid(Map<String, Value>),
    /// It does not, for the reason in words. Another answer may.
    Mismatch(String),
    /// The model declined to answer.
    Refused,
    /// It ended at the limit of output tokens.
    Truncated,
    /// OpenAI's content filter withheld it.
    Filtered,
}

impl AnswerCheck {
    pub(crate) fn of(playbook: &Playbook, completion: &Completion) -> Self {
        match completion.finish {
            FinishReason::ContentFilter => Self::Filtered,
            FinishReason::Length => Self::Truncated,
            _ if completion.refusal.is_some() => Self::Refused,
            _ => match playbook.answer.fields.check(&completion.content) {
                Ok(fields) => match repeated_instructions(playbook, &fields) {
                    Some(name) => Self::Mismatch(format!("`{name}` repeats instructions instead of answering")),
                    None => Self::Valid(fields),
                },
                Err(mismatch) => Self::Mismatch(mismatch.to_string()),
            },
        }
    }

    /// The outcome for the ledger, and the fields or the failure that parks the event.
    pub(crate) fn into_result(self) -> (InferenceOutcome, Result<Map<String, Value>, StepError>) {
        let (outcome, reason, detail) = match self {
            Self::Valid(fields) => return (InferenceOutcome::Valid, Ok(fields)),
            Self::Mismatch(why) => (InferenceOutcome::Invalid, Reason::SchemaInvalid, why),
            Self::Refused => (InferenceOutcome::Refused, Reason::Refused, "the model declined to answer".to_owned()),
            Self::Truncated => {
                let detail = "the answer was truncated, even with twice the output tokens".to_owned();
                (InferenceOutcome::Truncated, Reason::AnswerTruncated, detail)
            }
            Self::Filtered => {
                let detail = "OpenAI's content filter withheld the answer".to_owned();
                (InferenceOutcome::Filtered, Reason::ContentFiltered, detail)
            }
        };
        (outcome, Err(StepError::Answer { reason, detail }))
    }
}

/// The first field whose text repeats the playbook's instructions: a sign that the data told the model to reveal them.
fn repeated_instructions<'a>(playbook: &Playbook, fields: &'a Map<String, Value>) -> Option<&'a str> {
    fn texts(value: &Value) -> Vec<&str> {
        match value {
            Value::String(text) => vec![text],
            Value::Array(items) => items.iter().flat_map(texts).collect(),
            Value::Object(fields) => fields.values().flat_map(texts).collect(),
            _ => vec![],
        }
    }
    let repeats = |value: &Value| texts(value).into_iter().any(|text| playbook.prompt.repeats_instructions(text));
    fields.iter().find(|(_, value)| repeats(value)).map(|(name, _)| name.as_str())
}
