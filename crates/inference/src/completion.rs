//! Asking the model, until there is an answer that can be written or a reason why not.

use domain::{
    Inference, InferenceId, RecordRef,
    inference::{InferenceOutcome, TokenUsage},
};
use limits::SpendLimiter;
use openai::{ChatMessage, ChatRequest, Completion, FinishReason, OpenAiClient, ResponseFormat, Role, models::Model};
use playbook::{AnswerMode, Playbook, RenderedPrompt};
use retry::Reason;
use serde_json::{Map, Value, json};

use crate::failure::StepError;

/// Whom to ask, and who pays.
#[derive(Debug, Clone)]
pub struct ModelClient {
    /// The model's host.
    pub openai: OpenAiClient,
    /// The day's money.
    pub spend_limiter: SpendLimiter,
}

impl ModelClient {
    /// One that nobody's budget stands in the way of.
    pub fn free(openai: OpenAiClient) -> Self {
        Self { openai, spend_limiter: SpendLimiter::default() }
    }
}

/// An asked question: what is to be stored about it, and the answer's fields or why there are none.
pub struct Completed {
    /// For the ledger, whatever the answer was worth.
    pub inference: Inference,
    /// The checked fields.
    pub result: Result<Map<String, Value>, StepError>,
}

/// Asks `model` what `playbook` wants to know. A cut answer is asked for once more with more room, one that does not
/// fit the schema is repaired once.
///
/// # Errors
/// Only when there was no answer at all, so nothing to store.
pub async fn ask(
    model_client: &ModelClient,
    playbook: &Playbook,
    model: &Model,
    about: &RecordRef,
    prompt: RenderedPrompt,
) -> Result<Completed, StepError> {
    let mut conversation = Conversation::begin(model_client, playbook, model, format(playbook));
    conversation.say(Role::System, instructions(playbook, prompt.system));
    conversation.say(Role::User, prompt.user);
    let mut completion = conversation.complete_whole().await?;
    let mut judged = judge(playbook, &completion);
    if let AnswerCheck::Mismatch(why) = &judged {
        conversation.say(Role::Assistant, completion.content);
        let again = format!("That answer does not fit the schema: {why}. Answer again with JSON that does.");
        conversation.say(Role::User, again);
        completion = conversation.complete().await?;
        judged = judge(playbook, &completion);
    }
    let (outcome, result) = judged.conclude();
    let fields = result.as_ref().map_or(Value::Null, |fields| Value::Object(fields.clone()));
    Ok(Completed { inference: conversation.end(about, completion, outcome, fields), result })
}

/// Has `model` condense a part of a context that is too long for one question.
pub async fn condense(
    model_client: &ModelClient,
    playbook: &Playbook,
    model: &Model,
    about: &RecordRef,
    prompt: RenderedPrompt,
) -> Result<Inference, StepError> {
    let mut conversation = Conversation::begin(model_client, playbook, model, ResponseFormat::Text);
    conversation.say(Role::System, prompt.system);
    conversation.say(Role::User, prompt.user);
    let completion = conversation.complete_whole().await?;
    let outcome = match completion.finish {
        FinishReason::ContentFilter => InferenceOutcome::Filtered,
        _ if completion.refusal.is_some() => InferenceOutcome::Refused,
        // Prose that was cut has still said what it said.
        _ => InferenceOutcome::Valid,
    };
    Ok(conversation.end(about, completion, outcome, Value::Null))
}

/// Questions and answers about one thing, and what they cost together.
struct Conversation<'a> {
    model_client: &'a ModelClient,
    playbook: &'a Playbook,
    model: &'a Model,
    request: ChatRequest,
    usage: TokenUsage,
}

impl<'a> Conversation<'a> {
    fn begin(model_client: &'a ModelClient, playbook: &'a Playbook, model: &'a Model, format: ResponseFormat) -> Self {
        let request = ChatRequest {
            model: model.name.clone(),
            messages: Vec::new(),
            format,
            temperature: playbook.model.temperature,
            max_completion_tokens: playbook.model.max_output_tokens.min(model.max_output),
        };
        Self { model_client, playbook, model, request, usage: TokenUsage::default() }
    }

    fn say(&mut self, role: Role, content: String) {
        self.request.messages.push(ChatMessage { role, content });
    }

    /// An answer; one that was cut is asked for once more with twice the room.
    async fn complete_whole(&mut self) -> Result<Completion, StepError> {
        let completion = self.complete().await?;
        if completion.finish != FinishReason::Length {
            return Ok(completion);
        }
        let room = self.request.max_completion_tokens.saturating_mul(2);
        self.request.max_completion_tokens = room.min(self.model.max_output);
        self.complete().await
    }

    async fn complete(&mut self) -> Result<Completion, StepError> {
        let most = openai::TokenUsage {
            prompt_tokens: self.request.reserves() - i64::from(self.request.max_completion_tokens),
            completion_tokens: self.request.max_completion_tokens.into(),
            cached_tokens: 0,
        };
        let name = &self.playbook.name;
        let aside = self.model_client.spend_limiter.reserve(name, self.cost(&most)).await.map_err(StepError::Paused)?;
        let completed = self.model_client.openai.complete(&self.request).await;
        let cost = completed.as_ref().map_or(0, |completion| self.cost(&completion.usage));
        self.model_client.spend_limiter.refund_unused(name, &aside, cost);
        let completion = completed?;
        self.usage += TokenUsage {
            prompt_tokens: completion.usage.prompt_tokens,
            cached_tokens: completion.usage.cached_tokens,
            completion_tokens: completion.usage.completion_tokens,
        };
        Ok(completion)
    }

