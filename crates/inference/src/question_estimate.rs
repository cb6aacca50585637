//! What a question takes and costs, without asking it.

use std::sync::Arc;

use domain::{
    RecordRef,
    model::{RequestedTier, ServiceTier},
};
use openai::{TokenUsage, models::Model, tokens::count_tokens};
use playbook::{AnswerField, Context, Fence, FieldKind, LocalTime, Playbook};
use serde_json::{Map, Value, json};

use crate::{
    ModelClient, StepError,
    completion::{self, Question},
    question_request::{question_request, requested_tier},
};

/// The tokens of one question and its answer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct QuestionEstimate {
    /// Tokens of the prompt with the schema, counted.
    pub prompt: i64,
    /// Tokens of an answer whose texts and lists are half as long as the playbook allows.
    pub answer: i64,
    /// Tokens of reasoning: half of the room for it.
    pub reasoning: i64,
}

impl QuestionEstimate {
    /// The question of `playbook` to `model` about a `context` that fits one prompt.
    ///
    /// # Errors
    /// The prompt cannot be rendered for this context.
    pub fn of(playbook: &Playbook, model: &Model, context: &Arc<Context>, now: &LocalTime) -> Result<Self, StepError> {
        let context = playbook.masking.mask(context).context;
        let prompt = playbook.prompt.render(context.record(), &context.whole(), &now.today(), &Fence::random())?;
        let request = question_request(playbook, model, prompt);
        let answer = typical_answer(playbook.answer.fields.iter()).to_string();
        let room_for_reasoning = request.max_completion_tokens.saturating_sub(playbook.model.max_output_tokens);
        Ok(Self {
            prompt: request.prompt_tokens(),
            answer: i64::try_from(count_tokens(&model.name, &answer)).unwrap_or(i64::MAX),
            reasoning: i64::from(room_for_reasoning / 2),
        })
    }

    /// What it costs in micro-dollars in the tier that is asked for, if nothing of the prompt is in the cache; `None` for a
    /// model without a price.
    pub fn cost(&self, playbook: &Playbook, model: &Model) -> Option<i64> {
        let usage = TokenUsage {
            prompt_tokens: self.prompt,
            completion_tokens: self.answer + self.reasoning,
            ..TokenUsage::default()
        };
        let tier = match requested_tier(playbook, model) {
            RequestedTier::Flex => ServiceTier::Flex,
            requested => requested.presumed(),
        };
        model.price.map(|price| price.of(&usage, tier))
    }
}

/// The most tokens that the question of `playbook` about `record` uses if its first answer can be used: a truncated answer, and
/// one that does not fit the schema, is asked for once more. The whole context counts, also where only its newest part fits.
///
/// # Errors
/// The prompt cannot be rendered for this record.
pub async fn most_usage(
    model_client: &ModelClient,
    playbook: &Playbook,
    model: &Model,
    record: &RecordRef,
    (context, now): (&Arc<Context>, &LocalTime),
) -> Result<TokenUsage, StepError> {
    let context = playbook.masking.mask(context).context;
    let prompt = playbook.prompt.render(record, &context.whole(), &now.today(), &Fence::random())?;
    let question = Question { model_client, playbook, model, record };
    Ok(completion::most_usage_of(question, prompt).await)
}

/// The most that `usage` costs in micro-dollars in a tier in which the question may be answered; `None` for a model without a price.
pub fn most_cost(playbook: &Playbook, model: &Model, usage: &TokenUsage) -> Option<i64> {
    model.price.map(|price| price.most(usage, requested_tier(playbook, model)))
}

/// Every field has a value, every text and list is half as long as it may be.
fn typical_answer<'a>(fields: impl IntoIterator<Item = &'a AnswerField>) -> Value {
    let mut answer = Map::new();
    for AnswerField { name, kind, evidence, .. } in fields {
        answer.insert(name.clone(), typical_value(kind));
        if *evidence {
            answer.insert(format!("{name}_quote"), typical_text(QUOTATION).into());
        }
    }
    Value::Object(answer)
}

fn typical_value(kind: &FieldKind) -> Value {
    match kind {
        FieldKind::Integer { maximum, .. } => json!(maximum),
        FieldKind::Number { minimum, maximum } => json!((minimum + maximum) / 2.0 + 0.5),
        FieldKind::Text { max_length } => typical_text(max_length / 2).into(),
        FieldKind::Date => json!("2026-01-31"),
        FieldKind::Boolean => json!(true),
        FieldKind::Choice { options } => json!(options.first()),
        FieldKind::List { items, max_items } => vec![typical_answer(items); max_items.div_ceil(2)].into(),
    }
}

/// The length of a quotation, in characters.
const QUOTATION: usize = 80;

/// English words, `length` characters long.
fn typical_text(length: usize) -> String {
    "They want to roll it out in two offices and asked for an offer by the end of the month. "
        .chars()
        .cycle()
        .take(length)
        .collect()
}
