//! Whether a completion is an answer that can be used.

use domain::inference::InferenceOutcome;
use openai::{Completion, FinishReason};
use playbook::{CheckedAnswer, Masks, Playbook};
use retry::Reason;
use serde_json::{Map, Value};

use crate::StepError;

/// What a completion is worth.
pub(crate) enum AnswerCheck {
    /// It matches the playbook's schema.
    Valid(CheckedAnswer),
    /// It does not, for the reason in words. Another answer may.
    Mismatch(String),
    /// The model declined to answer.
    Refused,
    /// It says nothing.
    Empty,
    /// It ended at the limit of output tokens.
    Truncated,
    /// OpenAI's content filter withheld it.
    Filtered,
}

impl AnswerCheck {
    /// `masks` are what the placeholders stand for that the model has read.
    pub(crate) fn of(playbook: &Playbook, masks: &Masks, completion: &Completion) -> Self {
        match completion.finish {
            FinishReason::ContentFilter => Self::Filtered,
            _ if completion.is_empty() => Self::Empty,
            FinishReason::Length => Self::Truncated,
            _ if completion.refusal.is_some() => Self::Refused,
            _ => match playbook.answer.fields.check_masked(&completion.content, masks) {
                Ok(answer) => match repeated_instructions(playbook, &answer.fields) {
                    Some(name) => Self::Mismatch(format!("`{name}` repeats instructions instead of answering")),
                    None => Self::Valid(answer),
                },
                Err(mismatch) => Self::Mismatch(mismatch.to_string()),
            },
        }
    }

    /// The outcome for the ledger, and the fields or the failure that parks the event.
    pub(crate) fn into_result(self) -> (InferenceOutcome, Result<CheckedAnswer, StepError>) {
        let (outcome, reason, detail) = match self {
            Self::Valid(answer) => return (InferenceOutcome::Valid, Ok(answer)),
            Self::Mismatch(why) => (InferenceOutcome::Invalid, Reason::SchemaInvalid, why),
            Self::Refused => (InferenceOutcome::Refused, Reason::Refused, "the model declined to answer".to_owned()),
            Self::Empty => {
                let detail = "the model answered nothing, even with twice the output tokens".to_owned();
                (InferenceOutcome::Empty, Reason::AnswerEmpty, detail)
            }
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const LEADS: &str = include_str!("../../../deploy/playbooks/lead-qualification.toml");

    fn check(finish: FinishReason, content: &str, refusal: Option<&str>) -> (InferenceOutcome, Option<Reason>) {
        let playbook = Playbook::parse("lead-qualification.toml", LEADS, &[]).expect("the shipped playbook is valid");
        let completion = Completion {
            model: "gpt-4o-mini-2024-07-18".to_owned(),
            finish,
            content: content.to_owned(),
            refusal: refusal.map(ToOwned::to_owned),
            usage: None,
            request_id: None,
            service_tier: None,
            latency: Duration::ZERO,
        };
        let (outcome, result) = AnswerCheck::of(&playbook, &Masks::default(), &completion).into_result();
        let reason = match result {
            Err(StepError::Answer { reason, .. }) => Some(reason),
            _ => None,
        };
        (outcome, reason)
    }

    #[test]
    fn an_answer_that_does_not_match_the_schema_is_invalid() {
        let invalid = (InferenceOutcome::Invalid, Some(Reason::SchemaInvalid));
        assert_eq!(check(FinishReason::Stop, "{}", None), invalid);
        assert_eq!(check(FinishReason::Stop, "no JSON", None), invalid);
    }

    #[test]
    fn the_finish_reason_takes_precedence_over_the_content() {
        let truncated = (InferenceOutcome::Truncated, Some(Reason::AnswerTruncated));
        assert_eq!(check(FinishReason::Length, "{}", None), truncated);
        let filtered = (InferenceOutcome::Filtered, Some(Reason::ContentFiltered));
        assert_eq!(check(FinishReason::ContentFilter, "{}", None), filtered);
        let refused = (InferenceOutcome::Refused, Some(Reason::Refused));
        assert_eq!(check(FinishReason::Stop, "", Some("I cannot help with that.")), refused);
        let empty = (InferenceOutcome::Empty, Some(Reason::AnswerEmpty));
        assert_eq!((check(FinishReason::Stop, "", None), check(FinishReason::Length, "", None)), (empty, empty));
    }
}
