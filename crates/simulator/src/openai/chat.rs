//! Simulated OpenAI: the endpoints for chat completions and models, and the model behind them and behind the Responses API.

use std::{sync::Arc, time::Duration};

use axum::{
    Extension, Json, Router,
    extract::{Path, State},
    http::{HeaderMap, HeaderName, HeaderValue, header},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use bytes::Bytes;
use domain::{
    inference::Effort,
    model::{ModelApi, RequestedTier, ServiceTier},
};
use openai::{TokenUsage, models, tokens};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use time::{Date, OffsetDateTime, macros::date};

use super::{
    cache::CacheUse,
    errors, odd,
    request::{ChatRequest, ResponseFormat, Role, check, param},
    responses, rules,
};
use crate::{
    charges::Charge,
    faults::{FaultKind, Misbehaviour},
    lock::lock,
    state::Simulator,
};

/// The endpoints.
pub(crate) fn router() -> Router<Arc<Simulator>> {
    Router::new()
        .route("/v1/chat/completions", post(complete))
        .route("/v1/responses", post(responses::respond))
        .route("/v1/models/{model}", get(model))
}

/// The request of a client that has the key.
pub(super) fn admitted<T: DeserializeOwned>(
    simulator: &Simulator,
    headers: &HeaderMap,
    body: &[u8],
) -> Result<T, Box<Response>> {
    if !is_admitted(simulator, headers) {
        return Err(Box::new(errors::invalid_api_key()));
    }
    if lock(&simulator.kept_back).is_in(body) {
        return Err(Box::new(errors::invalid_request("a value that must never arrive has arrived", None, None)));
    }
    serde_json::from_slice(body).map_err(|error| Box::new(errors::invalid_request(&error.to_string(), None, None)))
}

fn is_admitted(simulator: &Simulator, headers: &HeaderMap) -> bool {
    let given = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
    given == Some(simulator.config.api_key.as_str())
}

async fn model(State(simulator): State<Arc<Simulator>>, Path(name): Path<String>, headers: HeaderMap) -> Response {
    match available(&name) {
        _ if !is_admitted(&simulator, &headers) => errors::invalid_api_key(),
        Some(facts) => {
            let shutdown_date = facts.shutdown_date.map(|day| day.to_string());
            Json(json!({"id": name, "object": "model", "created": 1_715_367_049, "owned_by": "system",
                "shutdown_date": shutdown_date}))
            .into_response()
        }
        None => errors::model_not_found(&name),
    }
}

/// The day on which this portal of models stands still, so that a test does not depend on the calendar.
const TODAY: Date = date!(2026 - 11 - 25);

/// The facts about a model that answers today. One that was shut down is not found (seen by users of OpenAI; not documented).
fn available(name: &str) -> Option<models::Model> {
    models::find(name).filter(|model| model.shutdown_date.is_none_or(|day| day > TODAY))
}

async fn complete(
    State(simulator): State<Arc<Simulator>>,
    headers: HeaderMap,
    misbehaviour: Option<Extension<Misbehaviour>>,
    body: Bytes,
) -> Response {
    let request: ChatRequest = match admitted(&simulator, &headers, &body) {
        Ok(request) => request,
        Err(refusal) => return *refusal,
    };
    answer_question(&simulator, &headers, misbehaviour, &request, ModelApi::ChatCompletions, |answer| answer).await
}

/// Has the model answer what came through `api`, as a chat completion that `as_answer` says in the words of that API.
pub(super) async fn answer_question(
    simulator: &Simulator,
    headers: &HeaderMap,
    misbehaviour: Option<Extension<Misbehaviour>>,
    request: &ChatRequest,
    api: ModelApi,
    as_answer: impl FnOnce(Value) -> Value,
) -> Response {
    let Some(facts) = available(&request.model) else {
        return errors::model_not_found(&request.model);
    };
    if let Err(response) = check(request, &facts, api) {
        return *response;
    }
    let prompt_tokens = tokens::count_prompt(&request.model, request.messages.iter().map(|m| m.content.as_str()));
    let room = request.max_completion_tokens.unwrap_or(facts.max_output);
    if prompt_tokens + room as usize > facts.window {
        let message = format!(
            "This model's maximum context length is {} tokens. However, you requested {} tokens.",
            facts.window,
            prompt_tokens + room as usize
        );
        return errors::invalid_request(&message, Some(param(api, "messages")), Some("context_length_exceeded"));
    }
    let limits = match simulator.openai_traffic.take(prompt_tokens + room as usize) {
        Ok(limits) => limits,
        Err(response) => return *response,
    };
    let misbehaviour = misbehaviour.map(|Extension(Misbehaviour(kind))| kind);
    let mut answer =
        answer(request, (prompt_tokens, facts.effort(request.reasoning_effort)), room, misbehaviour.as_ref());
    let CacheUse { read, written } = lock(&simulator.prompt_cache).take(request, &facts, prompt_tokens);
    let details = &mut answer["usage"]["prompt_tokens_details"];
    (details["cached_tokens"], details["cache_write_tokens"]) = (json!(read), json!(written));
    // Before the wait: a client that gives up meanwhile is billed all the same.
    charge(simulator, &facts, headers, &answer);
    let latency = Duration::from_millis(simulator.config.model_latency_ms);
    simulator.openai_traffic.wait_for_model(tokio::time::sleep(latency)).await;
    let form = match &misbehaviour {
        Some(FaultKind::OddForm(form)) => Some(*form),
        _ => None,
    };
    let mut response = odd::respond(as_answer(as_sent(answer, misbehaviour.as_ref())), api, form);
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

/// Bills an answer.
fn charge(simulator: &Simulator, facts: &models::Model, headers: &HeaderMap, answer: &Value) {
    let tokens = |kind: &str| answer["usage"][kind].as_i64().unwrap_or(0);
    let (prompt_tokens, completion_tokens) = (tokens("prompt_tokens"), tokens("completion_tokens"));
    let details = |kind: &str| answer["usage"]["prompt_tokens_details"][kind].as_i64().unwrap_or(0);
    let (cached_tokens, cache_write_tokens) = (details("cached_tokens"), details("cache_write_tokens"));
    let usage = TokenUsage { prompt_tokens, completion_tokens, cached_tokens, cache_write_tokens };
    let tier = answer["service_tier"].as_str().and_then(ServiceTier::parse).unwrap_or(ServiceTier::Default);
    let charge = Charge {
        client_request_id: headers.get("x-client-request-id").and_then(|id| id.to_str().ok()).map(ToOwned::to_owned),
        model: answer["model"].as_str().unwrap_or_default().to_owned(),
        prompt_tokens,
        completion_tokens,
        micro_dollars: facts.price.map_or(0, |price| price.of(&usage, tier)),
    };
    lock(&simulator.charges).add(charge, simulator.config.keep_calls);
}

/// The answer as the client gets it: a fault may leave out what it was billed for.
fn as_sent(mut answer: Value, misbehaviour: Option<&FaultKind>) -> Value {
    match misbehaviour {
        Some(FaultKind::NoUsage) => answer["usage"] = Value::Null,
        Some(FaultKind::NoChoices) => answer["choices"] = json!([]),
        _ => {}
    }
    answer
}

/// The model's answer. `room` bounds it in tokens; `misbehaviour` is a fault of the model.
fn answer(
    request: &ChatRequest,
    (prompt_tokens, effort): (usize, Effort),
    room: u32,
    misbehaviour: Option<&FaultKind>,
) -> Value {
    // In JSON mode the schema is known only if the instructions contain it; without one the model invents the fields.
    let called = request.tool_choice.as_ref();
    let tool = called.and_then(|choice| request.tools.iter().find(|tool| tool.function.name == choice.function.name));
    let schema = match &request.response_format {
        Some(ResponseFormat::JsonSchema { json_schema }) => Some(json_schema.schema.clone()),
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
        Some(FaultKind::Unstorable) => {
            // In JSON as escapes, which are legal there; in prose as the character itself.
            content = content.map(|text| {
                if is_prose {
                    format!("\0{text}")
                } else {
                    text.replace("\"summary\":\"", "\"summary\":\"\\u0000\\ud83d")
                }
            });
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
    let reasoning_tokens = reasoning_tokens(effort).min(room as usize);
    let room = room as usize - reasoning_tokens;
    let mut completion_tokens = tokens::count_tokens(&request.model, content.as_deref().unwrap_or_default());
    if room == 0 {
        // The reasoning took it all.
        finish = "length";
        content = Some(String::new());
        completion_tokens = 0;
    } else if completion_tokens > room {
        finish = "length";
        content = content.map(|text| text[..text.floor_char_boundary(text.len() / 4)].to_owned());
        completion_tokens = room;
    }
    // Reasoning is billed as a part of the answer.
    completion_tokens += reasoning_tokens;
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
        "service_tier": tier(request.service_tier, misbehaviour),
        "choices": [{"index": 0, "finish_reason": finish, "logprobs": null, "message": message}],
        "usage": {"prompt_tokens": prompt_tokens, "completion_tokens": completion_tokens,
            "total_tokens": prompt_tokens + completion_tokens, "prompt_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0, "audio_tokens": 0},
            "completion_tokens_details": {"reasoning_tokens": reasoning_tokens, "audio_tokens": 0, "accepted_prediction_tokens": 0, "rejected_prediction_tokens": 0}},
    })
}

/// The tier in which a request is processed: `fast` is answered as `priority` (OpenAI's OpenAPI file, `ServiceTier`).
fn tier(requested: Option<RequestedTier>, misbehaviour: Option<&FaultKind>) -> String {
    match (misbehaviour, requested.unwrap_or(RequestedTier::Auto)) {
        (Some(FaultKind::Tier(tier)), _) => tier.clone(),
        (_, RequestedTier::Auto) => ServiceTier::Default.to_string(),
        (_, requested) => requested.to_string(),
    }
}

/// How many tokens the model reasons: always as many, so that a test knows the cost.
fn reasoning_tokens(effort: Effort) -> usize {
    match effort {
        Effort::None => 0,
        Effort::Minimal => 16,
        Effort::Low => 64,
        Effort::Medium => 256,
        Effort::High => 1_024,
        Effort::Xhigh => 2_048,
        Effort::Max => 4_096,
    }
}

/// The dated snapshot that a model's alias stands for.
fn snapshot(model: &str) -> String {
    match model {
        "gpt-4o" => "gpt-4o-2024-08-06".to_owned(),
        "gpt-4o-mini" => "gpt-4o-mini-2024-07-18".to_owned(),
        // No page names the snapshots of these.
        _ if ["gpt-6", "gpt-5.6"].iter().any(|family| model.starts_with(family)) => format!("{model}-2026-10-26"),
        "gpt-4.1" | "gpt-4.1-mini" => format!("{model}-2025-04-14"),
        dated => dated.to_owned(),
    }
}
