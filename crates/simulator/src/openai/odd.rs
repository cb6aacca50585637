//! The forms in which gateways and compatible servers answer, as users have reported them. The model is billed all the same.

use std::io::Write;

use axum::{
    Json,
    http::header,
    response::{IntoResponse, Response},
};
use domain::model::ModelApi;
use flate2::{Compression, write::GzEncoder};
use serde_json::{Map, Value, json};

use crate::faults::OddForm;

/// The answer through `api` in this form.
pub(super) fn respond(mut answer: Value, api: ModelApi, form: Option<OddForm>) -> Response {
    let Some(form) = form else { return Json(answer).into_response() };
    change(&mut answer, api, form);
    let body = answer.to_string();
    let json = |body: Vec<u8>| ([(header::CONTENT_TYPE, "application/json")], body).into_response();
    match form {
        OddForm::ByteOrderMark => json([b"\xef\xbb\xbf", body.as_bytes()].concat()),
        OddForm::Gzip => {
            let mut response = json(gzip(body.as_bytes()));
            response.headers_mut().insert(header::CONTENT_ENCODING, header::HeaderValue::from_static("gzip"));
            response
        }
        OddForm::EventStream => {
            let events = format!("data: {body}\n\ndata: [DONE]\n\n");
            ([(header::CONTENT_TYPE, "text/event-stream")], events).into_response()
        }
        _ => json(body.into_bytes()),
    }
}

/// The names of an API for what the forms change.
struct Names {
    /// What the model wrote.
    output: &'static str,
    /// The numbers of tokens: read, written, and both.
    tokens: [&'static str; 3],
    /// The numbers of tokens in detail: of those read, and of those written.
    details: [&'static str; 2],
}

impl Names {
    fn of(api: ModelApi) -> Self {
        match api {
            ModelApi::ChatCompletions => Self {
                output: "choices",
                tokens: ["prompt_tokens", "completion_tokens", "total_tokens"],
                details: ["prompt_tokens_details", "completion_tokens_details"],
            },
            ModelApi::Responses => Self {
                output: "output",
                tokens: ["input_tokens", "output_tokens", "total_tokens"],
                details: ["input_tokens_details", "output_tokens_details"],
            },
        }
    }
}

/// Changes the fields of an answer.
fn change(answer: &mut Value, api: ModelApi, form: OddForm) {
    let Names { output, tokens, details } = Names::of(api);
    let usage = &mut answer["usage"];
    match form {
        OddForm::Nulls => {
            usage[details[0]]["cached_tokens"] = Value::Null;
            usage[details[1]] = Value::Null;
            for field in ["model", "id", "service_tier", "error"] {
                answer[field] = Value::Null;
            }
            match api {
                ModelApi::ChatCompletions => answer["choices"][0]["finish_reason"] = Value::Null,
                ModelApi::Responses => answer["status"] = Value::Null,
            }
        }
        OddForm::NullChoices => answer[output] = Value::Null,
        OddForm::EmptyRefusal => match api {
            ModelApi::ChatCompletions => answer["choices"][0]["message"]["refusal"] = json!(""),
            ModelApi::Responses => {
                let empty = json!({"type": "refusal", "refusal": ""});
                content(answer, api)
                    .and_then(Value::as_array_mut)
                    .into_iter()
                    .for_each(|parts| parts.push(empty.clone()));
            }
        },
        OddForm::Floats => {
            for field in tokens {
                usage[field] = json!(usage[field].as_f64());
            }
        }
        OddForm::CachedAbovePrompt => {
            usage[details[0]]["cached_tokens"] = json!(usage[tokens[0]].as_i64().map(|n| n * 3));
        }
        OddForm::HugeCounts => {
            for field in tokens {
                usage[field] = json!(90_000_000);
            }
        }
        OddForm::Parts => {
            let kind = if api == ModelApi::Responses { "output_text" } else { "text" };
            let Some(content) = content(answer, api) else { return };
            let text = content.as_str().or_else(|| content[0]["text"].as_str()).unwrap_or_default();
            let (one, two) = text.split_at(text.floor_char_boundary(text.len() / 2));
            *content = json!([{"type": kind, "text": one}, {"type": kind, "text": two}]);
        }
        OddForm::ArgumentsObject => {
            for call in calls(answer, api).into_iter().flatten().filter(|item| item["type"] != "reasoning") {
                let arguments = arguments(call, api);
                *arguments = fields(arguments).into();
            }
        }
        OddForm::TwoCalls => {
            if let Some(calls) = calls(answer, api) {
                split_call(calls, api);
            }
        }
        OddForm::Empty => match api {
            ModelApi::ChatCompletions => {
                answer["choices"][0]["message"] = json!({"role": "assistant", "content": "", "refusal": null});
            }
            ModelApi::Responses => answer["output"] = json!([]),
        },
        OddForm::ErrorWithin => {
            *answer = json!({"error": {"message": "Upstream error", "code": 502, "type": null}});
        }
        OddForm::ByteOrderMark | OddForm::Gzip | OddForm::EventStream => {}
    }
}

/// The content of the answer's message.
fn content(answer: &mut Value, api: ModelApi) -> Option<&mut Value> {
    match api {
        ModelApi::ChatCompletions => answer.pointer_mut("/choices/0/message/content"),
        ModelApi::Responses => {
            let output = answer["output"].as_array_mut()?;
            output.iter_mut().find(|item| item["type"] == "message").map(|message| &mut message["content"])
        }
    }
}

/// The list that holds the answer's calls; a response holds them among its output, after its reasoning.
fn calls(answer: &mut Value, api: ModelApi) -> Option<&mut Vec<Value>> {
    let calls = match api {
        ModelApi::ChatCompletions => answer.pointer_mut("/choices/0/message/tool_calls"),
        ModelApi::Responses => answer.get_mut("output"),
    };
    calls.and_then(Value::as_array_mut)
}

fn arguments(call: &mut Value, api: ModelApi) -> &mut Value {
    match api {
        ModelApi::ChatCompletions => &mut call["function"]["arguments"],
        ModelApi::Responses => &mut call["arguments"],
    }
}

fn fields(arguments: &Value) -> Map<String, Value> {
    arguments.as_str().and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default()
}

/// The last call as two, each with every second field.
fn split_call(calls: &mut Vec<Value>, api: ModelApi) {
    let Some(mut call) = calls.pop() else { return };
    let all = fields(arguments(&mut call, api));
    calls.extend([0, 1].map(|odd| {
        let fields = all.clone().into_iter().enumerate();
        let half: Map<String, Value> = fields.filter(|(index, _)| index % 2 == odd).map(|(_, field)| field).collect();
        let mut call = call.clone();
        *arguments(&mut call, api) = json!(Value::Object(half).to_string());
        call
    }));
}

fn gzip(body: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    // Memory takes everything.
    let _ = encoder.write_all(body);
    encoder.finish().unwrap_or_default()
}
