//! What a model is asked, and how a chat completion says it.

use std::sync::{Arc, LazyLock};

use domain::{
    inference::{Effort, TokenUsage},
    model::{RequestedTier, Verbosity},
};
use serde::Serialize;
use serde_json::{Value, value::RawValue};

use crate::{
    lenient,
    prompt_cache::{CacheOptions, Explicit, SentMessage},
    tokens::{self, SharedCounts},
};

/// What a model is asked, through either API.
#[derive(Debug, Clone)]
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
    /// What it asks for beside the answer.
    pub options: RequestOptions,
    /// The longest answer, in tokens, reasoning included. OpenAI counts all of it against the token limit, before the answer.
    pub max_completion_tokens: u32,
}

/// What a request asks for beside the answer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RequestOptions {
    /// How many words the model makes; not sent when `None`, because other models refuse the parameter.
    pub verbosity: Option<Verbosity>,
    /// How fast and how dear the answer is.
    pub service_tier: RequestedTier,
    /// What is cached.
    pub cache: CacheOptions,
}

/// A message of the conversation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ChatMessage {
    /// The author.
    pub role: Role,
    /// The text. Those that thousands of waiting requests have in common are shared.
    pub content: Arc<str>,
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
#[derive(Debug, Clone)]
pub enum ResponseFormat {
    /// Structured outputs (gpt-4o-2024-08-06 and later): the answer follows a schema.
    Schema {
        /// The name: 1–64 of `[A-Za-z0-9_-]`.
        name: String,
        /// The schema, within OpenAI's strict subset, as it is sent: its JSON is not written anew for each request.
        schema: Arc<RawValue>,
    },
    /// JSON mode: any JSON object. The word JSON must be in the messages, or OpenAI answers 400.
    Json,
    /// A call of one function whose strict parameters are a schema; for models without structured outputs.
    Function {
        /// The name: 1–64 of `[A-Za-z0-9_-]`.
        name: String,
        /// The schema, within OpenAI's strict subset.
        schema: Arc<RawValue>,
    },
    /// Plain text.
    Text,
}

/// Instructions and schemas; a process asks with a few of them, thousands of times.
static SHARED: LazyLock<SharedCounts> = LazyLock::new(SharedCounts::default);

/// Which part of a usual text JSON adds to it by escapes, of line ends and quotation marks: one in so many bytes.
const ESCAPED_PART: usize = 16;

/// What a request has beside messages and schema, in bytes: names, options and ids.
const FRAME_BYTES: usize = 512;

impl ChatRequest {
    /// The most tokens that can be billed for the request: the messages, the schema, the framing of both, counted by the model's own
    /// encoding, and the longest answer.
    pub fn most_usage(&self) -> TokenUsage {
        self.most_with(self.prompt_tokens())
    }

    /// A higher bound of the same, which needs no count: no token is shorter than a byte. The tables of an encoding take 90 MB.
    pub fn most_usage_by_length(&self) -> TokenUsage {
        let messages = self.messages.iter().map(|message| message.content.len());
        self.most_with(in_all(messages.chain([self.schema().len()])))
    }

    fn most_with(&self, prompt_tokens: i64) -> TokenUsage {
        TokenUsage {
            prompt_tokens,
            cached_tokens: 0,
            // All of it may be written to the cache, which is the highest price.
            cache_write_tokens: prompt_tokens,
            completion_tokens: self.max_completion_tokens.max(LEAST_OUTPUT).into(),
        }
    }

    /// The tokens of the prompt, with schema and framing, by the model's own encoding.
    pub fn prompt_tokens(&self) -> i64 {
        // Instructions and schema are those of a playbook; only what others wrote is counted anew.
        let of_messages = self.messages.iter().map(|message| match message.role {
            Role::System => SHARED.count(&self.model, &message.content),
            Role::User | Role::Assistant => tokens::count_tokens(&self.model, &message.content),
        });
        in_all(of_messages.chain([SHARED.count(&self.model, self.schema())]))
    }