    /// In micro-dollars; nothing where the price is not known.
    fn cost(&self, usage: &openai::TokenUsage) -> i64 {
        self.model.price.map_or(0, |price| price.of(usage))
    }

    fn end(self, about: &RecordRef, completion: Completion, outcome: InferenceOutcome, fields: Value) -> Inference {
        let billed = openai::TokenUsage {
            prompt_tokens: self.usage.prompt_tokens,
            cached_tokens: self.usage.cached_tokens,
            completion_tokens: self.usage.completion_tokens,
        };
        let cost = self.model.price.map(|price| price.of(&billed));
        count(self.playbook, outcome, &self.usage, cost);
        Inference {
            id: InferenceId::new(),
            playbook: self.playbook.name.clone(),
            playbook_version: self.playbook.version.clone(),
            record: about.clone(),
            part: None,
            context_hash: None,
            model_requested: self.model.name.clone(),
            model: completion.model,
            prompt: json!(self.request.messages),
            answer: completion.refusal.unwrap_or(completion.content),
            outcome,
            fields,
            unverified: Vec::new(),
            usage: self.usage,
            cost_micro_dollars: cost,
            latency: completion.latency,
            request_id: completion.request_id,
        }
    }
}

/// JSON mode guarantees JSON and no shape: the schema has to be said in words.
fn instructions(playbook: &Playbook, system: String) -> String {
    match playbook.model.mode {
        AnswerMode::Schema | AnswerMode::Function => system,
        AnswerMode::Json => format!(
            "{}\n\nAnswer with one JSON object that follows this JSON schema:\n{}",
            system.trim_end(),
            playbook.answer.fields.strict_schema()
        ),
    }
}

fn format(playbook: &Playbook) -> ResponseFormat {
    match playbook.model.mode {
        AnswerMode::Schema => ResponseFormat::Schema {
            name: playbook.name.clone(),
            schema: playbook.answer.fields.strict_schema().clone(),
        },
        AnswerMode::Function => ResponseFormat::Function {
            name: playbook.name.clone(),
            schema: playbook.answer.fields.strict_schema().clone(),
        },
        AnswerMode::Json => ResponseFormat::Json,
    }
}

enum AnswerCheck {
    Valid(Map<String, Value>),
    Mismatch(String),
    Refused,
    Cut,
    Filtered,
}

fn judge(playbook: &Playbook, completion: &Completion) -> AnswerCheck {
    match completion.finish {
        FinishReason::ContentFilter => AnswerCheck::Filtered,
        FinishReason::Length => AnswerCheck::Cut,
        _ if completion.refusal.is_some() => AnswerCheck::Refused,
        _ => match playbook.answer.fields.check(&completion.content) {
            Ok(fields) => match leak(playbook, &fields) {
                Some(name) => AnswerCheck::Mismatch(format!("`{name}` repeats instructions instead of answering")),
                None => AnswerCheck::Valid(fields),
            },
            Err(mismatch) => AnswerCheck::Mismatch(mismatch.to_string()),
        },
    }
}

/// The first field that repeats the instructions.
fn leak<'a>(playbook: &Playbook, fields: &'a Map<String, Value>) -> Option<&'a str> {
    fn texts(value: &Value) -> Vec<&str> {
        match value {
            Value::String(text) => vec![text],
            Value::Array(items) => items.iter().flat_map(texts).collect(),
            Value::Object(fields) => fields.values().flat_map(texts).collect(),
            _ => vec![],
        }
    }
    let leaks = |value: &Value| texts(value).into_iter().any(|text| playbook.prompt.repeats_instructions(text));
    fields.iter().find(|(_, value)| leaks(value)).map(|(name, _)| name.as_str())
}

impl AnswerCheck {
    fn conclude(self) -> (InferenceOutcome, Result<Map<String, Value>, StepError>) {
        let park = |reason, detail: &str| Err(StepError::Answer { reason, detail: detail.to_owned() });
        match self {
            Self::Valid(fields) => (InferenceOutcome::Valid, Ok(fields)),
            Self::Mismatch(why) => (InferenceOutcome::Invalid, park(Reason::SchemaInvalid, &why)),
            Self::Refused => (InferenceOutcome::Refused, park(Reason::Refused, "the model declined to answer")),
            Self::Cut => (
                InferenceOutcome::Truncated,
                park(Reason::AnswerTruncated, "the answer was cut, even with twice the room"),
            ),
            Self::Filtered => (
                InferenceOutcome::Filtered,
                park(Reason::ContentFiltered, "OpenAI's content filter held the answer back"),
            ),
        }
    }
}

fn count(playbook: &Playbook, outcome: InferenceOutcome, usage: &TokenUsage, cost: Option<i64>) {
    let name = || playbook.name.clone();
    metrics::counter!("leadline_inferences_total", "playbook" => name(), "outcome" => outcome.as_str()).increment(1);
    for (kind, tokens) in
        [("prompt", usage.prompt_tokens), ("cached", usage.cached_tokens), ("completion", usage.completion_tokens)]
    {
        metrics::counter!("leadline_tokens_total", "playbook" => name(), "kind" => kind)
            .increment(u64::try_from(tokens).unwrap_or(0));
    }
    metrics::counter!("leadline_cost_micro_dollars_total", "playbook" => name())
        .increment(cost.and_then(|cost| u64::try_from(cost).ok()).unwrap_or(0));
}
