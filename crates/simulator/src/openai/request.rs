//! The body of a chat completion as OpenAI takes it, and what OpenAI refuses in it and in the same question through the Responses
//! API.

use axum::response::Response;
use domain::{
    inference::Effort,
    model::{ModelApi, RequestedTier, Verbosity},
};
use openai::models::{self, FunctionCalls};
use serde::Deserialize;
use serde_json::Value;

use super::{errors, schema};

/// The parameters that the fleet sends; like OpenAI, the simulator refuses names that it does not know.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ChatRequest {
    pub(super) model: String,
    pub(super) messages: Vec<ChatMessage>,
    #[serde(default)]
    pub(super) response_format: Option<ResponseFormat>,
    #[serde(default)]
    pub(super) tools: Vec<Tool>,
    #[serde(default)]
    pub(super) tool_choice: Option<Tool>,
    #[serde(default)]
    pub(super) parallel_tool_calls: Option<bool>,
    #[serde(default)]
    pub(super) max_completion_tokens: Option<u32>,
    #[serde(default)]
    pub(super) temperature: Option<f64>,
    #[serde(default)]
    pub(super) reasoning_effort: Option<Effort>,
    #[serde(default)]
    pub(super) verbosity: Option<Verbosity>,
    #[serde(default)]
    pub(super) service_tier: Option<RequestedTier>,
    #[serde(default, rename = "prompt_cache_key")]
    pub(super) _prompt_cache_key: Option<String>,
    #[serde(default)]
    pub(super) prompt_cache_options: Option<PromptCacheOptions>,
    #[serde(default, rename = "store")]
    pub(super) _store: Option<bool>,
}

/// Whether OpenAI chooses itself up to where a prompt is cached.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PromptCacheOptions {
    pub(super) mode: CacheMode,
}

#[derive(Deserialize, Clone, Copy, PartialEq)]
#[serde(rename_all = "snake_case")]
pub(super) enum CacheMode {
    Implicit,
    Explicit,
}

#[derive(Deserialize)]
#[serde(try_from = "SentMessage")]
pub(super) struct ChatMessage {
    pub(super) role: Role,
    pub(super) content: String,
    /// Whether the end of what is to be cached is marked here.
    pub(super) is_breakpoint: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SentMessage {
    role: Role,
    content: Content,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Content {
    Text(String),
    Parts(Vec<Part>),
}

/// A part of a message: `text` in chat completions, `input_text` in responses.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Part {
    #[serde(rename = "type")]
    kind: String,
    text: String,
    #[serde(default)]
    prompt_cache_breakpoint: Option<PromptCacheOptions>,
}

impl TryFrom<SentMessage> for ChatMessage {
    type Error = String;

