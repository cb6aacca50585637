//! Chat completions: requests and answers.

use std::{sync::Arc, time::Duration};

use domain::inference::{Effort, TokenUsage};
use http_client::{MAX_NAME, shortened, without_unstorable_escapes};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::models;

/// The request of a chat completion.
#[derive(Debug, Clone, PartialEq)]
pub struct ChatRequest {
    /// The model's name.
    pub model: String,
    /// The conversation: instructions first, data last. OpenAI caches a prefix that requests share and bills it at a
    /// lower price.
    pub messages: Vec<ChatMessage>,
    /// The format of the answer.
    pub format: ResponseFormat,
    /// Not sent when `None`: models that reason refuse the parameter.
    pub temperature: Option<f64>,
    /// How much the model reasons; not sent when `None`, because other models refuse the parameter.
    pub effort: Option<Effort>,
    /// The longest answer, in tokens, reasoning included. OpenAI counts all of it against the token limit, before the answer.
    pub max_completion_tokens: u32,
}

/// A message of the conversation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ChatMessage {
    /// The author.
    pub role: Role,
    /// The text.
    pub content: String,
}

/// The author of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// The instructions.
    System,
    /// The data and the task.
    User,
    /// An earlier answer of the model.
    Assistant,
}

/// The format of the answer.
#[derive(Debug, Clone, PartialEq)]
pub enum ResponseFormat {
    /// Structured outputs (gpt-4o-2024-08-06 and later): the answer follows a schema.
    Schema {
        /// The name: 1–64 of `[A-Za-z0-9_-]`.
        name: String,
        /// The schema, within OpenAI's strict subset.
        schema: Arc<Value>,
    },
    /// JSON mode: any JSON object. The word JSON must be in the messages, or OpenAI answers 400.
    Json,
    /// A call of one function whose strict parameters are a schema; for models without structured outputs.
    Function {
        /// The name: 1–64 of `[A-Za-z0-9_-]`.
        name: String,
        /// The schema, within OpenAI's strict subset.
        schema: Arc<Value>,
    },
    /// Plain text.
    Text,
}

impl ChatRequest {
    /// The most tokens that can be billed for the request, by the model's own encoding: the messages, the schema, the
    /// framing of both, and the longest answer.
    pub fn most_usage(&self) -> TokenUsage {
        let schema = match &self.format {
            ResponseFormat::Schema { schema, .. } | ResponseFormat::Function { schema, .. } => schema.to_string(),
            ResponseFormat::Json | ResponseFormat::Text => String::new(),
        };
        let texts = self.messages.iter().map(|message| message.content.as_str()).chain([schema.as_str()]);
        let prompt = models::count_prompt(&self.model, texts) + FRAMING;
        let prompt_tokens = i64::try_from(prompt).unwrap_or(i64::MAX);
        TokenUsage {
            prompt_tokens,
            cached_tokens: 0,
            // All of it may be written to the cache, which is the highest price.
            cache_write_tokens: prompt_tokens,
            completion_tokens: self.max_completion_tokens.into(),
        }
    }

    /// About how many tokens OpenAI counts against the token limit when the request arrives: four bytes a token, four
    /// tokens for each message, and the longest answer.
    pub fn reserved_tokens(&self) -> i64 {
        let prompt: usize = self.messages.iter().map(|message| message.content.len() / 4 + 4).sum();
        i64::try_from(prompt).unwrap_or(i64::MAX).saturating_add(self.max_completion_tokens.into())
    }

    /// The request's body, as JSON.
    #[expect(clippy::expect_used, reason = "every key is a string, and nothing else can make it fail")]
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
            reasoning_effort: self.effort,
        };
        serde_json::to_string(&body).expect("the request can be written as JSON")
    }
}