    /// Whether the request can have used that much: a token is at least a byte of the prompt, and no model answers more than
    /// the longest answer, not even where a server does not know `max_completion_tokens`. More says nothing about its cost.
    fn can_use(&self, usage: &TokenUsage) -> bool {
        let bytes = self.bytes();
        let longest_answer = LONGEST_ANSWER.max(self.max_completion_tokens.into());
        usage.prompt_tokens <= i64::try_from(bytes + ADDED).unwrap_or(i64::MAX)
            && usage.completion_tokens <= longest_answer
    }

    /// What the answer to this request says about its tokens; `None` where that says nothing.
    pub(crate) fn read_usage(&self, reported: &Value) -> Option<TokenUsage> {
        lenient::usage(reported).filter(|usage| self.can_use(usage))
    }

    /// The length of messages and schema.
    fn bytes(&self) -> usize {
        self.messages.iter().map(|message| message.content.len()).sum::<usize>() + self.schema().len()
    }

    fn schema(&self) -> &str {
        match &self.format {
            ResponseFormat::Schema { schema, .. } | ResponseFormat::Function { schema, .. } => schema.get(),
            ResponseFormat::Json | ResponseFormat::Text => "",
        }
    }

    /// About how many tokens OpenAI counts against the token limit when the request arrives: four bytes a token, four
    /// tokens for each message, and the longest answer.
    pub fn reserved_tokens(&self) -> i64 {
        let prompt: usize = self.messages.iter().map(|message| message.content.len() / 4 + 4).sum();
        i64::try_from(prompt).unwrap_or(i64::MAX).saturating_add(self.max_completion_tokens.into())
    }

    /// The part of the body that both APIs have.
    pub(crate) fn common(&self) -> CommonOptions<'_> {
        let RequestOptions { service_tier, cache, .. } = &self.options;
        CommonOptions {
            model: &self.model,
            store: false,
            temperature: self.temperature,
            // `auto` is what a request means that names none.
            service_tier: (*service_tier != RequestedTier::Auto).then(|| service_tier.as_str()),
            prompt_cache_key: cache.key.as_deref(),
            prompt_cache_options: cache.sent(),
        }
    }

    /// The body of the request as a chat completion, in JSON.
    pub(crate) fn body(&self) -> String {
        let body = Body {
            common: self.common(),
            messages: self.options.cache.messages(&self.messages, "text"),
            max_completion_tokens: self.max_completion_tokens,
            shape: match &self.format {
                ResponseFormat::Schema { name, schema } => Shape::Answer {
                    response_format: AnswerShape::JsonSchema { json_schema: NamedSchema::schema(name, schema) },
                },
                ResponseFormat::Json => Shape::Answer { response_format: AnswerShape::JsonObject },
                ResponseFormat::Function { name, schema } => Shape::Call {
                    tools: [Tool::Function { function: NamedSchema::function(name, schema) }],
                    tool_choice: Tool::Function { function: Named { name } },
                    parallel_tool_calls: false,
                },
                ResponseFormat::Text => Shape::Free {},
            },
            reasoning_effort: self.effort,
            verbosity: self.options.verbosity,
        };
        self.json(&body)
    }

    /// `body`, which is this request as one of the APIs has it, in JSON. It has room for usual texts from the beginning: thousands are written
    /// at about the same moment, and the last doubling of a growing one may be half empty.
    #[expect(clippy::expect_used, reason = "every key is a string, nothing else can make it fail, and JSON is UTF-8")]
    pub(crate) fn json(&self, body: &impl Serialize) -> String {
        let bytes = self.bytes();
        let mut json = Vec::with_capacity(bytes + bytes / ESCAPED_PART + FRAME_BYTES);
        serde_json::to_writer(&mut json, body).expect("the request can be written as JSON");
        String::from_utf8(json).expect("JSON is UTF-8")
    }
}

