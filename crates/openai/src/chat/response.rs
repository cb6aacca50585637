//! The answer of a chat completion.

use std::time::Duration;

use domain::{inference::TokenUsage, model::ServiceTier};
use http_client::without_unstorable_escapes;
use serde::Deserialize;
use serde_json::{Map, Value, map::Entry};

use super::{ChatRequest, ResponseFormat};
use crate::{OpenAiApiError, OpenAiError, lenient};

/// The answer of a chat completion.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Completion {
    /// The dated snapshot of the model that answered; the model that was asked, where the answer does not say it.
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
    /// The service tier in which it was processed, if the answer says it.
    pub service_tier: Option<ServiceTier>,
    /// The duration of the attempt that was answered.
    pub latency: Duration,
}

impl Completion {
    /// Whether the model said nothing at all: reasoning that takes all of the room leaves no answer, and so do faults of gateways.
    /// An answer that was withheld, or declined with a reason, says something.
    pub fn is_empty(&self) -> bool {
        self.content.is_empty() && self.refusal.is_none() && self.finish != FinishReason::ContentFilter
    }
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
    /// None, or a value of a compatible server that OpenAI does not document.
    #[serde(other)]
    Other,
}

/// Reads the body of the answer to `request`: its first choice, because only one is requested. Null is absent, and most fields may
/// be, because compatible servers leave them out.
///
/// # Errors
/// It has no choice, or the choice is an error, as gateways answer when their model failed.
pub(crate) fn read(
    body: &Value,
    request: &ChatRequest,
    request_id: Option<String>,
    latency: Duration,
) -> Result<Completion, OpenAiError> {
    let choice = lenient::items(&body["choices"]).first();
    let choice = choice.ok_or_else(|| OpenAiError::Unreadable("it has no choices".to_owned()))?;
    if let Some(error) = OpenAiApiError::within(choice) {
        return Err(error);
    }
    let message = &choice["message"];
    let text = lenient::text(&message["content"]);
    let content = match request.format {
        ResponseFormat::Function { .. } => called(message).or(text),
        _ => text.or_else(|| called(message)),
    };
    // JSON within JSON: its escapes are still there.
    let content = match request.format {
        ResponseFormat::Text => content,
        _ => content.map(without_unstorable_escapes),
    };
    Ok(Completion {
        model: lenient::name(&body["model"]).unwrap_or_else(|| request.model.clone()),
        finish: FinishReason::deserialize(&choice["finish_reason"]).unwrap_or(FinishReason::Other),
        content: content.unwrap_or_default(),
        refusal: lenient::refusal(&message["refusal"], &message["content"]),
        usage: request.read_usage(&body["usage"]),
        request_id,
        service_tier: lenient::service_tier(&body["service_tier"]),
        latency,
    })
}

/// The arguments of the function calls, as one JSON text: `tool_calls`, or `function_call` of older servers.
fn called(message: &Value) -> Option<String> {
    let functions = lenient::items(&message["tool_calls"]).iter().map(|call| &call["function"]);
    one_answer(functions.chain([&message["function_call"]]))
}

/// The arguments of function calls, as one JSON text.
///
/// Models split one answer over several calls. Calls that complete each other are one answer; all others are kept side by side,
/// in a list, which fits no schema of an answer: half of it would.
pub(crate) fn one_answer<'a>(calls: impl Iterator<Item = &'a Value>) -> Option<String> {
    let calls: Vec<_> = calls
        .filter_map(|function| {
            let arguments = lenient::arguments(&function["arguments"]).map(without_unstorable_escapes)?;
            Some((&function["name"], arguments))
        })
        .collect();
    match calls.as_slice() {
        [] => None,
        [(_, arguments)] => Some(arguments.clone()),
        _ => Some(merged(&calls).map_or_else(|| side_by_side(&calls), |fields| Value::Object(fields).to_string())),
    }
}

/// The fields of all calls together, if all are of one function and no two say different things about one field. A null says
/// nothing: strict schemas demand every field in each call.
fn merged(calls: &[(&Value, String)]) -> Option<Map<String, Value>> {
    let (first, _) = calls.first()?;
    let mut merged = Map::new();
    for (name, arguments) in calls {
        let fields: Map<String, Value> = serde_json::from_str(arguments).ok()?;
        if name != first {
            return None;
        }
        for (field, value) in fields {
            match merged.entry(field) {
                Entry::Vacant(vacant) => {
                    vacant.insert(value);
                }
                Entry::Occupied(mut known) if known.get().is_null() => {
                    known.insert(value);
                }
                Entry::Occupied(known) if value.is_null() || *known.get() == value => {}
                Entry::Occupied(_) => return None,
            }
        }
    }
    Some(merged)
}

