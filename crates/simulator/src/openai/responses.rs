//! Simulated OpenAI: the endpoint of the Responses API. A request is taken as the chat completion that it amounts to, and the
//! model's answer is put into its words.

use std::sync::Arc;

use axum::{Extension, extract::State, http::HeaderMap, response::Response};
use bytes::Bytes;
use domain::{
    inference::Effort,
    model::{ModelApi, RequestedTier, Verbosity},
};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    chat::{admitted, answer_question},
    errors,
    request::{ChatMessage, ChatRequest, Function, NamedSchema, PromptCacheOptions, ResponseFormat, Tool},
};
use crate::{faults::Misbehaviour, state::Simulator};

/// The smallest `max_output_tokens` (OpenAI's OpenAPI file, `CreateResponse`).
const LEAST_OUTPUT: u32 = 16;

/// The parameters that the fleet sends; like OpenAI, the simulator refuses names that it does not know.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ResponsesRequest {
    model: String,
    input: Vec<ChatMessage>,
    #[serde(default)]
    text: TextOptions,
    #[serde(default)]
    tools: Vec<FunctionTool>,
    #[serde(default)]
    tool_choice: Option<ChosenFunction>,
    #[serde(default)]
    parallel_tool_calls: Option<bool>,
    #[serde(default)]
    max_output_tokens: Option<u32>,
    #[serde(default)]
    temperature: Option<f64>,
    #[serde(default)]
    reasoning: Reasoning,
    #[serde(default)]
    service_tier: Option<RequestedTier>,
    #[serde(default)]
    prompt_cache_key: Option<String>,
    #[serde(default)]
    prompt_cache_options: Option<PromptCacheOptions>,
    #[serde(default)]
    store: Option<bool>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct TextOptions {
    format: Option<TextFormat>,
    verbosity: Option<Verbosity>,
}

