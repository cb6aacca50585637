//! The Responses API (`POST /responses`): the same question as a chat completion, in its words. Every model calls functions through
//! it, however it reasons.

use std::time::Duration;

use domain::{inference::Effort, model::Verbosity};
use http_client::without_unstorable_escapes;
use serde::Serialize;
use serde_json::{Value, value::RawValue};

use crate::{
    ChatRequest, Completion, FinishReason, OpenAiError, ResponseFormat,
    chat::{CommonOptions, LEAST_OUTPUT, one_answer},
    lenient,
    prompt_cache::SentMessage,
};

/// The request's body, in JSON.
pub(crate) fn body(request: &ChatRequest) -> String {
    let (format, call) = match &request.format {
        ResponseFormat::Schema { name, schema } => (Some(Format::JsonSchema { name, strict: true, schema }), None),
        ResponseFormat::Json => (Some(Format::JsonObject), None),
        ResponseFormat::Function { name, schema } => (None, Some(Call::of(name, schema))),
        ResponseFormat::Text => (None, None),
    };
    let verbosity = request.options.verbosity;
    let body = Body {
        common: request.common(),
        input: request.options.cache.messages(&request.messages, "input_text"),
        max_output_tokens: request.max_completion_tokens.max(LEAST_OUTPUT),
        text: (format.is_some() || verbosity.is_some()).then_some(Text { format, verbosity }),
        call,
        reasoning: request.effort.map(|effort| Reasoning { effort }),
    };
    request.json(&body)
}

/// The body of the request. It borrows everything, because thousands of requests wait at once.
#[derive(Serialize)]
struct Body<'a> {
    #[serde(flatten)]
    common: CommonOptions<'a>,
    input: Vec<SentMessage<'a>>,
    max_output_tokens: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<Text<'a>>,
    #[serde(flatten)]
    call: Option<Call<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reasoning: Option<Reasoning>,
}

#[derive(Serialize)]
struct Text<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    format: Option<Format<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    verbosity: Option<Verbosity>,
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Format<'a> {
    JsonSchema { name: &'a str, strict: bool, schema: &'a RawValue },
    JsonObject,
}

#[derive(Serialize)]
struct Reasoning {
    effort: Effort,
}

/// The one function that the model may call, and that it has to.
#[derive(Serialize)]
struct Call<'a> {
    tools: [Tool<'a>; 1],
    tool_choice: Tool<'a>,
    parallel_tool_calls: bool,
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Tool<'a> {
    Function {
        name: &'a str,
        #[serde(flatten)]
        declared: Option<DeclaredFunction<'a>>,
    },
}

#[derive(Serialize)]
struct DeclaredFunction<'a> {
    strict: bool,
    parameters: &'a RawValue,
}

impl<'a> Call<'a> {
    fn of(name: &'a str, parameters: &'a RawValue) -> Self {
        let declared = Some(DeclaredFunction { strict: true, parameters });
        Self {
            tools: [Tool::Function { name, declared }],
            tool_choice: Tool::Function { name, declared: None },
            parallel_tool_calls: false,
        }
    }
}