/// The body of the request. It borrows everything, because thousands of requests wait at once.
#[derive(Serialize)]
struct Body<'a> {
    model: &'a str,
    messages: &'a [ChatMessage],
    max_completion_tokens: u32,
    /// `false`: OpenAI must not store CRM data.
    store: bool,
    #[serde(flatten)]
    shape: Shape<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    temperature: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reasoning_effort: Option<Effort>,
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

/// A schema that the answer, or the call of a function, must follow.
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

/// Tokens around a schema or the description of a function, which OpenAI does not document.
const FRAMING: usize = 50;

/// The answer of a chat completion.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Completion {
    /// The dated snapshot of the model that answered.
    pub model: String,
    /// Why it ended.
    pub finish: FinishReason,
    /// The text, or the arguments of the function call; empty for a refusal.
    pub content: String,
    /// The model's reason, if it refused to answer.
    pub refusal: Option<String>,
    /// The tokens that are billed; `None` when the answer does not say it, as those of some compatible servers.
    pub usage: Option<TokenUsage>,
    /// The id that OpenAI's support asks for.
    pub request_id: Option<String>,
    /// The duration of the attempt that was answered.
    pub latency: Duration,
}

/// Why an answer ended.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FinishReason {
    /// The answer is complete.
    Stop,
    /// The answer was truncated at the output limit and must not be used as a complete one.
    Length,
    /// The content filter withheld the answer.
    ContentFilter,
    /// The model called a function.
    ToolCalls,
    /// A value of a compatible server that OpenAI does not document.
    #[serde(other)]
    Other,
}

/// The body of the answer. Most fields are optional, because compatible servers leave them out.
#[derive(Deserialize)]
pub(crate) struct ChatResponse {
    #[serde(default)]
    model: String,
    choices: Vec<ResponseChoice>,
    #[serde(default)]
    usage: Value,
}

#[derive(Deserialize)]
struct ResponseChoice {
    finish_reason: Option<FinishReason>,
    message: ResponseMessage,
}

#[derive(Deserialize)]
struct ResponseMessage {
    content: Option<String>,
    refusal: Option<String>,
    #[serde(default)]
    tool_calls: Option<Vec<ResponseToolCall>>,
}

#[derive(Deserialize)]
struct ResponseToolCall {
    function: ResponseFunction,
}

#[derive(Deserialize)]
struct ResponseFunction {
    arguments: String,
}

impl ChatResponse {
    /// The first choice; only one is requested. `None` when the answer has no choice.
    pub(crate) fn completion(
        self,
        format: &ResponseFormat,
        request_id: Option<String>,
        latency: Duration,
    ) -> Option<Completion> {
        let choice = self.choices.into_iter().next()?;
        let call = choice.message.tool_calls.and_then(|calls| calls.into_iter().next());
        let content = call.map(|call| call.function.arguments).or(choice.message.content);
        // JSON within JSON: its escapes are still there.
        let content = match format {
            ResponseFormat::Text => content,
            _ => content.map(without_unstorable_escapes),
        };
        Some(Completion {
            model: shortened(&self.model, MAX_NAME),
            finish: choice.finish_reason.unwrap_or(FinishReason::Other),
            content: content.unwrap_or_default(),
            refusal: choice.message.refusal,
            usage: usage(&self.usage),
            request_id,
            latency,
        })
    }
}

/// What the answer says about its tokens. Compatible servers leave it out, or give numbers as floats.
fn usage(reported: &Value) -> Option<TokenUsage> {
    let tokens = |value: &Value| {
        let tokens = value.as_i64().or_else(|| {
            #[expect(clippy::cast_possible_truncation, reason = "a fraction of a token says nothing; a cast saturates")]
            value.as_f64().map(|tokens| tokens as i64)
        })?;
        (0..=MOST_TOKENS).contains(&tokens).then_some(tokens)
    };
    let prompt_tokens = tokens(&reported["prompt_tokens"]).filter(|tokens| *tokens > 0)?;
    let details = &reported["prompt_tokens_details"];
    let cached_tokens = tokens(&details["cached_tokens"]).unwrap_or(0).min(prompt_tokens);
    let cache_write_tokens = tokens(&details["cache_write_tokens"]).unwrap_or(0).min(prompt_tokens - cached_tokens);
    let completion_tokens = tokens(&reported["completion_tokens"])?;
    Some(TokenUsage { prompt_tokens, cached_tokens, cache_write_tokens, completion_tokens })
}

