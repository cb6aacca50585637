//! Chat completions: what is asked and what comes back.

use std::{sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// One question.
#[derive(Debug, Clone, PartialEq)]
pub struct ChatRequest {
    /// The model's name.
    pub model: String,
    /// Instructions first, data last: the same beginning is cached by OpenAI and billed lower.
    pub messages: Vec<ChatMessage>,
    /// How the answer's shape is asked for.
    pub format: ResponseFormat,
    /// Left out when `None`: reasoning models refuse it.
    pub temperature: Option<f64>,
    /// Room for the answer; OpenAI reserves it against the token limit.
    pub max_completion_tokens: u32,
}

/// A turn of the conversation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ChatMessage {
    /// Who speaks.
    pub role: Role,
    /// What is said.
    pub content: String,
}

/// Who speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Instructions.
    System,
    /// Data and questions.
    User,
    /// What the model said before.
    Assistant,
}

/// How the answer's shape is asked for.
#[derive(Debug, Clone, PartialEq)]
pub enum ResponseFormat {
    /// Structured outputs (gpt-4o-2024-08-06 and later): the answer follows the schema.
    Schema {
        /// 1–64 of `[A-Za-z0-9_-]`.
        name: String,
        /// Within OpenAI's strict subset.
        schema: Arc<Value>,
    },
    /// JSON mode: some JSON object. The word JSON must be in the messages, or OpenAI answers 400.
    Json,
    /// A call of the one function, whose strict parameters are the schema.
    Function {
        /// 1–64 of `[A-Za-z0-9_-]`.
        name: String,
        /// Within OpenAI's strict subset.
        schema: Arc<Value>,
    },
    /// Prose.
    Text,
}

impl ChatRequest {
    /// The tokens that OpenAI reserves for it, about: four bytes a token, a little for each message, and all the room that
    /// the answer is given.
    pub fn reserves(&self) -> i64 {
        let prompt: usize = self.messages.iter().map(|message| message.content.len() / 4 + 4).sum();
        i64::try_from(prompt).unwrap_or(i64::MAX).saturating_add(self.max_completion_tokens.into())
    }

    /// The request's body, as JSON.
    #[expect(clippy::expect_used, reason = "every key is a string, and nothing else makes JSON fail")]
    pub(crate) fn body(&self) -> String {
        let body = Body {
            model: &self.model,
            messages: &self.messages,
            max_completion_tokens: self.max_completion_tokens,
            store: false,
            shape: match &self.format {
                ResponseFormat::Schema { name, schema } => Shape::Answer {
                    response_format: AnswerShape::JsonSchema { json_schema: NamedSchema::schema(name, schema) },
                },
                ResponseFormat::Json => Shape::Answer { response_format: AnswerShape::JsonObject },
                ResponseFormat::Function { name, schema } => Shape::Call {
                    tools: [Tool::Function { function: NamedSchema::function(name, schema) }],
                    tool_choice: Tool::Function { function: Named { name } },
                },
                ResponseFormat::Text => Shape::Free {},
            },
            temperature: self.temperature,
        };
        serde_json::to_string(&body).expect("a question is JSON")
    }
}

/// The body on the wire; everything is acquired, because thousands of questions wait at once.
#[derive(Serialize)]
struct Body<'a> {
    model: &'a str,
    messages: &'a [ChatMessage],
    max_completion_tokens: u32,
    /// CRM data is nobody's to keep.
    store: bool,
    #[serde(flatten)]
    shape: Shape<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    temperature: Option<f64>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Shape<'a> {
    Answer { response_format: AnswerShape<'a> },
    Call { tools: [Tool<NamedSchema<'a>>; 1], tool_choice: Tool<Named<'a>> },
    Free {},
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum AnswerShape<'a> {
    JsonSchema { json_schema: NamedSchema<'a> },
    JsonObject,
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Tool<T> {
    Function { function: T },
}

#[derive(Serialize)]
struct Named<'a> {
    name: &'a str,
}

/// A schema that OpenAI holds the answer, or the call of a function, to.
#[derive(Serialize)]
struct NamedSchema<'a> {
    name: &'a str,
    strict: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    schema: Option<&'a Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    parameters: Option<&'a Value>,
}

impl<'a> NamedSchema<'a> {
    fn schema(name: &'a str, schema: &'a Value) -> Self {
        Self { name, strict: true, schema: Some(schema), parameters: None }
    }

    fn function(name: &'a str, parameters: &'a Value) -> Self {
        Self { name, strict: true, schema: None, parameters: Some(parameters) }
    }
}

/// One answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Completion {
    /// The dated snapshot that answered.
    pub model: String,
    /// Why it ended.
    pub finish: FinishReason,
    /// What it says, or the arguments of the function that it calls; empty for a refusal.
    pub content: String,
    /// Why the model declined, if it did.
    pub refusal: Option<String>,
    /// Tokens paid for.
    pub usage: TokenUsage,
    /// What OpenAI's support asks for.
    pub request_id: Option<String>,
    /// Of the try that answered.
    pub latency: Duration,
}

/// Why an answer ended.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FinishReason {
    /// It is whole.
    Stop,
    /// It was cut at the output limit: never read it as whole.
    Length,
    /// The content filter held it back.
    ContentFilter,
    /// The model called a function.
    ToolCalls,
    /// Something that compatible servers invented.
    #[serde(other)]
    Other,
}

/// Tokens of one answer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TokenUsage {
    /// Of the prompt, cached ones included.
    pub prompt_tokens: i64,
    /// The cached part of the prompt.
    pub cached_tokens: i64,
    /// Of the answer, reasoning included.
    pub completion_tokens: i64,
}

impl TokenUsage {
    /// Prompt and answer.
    pub fn total(&self) -> i64 {
        self.prompt_tokens + self.completion_tokens
    }
}

/// The answer on the wire; lenient, because compatible servers leave things out.
#[derive(Deserialize)]
pub(crate) struct ChatResponse {
    #[serde(default)]
    model: String,
    choices: Vec<WireChoice>,
    #[serde(default)]
    usage: WireUsage,
}

#[derive(Deserialize)]
struct WireChoice {
    finish_reason: Option<FinishReason>,
    message: WireMessage,
}

#[derive(Deserialize)]
struct WireMessage {
    content: Option<String>,
    refusal: Option<String>,
    #[serde(default)]
    tool_calls: Option<Vec<WireToolCall>>,
}

#[derive(Deserialize)]
struct WireToolCall {
    function: WireFunction,
}

#[derive(Deserialize)]
struct WireFunction {
    arguments: String,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct WireUsage {
    prompt_tokens: i64,
    completion_tokens: i64,
    prompt_tokens_details: Option<WireDetails>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct WireDetails {
    cached_tokens: i64,
}

impl ChatResponse {
    /// The first choice (only one is asked for).
    pub(crate) fn completion(self, request_id: Option<String>, latency: Duration) -> Result<Completion, &'static str> {
        let choice = self.choices.into_iter().next().ok_or("no choices")?;
        let call = choice.message.tool_calls.and_then(|calls| calls.into_iter().next());
        let content = call.map(|call| call.function.arguments).or(choice.message.content);
        Ok(Completion {
            model: self.model,
            finish: choice.finish_reason.unwrap_or(FinishReason::Other),
            content: content.unwrap_or_default(),
            refusal: choice.message.refusal,
            usage: TokenUsage {
                prompt_tokens: self.usage.prompt_tokens,
                cached_tokens: self.usage.prompt_tokens_details.unwrap_or_default().cached_tokens,
                completion_tokens: self.usage.completion_tokens,
            },
            request_id,
            latency,
        })
    }
}
