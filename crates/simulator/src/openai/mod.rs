//! Simulated OpenAI: chat completions and models.

pub(crate) mod errors;
pub(crate) mod limits;
mod rules;
mod schema;

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use axum::{
    Extension, Json, Router,
    extract::{Path, State},
    http::{HeaderMap, HeaderName, HeaderValue, header},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use bytes::Bytes;
use openai::models;
use serde::Deserialize;
use serde_json::{Value, json};
use time::OffsetDateTime;

use crate::{
    Simulator,
    faults::{FaultKind, Misbehaviour},
    lock,
};

pub(crate) fn router() -> Router<Arc<Simulator>> {
    Router::new().route("/v1/chat/completions", post(complete)).route("/v1/models/{model}", get(model))
}

/// The parameters that the fleet may send; OpenAI refuses names it does not know.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Request {
    model: String,
    messages: Vec<Message>,
    #[serde(default)]
    response_format: Option<Format>,
    #[serde(default)]
    tools: Vec<Tool>,
    #[serde(default)]
    tool_choice: Option<Tool>,
    #[serde(default)]
    max_completion_tokens: Option<u32>,
    #[serde(default)]
    temperature: Option<f64>,
    #[serde(default, rename = "store")]
    _store: Option<bool>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Message {
    role: Role,
    content: String,
}

#[derive(Deserialize, PartialEq)]
#[serde(rename_all = "lowercase")]
enum Role {
    Developer,
    System,
    User,
    Assistant,
}

#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
enum Format {
    Text,
    JsonObject,
    JsonSchema { json_schema: NamedSchema },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NamedSchema {
    name: String,
    strict: bool,
    schema: Value,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Tool {
    #[serde(rename = "type")]
    kind: String,
    function: Function,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Function {
    name: String,
    #[serde(default)]
    parameters: Option<Value>,
    #[serde(default)]
    strict: bool,
}

fn is_admitted(simulator: &Simulator, headers: &HeaderMap) -> bool {
    let given = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
    given == Some(simulator.config.api_key.as_str())
}

async fn model(State(simulator): State<Arc<Simulator>>, Path(name): Path<String>, headers: HeaderMap) -> Response {
    match models::find(&name) {
        _ if !is_admitted(&simulator, &headers) => errors::invalid_api_key(),
        Some(_) => {
            Json(json!({"id": name, "object": "model", "created": 1_715_367_049, "owned_by": "system"})).into_response()
        }
        None => errors::model_not_found(&name),
    }
}

async fn complete(
    State(simulator): State<Arc<Simulator>>,
    headers: HeaderMap,
    misbehaviour: Option<Extension<Misbehaviour>>,
    body: Bytes,
) -> Response {
    if !is_admitted(&simulator, &headers) {
        return errors::invalid_api_key();
    }
    let request: Request = match serde_json::from_slice(&body) {
        Ok(request) => request,
        Err(error) => return errors::invalid_request(&error.to_string(), None, None),
    };
    let Some(facts) = models::find(&request.model) else {
        return errors::model_not_found(&request.model);
    };
    if let Err(response) = check(&request, &facts) {
        return *response;
    }
    let prompt_tokens = models::count_prompt(&request.model, request.messages.iter().map(|m| m.content.as_str()));
    let room = request.max_completion_tokens.unwrap_or(facts.max_output);
    if prompt_tokens + room as usize > facts.window {
        let message = format!(
            "This model's maximum context length is {} tokens. However, you requested {} tokens.",
            facts.window,
            prompt_tokens + room as usize
        );
        return errors::invalid_request(&message, Some("messages"), Some("context_length_exceeded"));
    }
    let limits = lock(&simulator.openai_limits).take(prompt_tokens + room as usize);
    let limits = match limits {
        Ok(limits) => limits,
        Err(response) => return *response,
    };
    simulator.open_questions.fetch_add(1, Ordering::Relaxed);
    tokio::time::sleep(Duration::from_millis(simulator.config.model_latency_ms)).await;
    simulator.open_questions.fetch_sub(1, Ordering::Relaxed);
    let misbehaviour = misbehaviour.map(|Extension(Misbehaviour(kind))| kind);
    let mut response = Json(answer(&request, prompt_tokens, room, misbehaviour.as_ref())).into_response();
    let headers = response.headers_mut();
    headers.extend(limits);
    let id = format!("req_{}", uuid::Uuid::now_v7().simple());
    if let Ok(id) = HeaderValue::from_str(&id) {
        headers.insert("x-request-id", id);
    }
    headers.insert("openai-version", HeaderValue::from_static("2020-10-01"));
    headers.insert(HeaderName::from_static("openai-processing-ms"), simulator.config.model_latency_ms.into());
    response
}

/// What OpenAI refuses with a 400 before it asks the model.
fn check(request: &Request, facts: &models::Model) -> Result<(), Box<Response>> {
    let refuse = |message: &str, param: &str| Err(Box::new(errors::invalid_request(message, Some(param), None)));
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
    check_tools(request)?;
    match &request.response_format {
        Some(Format::JsonObject) if !request.messages.iter().any(|m| m.content.to_lowercase().contains("json")) => {
            refuse(
                "'messages' must contain the word 'json' in some form, to use 'response_format' of type 'json_object'.",
                "messages",
            )
        }
        Some(Format::JsonSchema { .. }) if facts.name == "gpt-4-turbo" => refuse(
            "Invalid parameter: 'response_format' of type 'json_schema' is not supported with this model.",
            "response_format",
        ),
        Some(Format::JsonSchema { json_schema }) => {
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

/// What names of schemas and functions are made of.
fn is_name(name: &str) -> bool {
    let valid = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    (1..=64).contains(&name.len()) && name.chars().all(valid)
}

fn check_tools(request: &Request) -> Result<(), Box<Response>> {
    let refuse = |message: &str, param: &str| Err(Box::new(errors::invalid_request(message, Some(param), None)));
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

fn answer(request: &Request, prompt_tokens: usize, room: u32, misbehaviour: Option<&FaultKind>) -> Value {
    // JSON mode knows no schema but the one in the instructions; without one the model makes one up.
    let called = request.tool_choice.as_ref();
    let tool = called.and_then(|choice| request.tools.iter().find(|tool| tool.function.name == choice.function.name));
    let schema = match &request.response_format {
        Some(Format::JsonSchema { json_schema }) => Some(json_schema.schema.clone()),
        None if tool.is_some() => tool.and_then(|tool| tool.function.parameters.clone()),
        _ => request.messages.iter().find_map(|message| {
            let start = message.content.find('{').filter(|_| message.role == Role::System)?;
            serde_json::Deserializer::from_str(&message.content[start..]).into_iter::<Value>().next()?.ok()
        }),
    };
    let data = request.messages.iter().find(|message| message.role == Role::User).map_or("", |m| m.content.as_str());
    let instructions = request.messages.iter().find(|message| message.role == Role::System);
    let instructions = instructions.map_or("", |message| message.content.as_str());
    let is_prose = request.response_format.is_none() && tool.is_none();
    let mut content = Some(if is_prose {
        rules::condense(data)
    } else {
        rules::answer(schema.as_ref(), data, instructions, misbehaviour).to_string()
    });
    let mut refusal = None;
    let mut finish = "stop";
    match misbehaviour {
        Some(FaultKind::Prose) => {
            content = Some("Sure! Here is what I found about this lead: they seem nice.".to_owned());
        }
        Some(FaultKind::Refusal) => {
            refusal = Some("I'm sorry, I can't help with that.");
            content = None;
        }
        Some(FaultKind::Length) => {
            finish = "length";
            content = content.map(|text| text[..text.floor_char_boundary(text.len() / 2)].to_owned());
        }
        Some(FaultKind::ContentFilter) => {
            finish = "content_filter";
            content = Some(String::new());
        }
        _ => {}
    }
    let mut completion_tokens = models::count_tokens(&request.model, content.as_deref().unwrap_or_default());
    if completion_tokens > room as usize {
        finish = "length";
        content = content.map(|text| text[..text.floor_char_boundary(text.len() / 4)].to_owned());
        completion_tokens = room as usize;
    }
    let mut message = json!({"role": "assistant", "content": content, "refusal": refusal, "annotations": []});
    if let (Some(tool), Some(arguments)) = (tool, content.filter(|_| refusal.is_none())) {
        message["content"] = Value::Null;
        let id = format!("call_{}", uuid::Uuid::now_v7().simple());
        let function = json!({"name": tool.function.name, "arguments": arguments});
        message["tool_calls"] = json!([{"id": id, "type": "function", "function": function}]);
    }
    json!({
        "id": format!("chatcmpl-{}", uuid::Uuid::now_v7().simple()),
        "object": "chat.completion",
        "created": OffsetDateTime::now_utc().unix_timestamp(),
        "model": snapshot(&request.model),
        "system_fingerprint": "fp_simulator",
        "service_tier": "default",
        "choices": [{"index": 0, "finish_reason": finish, "logprobs": null, "message": message}],
        "usage": {"prompt_tokens": prompt_tokens, "completion_tokens": completion_tokens,
            "total_tokens": prompt_tokens + completion_tokens, "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
            "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0, "accepted_prediction_tokens": 0, "rejected_prediction_tokens": 0}},
    })
}

/// The dated snapshot that an alias stands for.
fn snapshot(model: &str) -> String {
    match model {
        "gpt-4o" => "gpt-4o-2024-08-06".to_owned(),
        "gpt-4o-mini" => "gpt-4o-mini-2024-07-18".to_owned(),
        "gpt-4-turbo" => "gpt-4-turbo-2024-04-09".to_owned(),
        "gpt-4.1" | "gpt-4.1-mini" => format!("{model}-2025-04-14"),
        dated => dated.to_owned(),
    }
}