/// Reads the body of the answer to `request`: the messages and function calls among its output. Null is absent, and most fields may
/// be, because compatible servers leave them out.
///
/// # Errors
/// It has not ended, or has no output. That it failed is an error within the body, and known before.
pub(crate) fn read(
    body: &Value,
    request: &ChatRequest,
    request_id: Option<String>,
    latency: Duration,
) -> Result<Completion, OpenAiError> {
    let unreadable = |why: &str| OpenAiError::Unreadable(why.to_owned());
    let output = body["output"].as_array().ok_or_else(|| unreadable("it has no output"))?;
    let of_type = |kind: &'static str| output.iter().filter(move |item| item["type"] == kind);
    // Whether one function or several were called, is the same question as in chat completions.
    let called = one_answer(of_type("function_call"));
    let finish = match body["status"].as_str() {
        Some("incomplete") => match body["incomplete_details"]["reason"].as_str() {
            Some("max_output_tokens") => FinishReason::Length,
            Some("content_filter") => FinishReason::ContentFilter,
            _ => FinishReason::Other,
        },
        Some("completed") | None if called.is_some() => FinishReason::ToolCalls,
        Some("completed") | None => FinishReason::Stop,
        // `failed` without an error, or in progress, as only background requests may be.
        Some(_) => return Err(unreadable("it is not completed")),
    };
    let text: String = of_type("message").filter_map(|message| lenient::text(&message["content"])).collect();
    let text = (!text.is_empty()).then_some(text);
    let content = match request.format {
        ResponseFormat::Function { .. } => called.or(text),
        _ => text.or(called),
    };
    // JSON within JSON: its escapes are still there.
    let content = match request.format {
        ResponseFormat::Text => content,
        _ => content.map(without_unstorable_escapes),
    };
    Ok(Completion {
        model: lenient::name(&body["model"]).unwrap_or_else(|| request.model.clone()),
        finish,
        content: content.unwrap_or_default(),
        refusal: of_type("message").find_map(|message| lenient::refusal(&message["refusal"], &message["content"])),
        usage: request.read_usage(&body["usage"]),
        request_id,
        service_tier: lenient::service_tier(&body["service_tier"]),
        latency,
    })
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use domain::{
        inference::{Effort, TokenUsage},
        model::{RequestedTier, ServiceTier, Verbosity},
    };
    use serde_json::{Value, json, value::to_raw_value};

    use super::{body, read};
    use crate::{
        CacheOptions, ChatMessage, ChatRequest, Completion, FinishReason, OpenAiError, RequestOptions, ResponseFormat,
        Role,
    };

    fn request(format: ResponseFormat) -> ChatRequest {
        ChatRequest {
            model: "gpt-6-luna".to_owned(),
            messages: vec![ChatMessage { role: Role::User, content: "A note.".into() }],
            format,
            temperature: None,
            effort: None,
            options: RequestOptions { service_tier: RequestedTier::Auto, ..RequestOptions::default() },
            max_completion_tokens: 100,
        }
    }

    fn function() -> ResponseFormat {
        ResponseFormat::Function {
            name: "answer".to_owned(),
            schema: Arc::from(to_raw_value(&json!({"type": "object"})).expect("JSON")),
        }
    }

    fn sent(request: &ChatRequest) -> Value {
        serde_json::from_str(&body(request)).expect("JSON")
    }

    fn completion(body: &Value, format: ResponseFormat) -> Completion {
        read(body, &request(format), None, Duration::ZERO).expect("an answer")
    }

    #[test]
    fn a_request_says_the_same_in_the_words_of_responses() {
        let input = json!([{"role": "user", "content": "A note."}]);
        let bare = json!({"model": "gpt-6-luna", "input": input, "max_output_tokens": 100, "store": false});
        assert_eq!(sent(&request(ResponseFormat::Text)), bare);
        let options = RequestOptions {
            verbosity: Some(Verbosity::Low),
            service_tier: RequestedTier::Priority,
            cache: CacheOptions { key: Some("leadline-1".to_owned()), ends_with_instructions: true },
        };
        let schema = Arc::from(to_raw_value(&json!({"type": "object"})).expect("JSON"));
        let format = ResponseFormat::Schema { name: "leads".to_owned(), schema };
        let full = ChatRequest { effort: Some(Effort::High), options, max_completion_tokens: 5, ..request(format) };
        let part = json!({"type": "input_text", "text": "A note.", "prompt_cache_breakpoint": {"mode": "explicit"}});
        let marked = json!([{"role": "user", "content": [part]}]);
        assert_eq!(
            sent(&full),
            json!({"model": "gpt-6-luna", "input": marked, "max_output_tokens": 16, "store": false,
                "prompt_cache_options": {"mode": "explicit"},
                "text": {"format": {"type": "json_schema", "name": "leads", "strict": true, "schema": {"type": "object"}},
                    "verbosity": "low"},
                "reasoning": {"effort": "high"}, "service_tier": "priority", "prompt_cache_key": "leadline-1"})
        );
        let called = sent(&request(function()));
        let tool = json!({"type": "function", "name": "answer", "strict": true, "parameters": {"type": "object"}});
        assert_eq!((&called["tools"], &called["parallel_tool_calls"]), (&json!([tool]), &json!(false)));
        assert_eq!(called["tool_choice"], json!({"type": "function", "name": "answer"}));
    }

    #[test]
    fn an_answer_is_the_text_of_its_messages_or_the_arguments_of_its_call() {
        let reasoning = json!({"type": "reasoning", "id": "rs_1", "summary": []});
        let message = json!({"type": "message", "role": "assistant", "status": "completed",
            "content": [{"type": "output_text", "text": "{\"a\":\"\\u0000\"}", "annotations": []}]});
        let usage = json!({"input_tokens": 2_000, "input_tokens_details": {"cached_tokens": 1_024},
            "output_tokens": 70, "output_tokens_details": {"reasoning_tokens": 64}, "total_tokens": 2_070});
        let body = json!({"id": "resp_1", "object": "response", "status": "completed", "error": null,
            "incomplete_details": null, "model": "gpt-6-luna-2026-10-26", "output": [reasoning, message],
            "service_tier": "flex", "usage": usage});
        let expected = Completion {
            model: "gpt-6-luna-2026-10-26".to_owned(),
            finish: FinishReason::Stop,
            content: r#"{"a":"\ufffd"}"#.to_owned(),
            refusal: None,
            usage: Some(TokenUsage {
                prompt_tokens: 2_000,
                cached_tokens: 1_024,
                cache_write_tokens: 0,
                completion_tokens: 70,
            }),
            request_id: None,
            service_tier: Some(ServiceTier::Flex),
            latency: Duration::ZERO,
        };
        assert_eq!(completion(&body, ResponseFormat::Json), expected);

        let call = |arguments: Value| json!({"type": "function_call", "name": "answer", "arguments": arguments});
        for output in [json!([call(json!("{\"a\":1}"))]), json!([reasoning, call(json!({"a": 1}))])] {
            let completion = completion(&json!({"output": output}), function());
            assert_eq!((completion.content.as_str(), completion.finish), ("{\"a\":1}", FinishReason::ToolCalls));
        }
        let two = completion(&json!({"output": [call(json!({"a": 1})), call(json!({"b": 2}))]}), function());
        assert_eq!(two.content, r#"{"a":1,"b":2}"#, "calls that complete each other are one answer");
    }

    #[test]
    fn an_answer_that_is_incomplete_declined_or_empty_is_told_apart() {
        let incomplete = |reason: &str| {
            let output = json!([{"type": "message", "content": [{"type": "output_text", "text": "{\"a\""}]}]);
            let body = json!({"status": "incomplete", "incomplete_details": {"reason": reason}, "output": output});
            completion(&body, ResponseFormat::Json).finish
        };
        assert_eq!(incomplete("max_output_tokens"), FinishReason::Length);
        assert_eq!(incomplete("content_filter"), FinishReason::ContentFilter);
        let refused = json!({"status": "completed", "output": [{"type": "message",
            "content": [{"type": "refusal", "refusal": "I can't help with that."}]}]});
        let refused = completion(&refused, ResponseFormat::Json);
        assert_eq!((refused.refusal.as_deref(), refused.content.as_str()), (Some("I can't help with that."), ""));
        let reasoned = json!({"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"},
            "output": [{"type": "reasoning", "summary": []}], "usage": null});
        let reasoned = completion(&reasoned, ResponseFormat::Json);
        assert!(reasoned.is_empty() && reasoned.finish == FinishReason::Length && reasoned.usage.is_none());
    }

    #[test]
    fn counts_that_the_request_cannot_have_used_say_nothing() {
        let usage = |input: i64, output: i64| {
            let body = json!({"output": [], "usage": {"input_tokens": input, "output_tokens": output}});
            completion(&body, ResponseFormat::Text).usage
        };
        assert!(usage(2_000, 70).is_some());
        assert_eq!((usage(90_000_000, 70), usage(2_000, 90_000_000)), (None, None));
    }

    #[test]
    fn a_response_that_has_not_ended_or_has_no_output_cannot_be_read() {
        let unended = ["in_progress", "failed"].map(|status| json!({"status": status, "error": null, "output": []}));
        for body in unended.into_iter().chain([json!({}), json!({"output": null}), json!([]), Value::Null]) {
            let result = read(&body, &request(ResponseFormat::Text), None, Duration::ZERO);
            assert!(matches!(result, Err(OpenAiError::Unreadable(_))), "{body}: {result:?}");
        }
    }
}