    fn try_from(SentMessage { role, content }: SentMessage) -> Result<Self, String> {
        let parts = match content {
            Content::Text(content) => return Ok(Self { role, content, is_breakpoint: false }),
            Content::Parts(parts) => parts,
        };
        if let Some(part) = parts.iter().find(|part| !["text", "input_text"].contains(&part.kind.as_str())) {
            return Err(format!("Invalid value: '{}'. Supported values are: 'text'", part.kind));
        }
        let is_breakpoint = parts.iter().any(|part| part.prompt_cache_breakpoint.is_some());
        Ok(Self { role, content: parts.into_iter().map(|part| part.text).collect(), is_breakpoint })
    }
}

#[derive(Deserialize, PartialEq)]
#[serde(rename_all = "lowercase")]
pub(super) enum Role {
    Developer,
    System,
    User,
    Assistant,
}

#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum ResponseFormat {
    Text,
    JsonObject,
    JsonSchema { json_schema: NamedSchema },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NamedSchema {
    pub(super) name: String,
    pub(super) strict: bool,
    pub(super) schema: Value,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Tool {
    #[serde(rename = "type")]
    pub(super) kind: String,
    pub(super) function: Function,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Function {
    pub(super) name: String,
    #[serde(default)]
    pub(super) parameters: Option<Value>,
    #[serde(default)]
    pub(super) strict: bool,
}

/// The name of a chat completion's parameter in the errors of `api`.
pub(super) fn param(api: ModelApi, name: &'static str) -> &'static str {
    match (api, name) {
        (ModelApi::Responses, "messages") => "input",
        (ModelApi::Responses, "response_format") => "text.format",
        (ModelApi::Responses, "response_format.json_schema.name") => "text.format.name",
        (ModelApi::Responses, "max_completion_tokens") => "max_output_tokens",
        (ModelApi::Responses, "reasoning_effort") => "reasoning.effort",
        (ModelApi::Responses, "verbosity") => "text.verbosity",
        (ModelApi::Responses, "tools[0].function.name") => "tools[0].name",
        (ModelApi::Responses, "tools[0].function.parameters") => "tools[0].parameters",
        (_, name) => name,
    }
}

/// Answers 400 to what OpenAI refuses before the model runs.
pub(super) fn check(request: &ChatRequest, facts: &models::Model, api: ModelApi) -> Result<(), Box<Response>> {
    let refuse = |message: &str, name: &'static str| {
        Err(Box::new(errors::invalid_request(message, Some(param(api, name)), None)))
    };
    if request.messages.is_empty() {
        return refuse("[] is too short - 'messages'", "messages");
    }
    if request.temperature.is_some_and(|temperature| !(0.0..=2.0).contains(&temperature)) {
        return refuse("temperature must be between 0 and 2", "temperature");
    }
    if request.max_completion_tokens.is_some_and(|max| max == 0 || max > facts.max_output) {
        let message =
            format!("max_tokens is too large: this model supports at most {} completion tokens.", facts.max_output);
        return refuse(&message, "max_completion_tokens");
    }
    // Flex and fast mode are offered for some models only (OpenAI's guides to both).
    let tier = request.service_tier.unwrap_or_default();
    if facts.price.is_some_and(|price| !price.has_tier(tier)) {
        return refuse(
            &format!("Invalid service_tier argument: {tier} is not available for this model."),
            "service_tier",
        );
    }
    if request.verbosity.is_some() && !facts.verbosity {
        return refuse("Unsupported parameter: 'verbosity' is not supported with this model.", "verbosity");
    }
    let marks = request.messages.iter().any(|message| message.is_breakpoint);
    if (marks || request.prompt_cache_options.is_some()) && !facts.has_cache_breakpoints() {
        let message = "Unsupported parameter: 'prompt_cache_options' is not supported with this model.";
        return refuse(message, "prompt_cache_options");
    }
    check_reasoning(request, facts, api)?;
    check_tools(request, api)?;
    match &request.response_format {
        Some(ResponseFormat::JsonObject)
            if !request.messages.iter().any(|m| m.content.to_lowercase().contains("json")) =>
        {
            refuse(
                "'messages' must contain the word 'json' in some form, to use 'response_format' of type 'json_object'.",
                "messages",
            )
        }
        Some(ResponseFormat::JsonSchema { .. }) if facts.name == "gpt-4-turbo" => refuse(
            "Invalid parameter: 'response_format' of type 'json_schema' is not supported with this model.",
            "response_format",
        ),
        Some(ResponseFormat::JsonSchema { json_schema }) => {
            if !is_name(&json_schema.name) {
                return refuse("Invalid 'response_format.json_schema.name'", "response_format.json_schema.name");
            }
            match schema::strict_flaw(&json_schema.schema) {
                Some(flaw) if json_schema.strict => refuse(
                    &format!("Invalid schema for response_format '{}': {flaw}", json_schema.name),
                    "response_format",
                ),
                _ => Ok(()),
            }
        }
        _ => Ok(()),
    }
}

/// Whether `name` may name a schema or a function: 1 to 64 of `[A-Za-z0-9_-]`.
fn is_name(name: &str) -> bool {
    let valid = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    (1..=64).contains(&name.len()) && name.chars().all(valid)
}

/// What a model that reasons refuses (OpenAI's deployment checklist and model pages).
fn check_reasoning(request: &ChatRequest, facts: &models::Model, api: ModelApi) -> Result<(), Box<Response>> {
    let refuse = |message: &str, name: &'static str| {
        Err(Box::new(errors::invalid_request(message, Some(param(api, name)), Some("unsupported_value"))))
    };
    let Some(reasoning) = &facts.reasoning else {
        return match request.reasoning_effort {
            Some(_) => refuse("Unrecognized request argument supplied: reasoning_effort", "reasoning_effort"),
            None => Ok(()),
        };
    };
    let effort = facts.effort(request.reasoning_effort);
    if !reasoning.efforts.contains(&effort) {
        return refuse(
            &format!("Unsupported value: 'reasoning_effort' does not support '{effort}'"),
            "reasoning_effort",
        );
    }
    if effort != Effort::None && request.temperature.is_some() {
        return refuse("Unsupported parameter: 'temperature' is not supported with this model.", "temperature");
    }
    let calls_functions = match reasoning.functions {
        // (OpenAI's deployment checklist: "use Responses")
        _ if api == ModelApi::Responses => true,
        FunctionCalls::Never => false,
        FunctionCalls::WithoutReasoning => effort == Effort::None,
    };
    if !request.tools.is_empty() && !calls_functions {
        return refuse("Function tools with reasoning are not supported in chat completions; use Responses.", "tools");
    }
    Ok(())
}

fn check_tools(request: &ChatRequest, api: ModelApi) -> Result<(), Box<Response>> {
    let refuse = |message: &str, name: &'static str| {
        Err(Box::new(errors::invalid_request(message, Some(param(api, name)), None)))
    };
    if request.parallel_tool_calls.is_some() && request.tools.is_empty() {
        let message = "Invalid value for 'parallel_tool_calls': 'parallel_tool_calls' is only allowed when 'tools' are specified.";
        return refuse(message, "parallel_tool_calls");
    }
    for tool in &request.tools {
        if tool.kind != "function" || !is_name(&tool.function.name) {
            return refuse("Invalid 'tools[0].function.name'", "tools[0].function.name");
        }
        let flaw = tool.function.parameters.as_ref().and_then(schema::strict_flaw).filter(|_| tool.function.strict);
        if let Some(flaw) = flaw {
            let message = format!("Invalid schema for function '{}': {flaw}", tool.function.name);
            return refuse(&message, "tools[0].function.parameters");
        }
    }
    match &request.tool_choice {
        Some(choice) if !request.tools.iter().any(|tool| tool.function.name == choice.function.name) => {
            refuse(&format!("Tool choice '{}' not found in 'tools' parameter.", choice.function.name), "tool_choice")
        }
        _ => Ok(()),
    }
}
