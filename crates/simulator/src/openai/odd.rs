//! The forms in which gateways and compatible servers answer, as users have reported them. The model is billed all the same.

use std::io::Write;

use axum::{
    Json,
    http::header,
    response::{IntoResponse, Response},
};
use flate2::{Compression, write::GzEncoder};
use serde_json::{Map, Value, json};

use crate::faults::OddForm;

/// The answer in this form.
pub(super) fn respond(mut answer: Value, form: Option<OddForm>) -> Response {
    let Some(form) = form else { return Json(answer).into_response() };
    change(&mut answer, form);
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

/// Changes the fields of an answer.
fn change(answer: &mut Value, form: OddForm) {
    let usage = &mut answer["usage"];
    match form {
        OddForm::Nulls => {
            usage["prompt_tokens_details"]["cached_tokens"] = Value::Null;
            usage["completion_tokens_details"] = Value::Null;
            for field in ["model", "id", "service_tier", "error"] {
                answer[field] = Value::Null;
            }
            answer["choices"][0]["finish_reason"] = Value::Null;
        }
        OddForm::NullChoices => answer["choices"] = Value::Null,
        OddForm::EmptyRefusal => answer["choices"][0]["message"]["refusal"] = json!(""),
        OddForm::Floats => {
            for field in ["prompt_tokens", "completion_tokens", "total_tokens"] {
                usage[field] = json!(usage[field].as_f64());
            }
        }
        OddForm::CachedAbovePrompt => {
            usage["prompt_tokens_details"]["cached_tokens"] = json!(usage["prompt_tokens"].as_i64().map(|n| n * 3));
        }
        OddForm::HugeCounts => {
            for field in ["prompt_tokens", "completion_tokens", "total_tokens"] {
                usage[field] = json!(90_000_000);
            }
        }
        OddForm::Parts => {
            let content = &mut answer["choices"][0]["message"]["content"];
            if let Some(text) = content.as_str() {
                let (one, two) = text.split_at(text.floor_char_boundary(text.len() / 2));
                *content = json!([{"type": "text", "text": one}, {"type": "text", "text": two}]);
            }
        }
        OddForm::ArgumentsObject => {
            for arguments in arguments_of(answer) {
                *arguments = fields(arguments).into();
            }
        }
        OddForm::TwoCalls => split_call(answer),
        OddForm::Empty => {
            answer["choices"][0]["message"] = json!({"role": "assistant", "content": "", "refusal": null});
        }
        OddForm::ErrorWithin => {
            *answer = json!({"error": {"message": "Upstream error", "code": 502, "type": null}});
        }
        OddForm::ByteOrderMark | OddForm::Gzip | OddForm::EventStream => {}
    }
}

fn arguments_of(answer: &mut Value) -> impl Iterator<Item = &mut Value> {
    let calls = answer["choices"][0]["message"]["tool_calls"].as_array_mut();
    calls.into_iter().flatten().map(|call| &mut call["function"]["arguments"])
}

fn fields(arguments: &Value) -> Map<String, Value> {
    arguments.as_str().and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default()
}

/// The call of the answer as two, each with every second field.
fn split_call(answer: &mut Value) {
    let Some(arguments) = arguments_of(answer).next().map(|arguments| fields(arguments)) else { return };
    let half = |odd: usize| -> Map<String, Value> {
        let fields = arguments.clone().into_iter().enumerate();
        fields.filter(|(index, _)| index % 2 == odd).map(|(_, field)| field).collect()
    };
    let calls = &mut answer["choices"][0]["message"]["tool_calls"];
    let call = |odd: usize| {
        let mut call = calls[0].clone();
        call["function"]["arguments"] = json!(Value::Object(half(odd)).to_string());
        call
    };
    *calls = json!([call(0), call(1)]);
}

fn gzip(body: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    // Memory takes everything.
    let _ = encoder.write_all(body);
    encoder.finish().unwrap_or_default()
}