fn side_by_side(calls: &[(&Value, String)]) -> String {
    let read = |arguments: &str| serde_json::from_str(arguments).unwrap_or_else(|_| Value::from(arguments));
    Value::Array(calls.iter().map(|(_, arguments)| read(arguments)).collect()).to_string()
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use domain::inference::TokenUsage;
    use serde_json::{Value, json, value::to_raw_value};

    use super::{ChatRequest, Completion, FinishReason, ResponseFormat, read};
    use crate::{OpenAiError, chat::RequestOptions};

    fn request(format: ResponseFormat) -> ChatRequest {
        ChatRequest {
            model: "gpt-4o".to_owned(),
            messages: vec![],
            format,
            temperature: None,
            effort: None,
            options: RequestOptions::default(),
            max_completion_tokens: 100,
        }
    }

    fn function() -> ResponseFormat {
        ResponseFormat::Function {
            name: "answer".to_owned(),
            schema: Arc::from(to_raw_value(&json!({})).expect("JSON")),
        }
    }

    fn completion(body: &Value, format: ResponseFormat) -> Completion {
        read(body, &request(format), None, Duration::ZERO).expect("an answer")
    }

    /// The answer whose message is this one.
    fn of_message(message: &Value, format: ResponseFormat) -> Completion {
        completion(&json!({"choices": [{"finish_reason": "stop", "message": message}]}), format)
    }

    #[test]
    fn null_is_absent_everywhere() {
        let message = json!({"content": "{}", "refusal": null, "tool_calls": null, "function_call": null});
        let choice = json!({"index": null, "finish_reason": null, "error": null, "message": message});
        let body = json!({"id": null, "model": null, "error": null, "usage": null, "choices": [choice]});
        let expected = Completion {
            model: "gpt-4o".to_owned(),
            finish: FinishReason::Other,
            content: "{}".to_owned(),
            refusal: None,
            usage: None,
            request_id: None,
            service_tier: None,
            latency: Duration::ZERO,
        };
        assert_eq!(completion(&body, ResponseFormat::Json), expected);
        let bare = json!({"choices": [{"message": {"content": "{}"}}]});
        assert_eq!(completion(&bare, ResponseFormat::Json), expected);
        let details =
            json!({"prompt_tokens": 9.0, "completion_tokens": 1, "prompt_tokens_details": {"cached_tokens": null}});
        let body = json!({"choices": [choice], "usage": details});
        let usage = TokenUsage { prompt_tokens: 9, cached_tokens: 0, cache_write_tokens: 0, completion_tokens: 1 };
        assert_eq!(completion(&body, ResponseFormat::Json).usage, Some(usage));
        let huge = json!({"choices": [choice], "usage": {"prompt_tokens": 9_000_000, "completion_tokens": 1}});
        assert_eq!(completion(&huge, ResponseFormat::Json).usage, None, "more than was sent");
    }

    #[test]
    fn an_answer_without_a_choice_cannot_be_read_and_one_without_a_word_is_empty() {
        for body in
            [json!({}), json!({"choices": null}), json!({"choices": []}), json!([]), json!("hello"), Value::Null]
        {
            let result = read(&body, &request(ResponseFormat::Json), None, Duration::ZERO);
            assert!(matches!(result, Err(OpenAiError::Unreadable(_))), "{body}: {result:?}");
        }
        for message in
            [json!(null), json!({}), json!({"content": null}), json!({"content": " \n"}), json!({"content": []})]
        {
            assert!(of_message(&message, ResponseFormat::Json).is_empty(), "{message}");
        }
        let refused = json!({"content": null, "refusal": "No."});
        assert!(!of_message(&refused, ResponseFormat::Json).is_empty());
        assert_eq!(of_message(&refused, ResponseFormat::Json).refusal.as_deref(), Some("No."));
    }

    #[test]
    fn escapes_within_an_answer_in_json_are_cleaned_and_prose_keeps_its_backslashes() {
        let message = json!({"content": r#"{"a":"\u0000x\ud83d"}"#, "refusal": ""});
        assert_eq!(of_message(&message, ResponseFormat::Json).content, r#"{"a":"\ufffdx\ufffd"}"#);
        assert_eq!(of_message(&message, ResponseFormat::Text).content, r#"{"a":"\u0000x\ud83d"}"#);
        assert_eq!(of_message(&message, ResponseFormat::Text).refusal, None, "an empty refusal is none");
    }

    #[test]
    fn content_and_arguments_come_in_several_forms() {
        let expected = r#"{"a":1}"#;
        let call = |arguments: Value| json!({"tool_calls": [{"function": {"name": "answer", "arguments": arguments}}]});
        for message in [
            call(json!(expected)),
            call(json!({"a": 1})),
            json!({"function_call": {"name": "answer", "arguments": expected}}),
            json!({"content": expected, "tool_calls": []}),
            json!({"content": [{"type": "text", "text": expected}]}),
        ] {
            assert_eq!(of_message(&message, function()).content, expected, "{message}");
        }
        let both = json!({"content": "Sure!", "tool_calls": [{"function": {"name": "answer", "arguments": expected}}]});
        assert_eq!(of_message(&both, function()).content, expected);
    }

    #[test]
    fn two_calls_are_one_answer_where_they_complete_each_other_and_are_never_half_lost() {
        let calls = |calls: &[(&str, Value)]| {
            let call = |(name, arguments): &(&str, Value)| json!({"function": {"name": name, "arguments": arguments.to_string()}});
            let message = json!({"tool_calls": calls.iter().map(call).collect::<Vec<_>>()});
            serde_json::from_str::<Value>(&of_message(&message, function()).content).expect("JSON")
        };
        let (a, b) = (json!({"a": 1}), json!({"b": 2}));
        assert_eq!(calls(&[("answer", a.clone()), ("answer", b.clone())]), json!({"a": 1, "b": 2}));
        assert_eq!(calls(&[("answer", a.clone()), ("answer", a.clone())]), a, "twice the same");
        let strict = [("answer", json!({"a": 1, "b": null})), ("answer", json!({"a": null, "b": 2}))];
        assert_eq!(calls(&strict), json!({"a": 1, "b": 2}));
        for other in [("answer", json!({"a": 2})), ("another", b), ("answer", json!([3]))] {
            assert_eq!(calls(&[("answer", a.clone()), other.clone()]), json!([a, other.1]), "both are kept");
        }
    }

    #[test]
    fn a_choice_that_is_an_error_is_one() {
        let failed =
            json!({"error": {"code": 502, "message": "Upstream error"}, "finish_reason": "error", "message": {}});
        let result = read(&json!({"choices": [failed]}), &request(ResponseFormat::Text), None, Duration::ZERO);
        assert!(matches!(&result, Err(OpenAiError::Api(error)) if error.http_status == 502), "{result:?}");
    }
}
