//! Reads what others say: OpenAI's answers, and those of gateways and servers that answer almost like it. Null is absent, and
//! what is not sane says nothing.

use domain::model::ServiceTier;
use http_client::{MAX_NAME, shortened};
use serde_json::Value;

use crate::TokenUsage;

/// The JSON of an answer's body. A byte order mark is no part of it.
pub(crate) fn json(body: &[u8]) -> Result<Value, serde_json::Error> {
    serde_json::from_slice(without_byte_order_mark(body))
}

/// Whether the body is a stream of server-sent events, which is answered where a gateway streams although a whole answer was asked for.
pub(crate) fn is_event_stream(content_type: Option<&str>, body: &[u8]) -> bool {
    let is_declared = content_type
        .and_then(|media_type| media_type.split(';').next())
        .is_some_and(|media_type| media_type.trim().eq_ignore_ascii_case("text/event-stream"));
    let body = without_byte_order_mark(body).trim_ascii_start();
    // A gateway that pings begins with a comment.
    is_declared || [&b"data:"[..], b"event:", b": "].iter().any(|field| body.starts_with(field))
}

/// Whether the body is a page for people, in HTML or XML.
pub(crate) fn is_page(body: &[u8]) -> bool {
    without_byte_order_mark(body).trim_ascii_start().starts_with(b"<")
}

fn without_byte_order_mark(body: &[u8]) -> &[u8] {
    body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body)
}