#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
enum TextFormat {
    Text,
    JsonObject,
    JsonSchema { name: String, strict: bool, schema: Value },
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Reasoning {
    effort: Option<Effort>,
}

/// A function that the model may call. `strict` and `parameters` are required, unlike in chat completions (OpenAI's OpenAPI file,
/// `FunctionTool`).
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FunctionTool {
    #[serde(rename = "type")]
    kind: String,
    name: String,
    strict: bool,
    parameters: Value,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ChosenFunction {
    #[serde(rename = "type")]
    kind: String,
    name: String,
}

/// The endpoint.
pub(super) async fn respond(
    State(simulator): State<Arc<Simulator>>,
    headers: HeaderMap,
    misbehaviour: Option<Extension<Misbehaviour>>,
    body: Bytes,
) -> Response {
    let request: ResponsesRequest = match admitted(&simulator, &headers, &body) {
        Ok(request) => request,
        Err(refusal) => return *refusal,
    };
    if request.max_output_tokens.is_some_and(|most| most < LEAST_OUTPUT) {
        let message = format!("Invalid 'max_output_tokens': integer below minimum value. Expected >= {LEAST_OUTPUT}.");
        return errors::invalid_request(&message, Some("max_output_tokens"), Some("integer_below_min_value"));
    }
    // Parsed once more, as what the answer repeats of the request.
    let sent = serde_json::from_slice(&body).unwrap_or_default();
    let question = request.into_chat();
    let as_answer = |answer| as_response(&answer, &sent);
    answer_question(&simulator, &headers, misbehaviour, &question, ModelApi::Responses, as_answer).await
}

impl ResponsesRequest {
    fn into_chat(self) -> ChatRequest {
        let function = |name, parameters, strict| Function { name, parameters, strict };
        ChatRequest {
            model: self.model,
            messages: self.input,
            response_format: self.text.format.map(|format| match format {
                TextFormat::Text => ResponseFormat::Text,
                TextFormat::JsonObject => ResponseFormat::JsonObject,
                TextFormat::JsonSchema { name, strict, schema } => {
                    ResponseFormat::JsonSchema { json_schema: NamedSchema { name, strict, schema } }
                }
            }),
            tools: (self.tools.into_iter())
                .map(|tool| Tool { kind: tool.kind, function: function(tool.name, Some(tool.parameters), tool.strict) })
                .collect(),
            tool_choice: self
                .tool_choice
                .map(|choice| Tool { kind: choice.kind, function: function(choice.name, None, false) }),
            max_completion_tokens: self.max_output_tokens,
            temperature: self.temperature,
            reasoning_effort: self.reasoning.effort,
            verbosity: self.text.verbosity,
            service_tier: self.service_tier,
            _prompt_cache_key: self.prompt_cache_key,
            prompt_cache_options: self.prompt_cache_options,
            parallel_tool_calls: self.parallel_tool_calls,
            _store: self.store,
        }
    }
}

/// The answer to the request `sent`, which it repeats in part, as OpenAI's OpenAPI file has it (`Response`).
fn as_response(answer: &Value, sent: &Value) -> Value {
    let choice = &answer["choices"][0];
    let incomplete = match choice["finish_reason"].as_str() {
        Some("length") => json!({"reason": "max_output_tokens"}),
        Some("content_filter") => json!({"reason": "content_filter"}),
        _ => Value::Null,
    };
    let status = if incomplete.is_null() { "completed" } else { "incomplete" };
    let usage = &answer["usage"];
    let reasoning_tokens = &usage["completion_tokens_details"]["reasoning_tokens"];
    let mut output = Vec::new();
    if reasoning_tokens.as_i64().is_some_and(|tokens| tokens > 0) {
        output.push(json!({"type": "reasoning", "id": id("rs"), "summary": []}));
    }
    output.extend(item(&choice["message"], status));
    let or = |value: &Value, default: Value| if value.is_null() { default } else { value.clone() };
    json!({
        "id": id("resp"),
        "object": "response",
        "created_at": answer["created"],
        "completed_at": if status == "completed" { answer["created"].clone() } else { Value::Null },
        "status": status,
        "background": false,
        "error": null,
        "incomplete_details": incomplete,
        "instructions": null,
        "max_output_tokens": sent["max_output_tokens"],
        "model": answer["model"],
        "output": if choice.is_null() { Value::Null } else { output.into() },
        "parallel_tool_calls": or(&sent["parallel_tool_calls"], true.into()),
        "previous_response_id": null,
        "prompt_cache_key": sent["prompt_cache_key"],
        "reasoning": {"effort": sent["reasoning"]["effort"], "summary": null},
        "service_tier": answer["service_tier"],
        "temperature": or(&sent["temperature"], 1.0.into()),
        "text": {
            "format": or(&sent["text"]["format"], json!({"type": "text"})),
            "verbosity": or(&sent["text"]["verbosity"], "medium".into()),
        },
        "tool_choice": or(&sent["tool_choice"], "auto".into()),
        "tools": or(&sent["tools"], json!([])),
        "top_p": 1.0,
        "truncation": "disabled",
        "usage": if usage.is_null() { Value::Null } else { json!({
            "input_tokens": usage["prompt_tokens"],
            "input_tokens_details": {
                "cached_tokens": usage["prompt_tokens_details"]["cached_tokens"],
                "cache_write_tokens": usage["prompt_tokens_details"]["cache_write_tokens"],
            },
            "output_tokens": usage["completion_tokens"],
            "output_tokens_details": {"reasoning_tokens": reasoning_tokens},
            "total_tokens": usage["total_tokens"],
        }) },
        "metadata": {},
    })
}

/// The item of the output that holds what a chat completion's message holds; none for an empty one.
fn item(message: &Value, status: &str) -> Option<Value> {
    if let Some(call) = message["tool_calls"].get(0) {
        let function = &call["function"];
        return Some(json!({"type": "function_call", "id": id("fc"), "call_id": call["id"], "status": status,
            "name": function["name"], "arguments": function["arguments"]}));
    }
    let part = match (message["refusal"].as_str(), message["content"].as_str()) {
        (Some(refusal), _) => json!({"type": "refusal", "refusal": refusal}),
        (None, Some(text)) if !text.is_empty() => {
            json!({"type": "output_text", "text": text, "annotations": [], "logprobs": []})
        }
        _ => return None,
    };
    Some(json!({"type": "message", "id": id("msg"), "role": "assistant", "status": status, "content": [part]}))
}

fn id(kind: &str) -> String {
    format!("{kind}_{}", uuid::Uuid::now_v7().simple())
}