/// The body of the request. It borrows everything, because thousands of requests wait at once.
#[derive(Serialize)]
struct Body<'a> {
    #[serde(flatten)]
    common: CommonOptions<'a>,
    messages: Vec<SentMessage<'a>>,
    max_completion_tokens: u32,
    #[serde(flatten)]
    shape: Shape<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reasoning_effort: Option<Effort>,
    #[serde(skip_serializing_if = "Option::is_none")]
    verbosity: Option<Verbosity>,
}

/// What a request says in the same words through either API.
#[derive(Serialize)]
pub(crate) struct CommonOptions<'a> {
    model: &'a str,
    /// `false`: OpenAI must not store CRM data, which the Responses API does by default.
    store: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    temperature: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    service_tier: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    prompt_cache_key: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    prompt_cache_options: Option<Explicit>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Shape<'a> {
    Answer {
        response_format: AnswerShape<'a>,
    },
    Call {
        tools: [Tool<NamedSchema<'a>>; 1],
        tool_choice: Tool<Named<'a>>,
        /// `false`: one call is one answer (OpenAI's guide to function calling).
        parallel_tool_calls: bool,
    },
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
    schema: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    parameters: Option<&'a RawValue>,
}

impl<'a> NamedSchema<'a> {
    fn schema(name: &'a str, schema: &'a RawValue) -> Self {
        Self { name, strict: true, schema: Some(schema), parameters: None }
    }

    fn function(name: &'a str, parameters: &'a RawValue) -> Self {
        Self { name, strict: true, schema: None, parameters: Some(parameters) }
    }
}

/// The smallest limit of an answer that the Responses API takes (OpenAI's OpenAPI file, `CreateResponse`).
pub(crate) const LEAST_OUTPUT: u32 = 16;

/// The tokens of a prompt whose messages and schema have so many.
fn in_all(parts: impl Iterator<Item = usize>) -> i64 {
    i64::try_from(tokens::prompt_of(parts) + FRAMING).unwrap_or(i64::MAX)
}

/// Tokens around a schema or the description of a function, which OpenAI does not document.
const FRAMING: usize = 50;

/// Tokens that servers add to a prompt, generously: templates and instructions of their own.
const ADDED: usize = 5_000;

/// The longest answer of any model, in tokens.
const LONGEST_ANSWER: i64 = 128_000;

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::{json, value::to_raw_value};

    use super::{ChatMessage, ChatRequest, RequestOptions, ResponseFormat, Role, TokenUsage};

    #[test]
    fn the_most_that_a_request_can_use_counts_every_token_and_the_schema() {
        let request = |content: &str, format| ChatRequest {
            model: "gpt-4o".to_owned(),
            messages: vec![ChatMessage { role: Role::User, content: content.into() }],
            format,
            temperature: None,
            effort: None,
            options: RequestOptions::default(),
            max_completion_tokens: 600,
        };
        // Every character is a token or more: a rule of four bytes for each would be too low.
        let symbols = "§¶†‡".repeat(100);
        let most = request(&symbols, ResponseFormat::Text).most_usage();
        assert!(most.prompt_tokens >= 400, "{most:?}");
        let by_length = request(&symbols, ResponseFormat::Text).most_usage_by_length();
        assert!(by_length.prompt_tokens >= most.prompt_tokens, "{by_length:?}");
        assert_eq!(most.completion_tokens, 600);
        let schema = json!({"type": "object", "properties": {"a_rather_long_name": {"type": "string"}}});
        let schema = Arc::from(to_raw_value(&schema).expect("JSON"));
        let with_schema = request(&symbols, ResponseFormat::Schema { name: "x".to_owned(), schema }).most_usage();
        assert!(with_schema.prompt_tokens > most.prompt_tokens);
        let request = request(&symbols, ResponseFormat::Text);
        assert!(request.can_use(&most));
        let huge = 1_000_000;
        assert!(!request.can_use(&TokenUsage { prompt_tokens: huge, ..most }));
        assert!(!request.can_use(&TokenUsage { completion_tokens: huge, ..most }));
    }
}