/// The items of a list; none where there is no list.
pub(crate) fn items(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// A name, a code or an id: a text or a number, cut; `None` when it is missing or empty.
pub(crate) fn name(value: &Value) -> Option<String> {
    match value {
        Value::String(text) if !text.is_empty() => Some(shortened(text, MAX_NAME)),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

/// A text that is one string or a list of parts, of which those that hold text count; `None` when there is nothing but white space.
///
/// Parts are strings, or objects whose `type` is `text` (chat completions) or `output_text` (responses); those of other types are
/// the model's thoughts, its refusal, and what is no text.
pub(crate) fn text(value: &Value) -> Option<String> {
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Array(parts) => parts.iter().filter_map(part_text).collect(),
        Value::Object(_) => part_text(value)?.to_owned(),
        _ => return None,
    };
    (!text.trim().is_empty()).then_some(text)
}

fn part_text(part: &Value) -> Option<&str> {
    match &part["type"] {
        Value::Null => part.as_str().or_else(|| part["text"].as_str()),
        Value::String(kind) if matches!(kind.as_str(), "text" | "output_text") => part["text"].as_str(),
        _ => None,
    }
}

/// Why the model declined to answer: a text beside the content, or a part of the content. An empty one is none.
pub(crate) fn refusal(beside: &Value, content: &Value) -> Option<String> {
    let in_parts = || items(content).iter().find_map(|part| text(&part["refusal"]));
    text(beside).or_else(in_parts)
}

/// The arguments of a function call as JSON text: they are sent as text or as an object.
pub(crate) fn arguments(value: &Value) -> Option<String> {
    match value {
        Value::String(json) if !json.trim().is_empty() => Some(json.clone()),
        Value::Object(_) => Some(value.to_string()),
        _ => None,
    }
}

/// More than any model reads or writes. A larger number says nothing.
const MOST_TOKENS: i64 = 100_000_000;

/// A number of tokens; also one that is written as a float.
pub(crate) fn tokens(value: &Value) -> Option<i64> {
    let tokens = value.as_i64().or_else(|| {
        #[expect(clippy::cast_possible_truncation, reason = "a fraction of a token says nothing; a cast saturates")]
        value.as_f64().map(|tokens| tokens as i64)
    })?;
    (0..=MOST_TOKENS).contains(&tokens).then_some(tokens)
}

/// What an answer says about its tokens, in the words of chat completions or of responses. `None` when it does not say both what
/// was read and what was written: then the most that the request can use counts.
pub(crate) fn usage(reported: &Value) -> Option<TokenUsage> {
    let either = |chat: &str, responses: &str| tokens(&reported[chat]).or_else(|| tokens(&reported[responses]));
    let detail = |name: &str| {
        let of = |details: &str| tokens(&reported[details][name]);
        of("prompt_tokens_details").or_else(|| of("input_tokens_details")).unwrap_or(0)
    };
    let prompt_tokens = either("prompt_tokens", "input_tokens").filter(|tokens| *tokens > 0)?;
    let completion_tokens = either("completion_tokens", "output_tokens")?;
    // Parts of the prompt cannot be more than the prompt.
    let cached_tokens = detail("cached_tokens").min(prompt_tokens);
    let cache_write_tokens = detail("cache_write_tokens").min(prompt_tokens - cached_tokens);
    Some(TokenUsage { prompt_tokens, cached_tokens, cache_write_tokens, completion_tokens })
}

/// The service tier in which a request was processed. `fast` is the newer name of `priority`; a name that OpenAI does not document
/// says nothing.
pub(crate) fn service_tier(value: &Value) -> Option<ServiceTier> {
    match value.as_str()? {
        "fast" => Some(ServiceTier::Priority),
        name => ServiceTier::parse(name),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{arguments, is_event_stream, refusal, text, usage};
    use crate::TokenUsage;

    #[test]
    fn usage_that_is_missing_or_no_number_of_tokens_says_nothing() {
        let reported = json!({"prompt_tokens": 300.0, "completion_tokens": 20,
            "prompt_tokens_details": {"cached_tokens": 500}});
        let expected =
            TokenUsage { prompt_tokens: 300, cached_tokens: 300, cache_write_tokens: 0, completion_tokens: 20 };
        assert_eq!(usage(&reported), Some(expected));
        let responses =
            json!({"input_tokens": 300, "output_tokens": 20, "input_tokens_details": {"cached_tokens": 300}});
        assert_eq!(usage(&responses), Some(expected));
        for details in [json!(null), json!({}), json!({"cached_tokens": null}), json!({"cached_tokens": -5})] {
            let reported = json!({"prompt_tokens": 300, "completion_tokens": 0, "prompt_tokens_details": details});
            assert!(usage(&reported).is_some_and(|usage| usage.cached_tokens == 0), "{reported}");
        }
        for reported in [
            Value::Null,
            json!({}),
            json!([]),
            json!({"prompt_tokens": 0, "completion_tokens": 0}),
            json!({"prompt_tokens": -5, "completion_tokens": 1}),
            json!({"prompt_tokens": 300}),
            json!({"prompt_tokens": 300, "completion_tokens": null}),
            json!({"prompt_tokens": 1e18, "completion_tokens": 1}),
            json!({"prompt_tokens": u64::MAX, "completion_tokens": 1}),
            json!({"prompt_tokens": "many", "completion_tokens": 1}),
        ] {
            assert_eq!(usage(&reported), None, "{reported}");
        }
    }

    #[test]
    fn text_is_a_string_or_the_text_of_its_parts() {
        for content in [
            json!("one two"),
            json!([{"type": "text", "text": "one "}, {"type": "text", "text": "two"}]),
            json!([{"type": "output_text", "text": "one two", "annotations": []}]),
            json!([{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}, {"type": "text", "text": "one two"}]),
            json!(["one ", {"text": "two"}]),
            json!({"type": "text", "text": "one two"}),
        ] {
            assert_eq!(text(&content).as_deref(), Some("one two"), "{content}");
        }
        for nothing in
            [json!(null), json!(""), json!(" \n"), json!([]), json!([{"type": "refusal", "refusal": "no"}]), json!(7)]
        {
            assert_eq!(text(&nothing), None, "{nothing}");
        }
    }

    #[test]
    fn an_empty_refusal_is_none_and_one_among_the_parts_counts() {
        assert_eq!(refusal(&json!(""), &json!("an answer")), None);
        assert_eq!(refusal(&Value::Null, &json!([{"type": "text", "text": "an answer"}])), None);
        assert_eq!(refusal(&json!("No."), &Value::Null).as_deref(), Some("No."));
        assert_eq!(refusal(&Value::Null, &json!([{"type": "refusal", "refusal": "No."}])).as_deref(), Some("No."));
    }

    #[test]
    fn arguments_are_text_or_an_object() {
        assert_eq!(arguments(&json!("{\"a\":1}")).as_deref(), Some("{\"a\":1}"));
        assert_eq!(arguments(&json!({"a": 1})).as_deref(), Some("{\"a\":1}"));
        assert_eq!((arguments(&Value::Null), arguments(&json!("")), arguments(&json!([1]))), (None, None, None));
    }

    #[test]
    fn a_stream_of_events_is_told_by_its_type_or_by_its_first_field() {
        let json = b"{\"choices\":[]}";
        assert!(!is_event_stream(Some("application/json"), json) && !is_event_stream(None, b""));
        assert!(is_event_stream(Some("text/event-stream; charset=utf-8"), json));
        for body in [&b"data: {}\n\n"[..], b"\n\nevent: message\n", b": ping\n\n", b"\xef\xbb\xbfdata:{}"] {
            assert!(is_event_stream(None, body), "{body:?}");
        }
    }
}