/// More than any model reads or writes. A larger number says nothing.
const MOST_TOKENS: i64 = 100_000_000;

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use domain::inference::TokenUsage;
    use serde_json::{Value, json};

    use super::{ChatMessage, ChatRequest, ChatResponse, Completion, ResponseFormat, Role, usage};

    #[test]
    fn usage_that_is_missing_or_no_number_of_tokens_says_nothing() {
        let reported = json!({"prompt_tokens": 300.0, "completion_tokens": 20,
            "prompt_tokens_details": {"cached_tokens": 500}});
        let expected =
            TokenUsage { prompt_tokens: 300, cached_tokens: 300, cache_write_tokens: 0, completion_tokens: 20 };
        assert_eq!(usage(&reported), Some(expected));
        let no_details = json!({"prompt_tokens": 300, "completion_tokens": 0, "prompt_tokens_details": null});
        assert!(usage(&no_details).is_some_and(|usage| usage.cached_tokens == 0));
        for reported in [
            Value::Null,
            json!({}),
            json!({"prompt_tokens": 0, "completion_tokens": 0}),
            json!({"prompt_tokens": -5, "completion_tokens": 1}),
            json!({"prompt_tokens": 300}),
            json!({"prompt_tokens": 1e18, "completion_tokens": 1}),
            json!({"prompt_tokens": "many", "completion_tokens": 1}),
        ] {
            assert_eq!(usage(&reported), None, "{reported}");
        }
    }

    fn completion(body: &str, format: &ResponseFormat) -> Completion {
        let response: ChatResponse = serde_json::from_str(body).expect("an answer");
        response.completion(format, None, Duration::ZERO).expect("a choice")
    }

    #[test]
    fn an_answer_without_usage_is_an_answer() {
        for usage in ["", r#","usage":null"#] {
            let body = format!(r#"{{"choices":[{{"message":{{"content":"{{}}"}}}}]{usage}}}"#);
            assert_eq!(completion(&body, &ResponseFormat::Json).usage, None);
        }
    }

    #[test]
    fn escapes_within_an_answer_in_json_are_cleaned_and_prose_keeps_its_backslashes() {
        let body = r#"{"choices":[{"message":{"content":"{\"a\":\"\\u0000x\\ud83d\"}"}}]}"#;
        assert_eq!(completion(body, &ResponseFormat::Json).content, r#"{"a":"\ufffdx\ufffd"}"#);
        assert_eq!(completion(body, &ResponseFormat::Text).content, r#"{"a":"\u0000x\ud83d"}"#);
    }

    #[test]
    fn the_most_that_a_request_can_use_counts_every_token_and_the_schema() {
        let request = |content: &str, format| ChatRequest {
            model: "gpt-4o".to_owned(),
            messages: vec![ChatMessage { role: Role::User, content: content.to_owned() }],
            format,
            temperature: None,
            effort: None,
            max_completion_tokens: 600,
        };
        // Every character is a token or more: a rule of four bytes for each would be too low.
        let symbols = "§¶†‡".repeat(100);
        let most = request(&symbols, ResponseFormat::Text).most_usage();
        assert!(most.prompt_tokens >= 400, "{most:?}");
        assert_eq!(most.completion_tokens, 600);
        let schema = Arc::new(json!({"type": "object", "properties": {"a_rather_long_name": {"type": "string"}}}));
        let with_schema = request(&symbols, ResponseFormat::Schema { name: "x".to_owned(), schema }).most_usage();
        assert!(with_schema.prompt_tokens > most.prompt_tokens);
    }
}
