//! Asks the model one question: retries a truncated answer with more output tokens, has an answer that does not match the
//! schema repaired once, and records what all of it cost.

use domain::{
    Inference, InferenceId, RecordRef,
    inference::{InferenceOutcome, TokenUsage},
};
use limits::SpendLimiter;
use openai::{ChatMessage, ChatRequest, Completion, FinishReason, OpenAiClient, ResponseFormat, Role, models::Model};
use playbook::{AnswerMode, Playbook, RenderedPrompt};
use serde_json::{Map, Value, json};

use crate::{answer_check::AnswerCheck, failure::StepError};

/// The model client, and what a question may cost.
#[derive(Debug, Clone)]
pub struct ModelClient {
    /// The client of the model's host.
    pub openai: OpenAiClient,
    /// Reserves the money for each request.
    pub spend_limiter: SpendLimiter,
    /// The most parts in which one context is condensed; the newest ones.
    pub max_parts: usize,
}

impl ModelClient {
    /// A client without a spend limit.
    pub fn unlimited(openai: OpenAiClient, max_parts: usize) -> Self {
        Self { openai, spend_limiter: SpendLimiter::default(), max_parts }
    }
}

/// The question that a playbook asks a model about a record.
#[derive(Clone, Copy)]
pub(crate) struct Question<'a> {
    pub(crate) model_client: &'a ModelClient,
    pub(crate) playbook: &'a Playbook,
    pub(crate) model: &'a Model,
    pub(crate) record: &'a RecordRef,
}

/// An answer of the model.
#[derive(Debug)]
pub struct ModelAnswer {
    /// The prompt, the answer as received and its cost, for the ledger. Recorded also when the answer cannot be used.
    pub inference: Inference,
    /// The fields of the answer, checked; or why it cannot be used.
    pub result: Result<Map<String, Value>, StepError>,
}

/// Asks the question with `prompt`. A truncated answer is requested once more with twice the output tokens, one that does not
/// match the schema is repaired once.
///
/// # Errors
/// There was no answer, so there is no inference to record.
pub(crate) async fn complete(question: Question<'_>, prompt: RenderedPrompt) -> Result<ModelAnswer, StepError> {
    let playbook = question.playbook;
    let mut conversation = Conversation::start(question, response_format(playbook));
    conversation.push(Role::System, instructions(playbook, prompt.system));
    conversation.push(Role::User, prompt.user);
    let mut completion = conversation.complete_untruncated().await?;
    let mut check = AnswerCheck::of(playbook, &completion);
    if let AnswerCheck::Mismatch(why) = &check {
        conversation.push(Role::Assistant, completion.content);
        let repair = format!("That answer does not fit the schema: {why}. Answer again with JSON that does.");
        conversation.push(Role::User, repair);
        completion = conversation.complete().await?;
        check = AnswerCheck::of(playbook, &completion);
    }
    let (outcome, result) = check.into_result();
    let fields = result.as_ref().map_or(Value::Null, |fields| Value::Object(fields.clone()));
    Ok(ModelAnswer { inference: conversation.into_inference(completion, outcome, fields), result })
}

/// Has the model condense one part of a context that is too long for one question.
///
/// # Errors
/// There was no answer, so there is no inference to record.
pub(crate) async fn condense(question: Question<'_>, prompt: RenderedPrompt) -> Result<Inference, StepError> {
    let mut conversation = Conversation::start(question, ResponseFormat::Text);
    conversation.push(Role::System, prompt.system);
    conversation.push(Role::User, prompt.user);
    let completion = conversation.complete_untruncated().await?;
    let outcome = match completion.finish {
        FinishReason::ContentFilter => InferenceOutcome::Filtered,
        _ if completion.refusal.is_some() => InferenceOutcome::Refused,
        // A truncated summary is still a summary of the beginning; truncated JSON would be useless.
        _ => InferenceOutcome::Valid,
    };
    Ok(conversation.into_inference(completion, outcome, Value::Null))
}

/// The messages of one question, and the tokens that its requests used together.
struct Conversation<'a> {
    question: Question<'a>,
    request: ChatRequest,
    usage: TokenUsage,
}

impl<'a> Conversation<'a> {
    fn start(question: Question<'a>, format: ResponseFormat) -> Self {
        let Question { playbook, model, .. } = question;
        let request = ChatRequest {
            model: model.name.clone(),
            messages: Vec::new(),
            format,
            temperature: playbook.model.temperature,
            max_completion_tokens: playbook.model.max_output_tokens.min(model.max_output),
        };
        Self { question, request, usage: TokenUsage::default() }
    }

    fn push(&mut self, role: Role, content: String) {
        self.request.messages.push(ChatMessage { role, content });
    }

    /// Sends the request; if the answer is truncated, once more with twice the output tokens.
    async fn complete_untruncated(&mut self) -> Result<Completion, StepError> {
        let completion = self.complete().await?;
        if completion.finish != FinishReason::Length {
            return Ok(completion);
        }
        let doubled = self.request.max_completion_tokens.saturating_mul(2);
        self.request.max_completion_tokens = doubled.min(self.question.model.max_output);
        self.complete().await
    }

    /// Sends the request. The most that it can cost is reserved before, and what it did not cost is given back.
    async fn complete(&mut self) -> Result<Completion, StepError> {
        let ModelClient { openai, spend_limiter, .. } = self.question.model_client;
        let max_usage = TokenUsage {
            prompt_tokens: self.request.reserved_tokens() - i64::from(self.request.max_completion_tokens),
            completion_tokens: self.request.max_completion_tokens.into(),
            cached_tokens: 0,
        };
        let playbook = &self.question.playbook.name;
        let reservation =
            spend_limiter.reserve(playbook, self.cost(&max_usage)).await.map_err(StepError::SpendLimitReached)?;
        let completed = openai.complete(&self.request).await;
        let cost = completed.as_ref().map_or(0, |completion| self.cost(&completion.usage));
        spend_limiter.refund_unused(playbook, &reservation, cost);
        let completion = completed?;
        self.usage += completion.usage;
        Ok(completion)
    }

    /// In micro-dollars; 0 for a model without a price.
    fn cost(&self, usage: &TokenUsage) -> i64 {
        self.question.model.price.map_or(0, |price| price.of(usage))
    }

    fn into_inference(self, completion: Completion, outcome: InferenceOutcome, fields: Value) -> Inference {
        let Question { playbook, model, record, .. } = self.question;
        let cost = model.price.map(|price| price.of(&self.usage));
        count_inference(playbook, outcome, &self.usage, cost);
        Inference {
            id: InferenceId::new(),
            playbook: playbook.name.clone(),
            playbook_version: playbook.version.clone(),
            record: record.clone(),
            part: None,
            context_hash: None,
            model_requested: model.name.clone(),
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

/// The system message. JSON mode guarantees JSON but not its shape, so the message contains the schema then.
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

fn response_format(playbook: &Playbook) -> ResponseFormat {
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

fn count_inference(playbook: &Playbook, outcome: InferenceOutcome, usage: &TokenUsage, cost: Option<i64>) {
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
