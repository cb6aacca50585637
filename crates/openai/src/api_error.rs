//! The error answers of OpenAI and of what is before it, as they are read. What they mean is in `api_error_meaning`.

use std::{fmt, time::Duration};

use serde_json::Value;

use crate::{
    OpenAiError,
    api_error_meaning::{OVERLOADED, SERVER_ERRORS},
    lenient,
};

/// An error answer (OpenAI's documentation, "Error codes").
#[derive(Debug, Default)]
pub struct OpenAiApiError {
    /// The HTTP status; of an error within an answer of success, the one that it stands for.
    pub http_status: u16,
    /// The header `retry-after-ms` or `retry-after`.
    pub retry_after: Option<Duration>,
    /// The header `x-should-retry`, which clients have to obey.
    pub should_retry: Option<bool>,
    /// The id that OpenAI's support asks for.
    pub request_id: Option<String>,
    /// The beginning of the message. It may quote the request, so it is not part of the error's text.
    pub message: String,
    /// `invalid_request_error`, …
    pub kind: Option<String>,
    /// The parameter at fault.
    pub param: Option<String>,
    /// `context_length_exceeded`, `insufficient_quota`, …
    pub code: Option<String>,
    /// Azure's code beside `code`: `ResponsibleAIPolicyViolation`.
    pub inner_code: Option<String>,
    /// Whether the body is a page for people: a proxy answered, and not OpenAI.
    pub is_page: bool,
    /// Whether the limit on tokens is smaller than the request, by the answer's headers: it fits at no time.
    pub never_fits: bool,
}

impl fmt::Display for OpenAiApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OpenAI answered {}", self.http_status)?;
        let parts =
            [("", &self.kind), ("code ", &self.code), ("parameter ", &self.param), ("request id ", &self.request_id)];
        for (label, value) in parts.into_iter().filter_map(|(label, value)| Some((label, value.as_ref()?))) {
            write!(f, ", {label}{value}")?;
        }
        f.write_str(match self {
            Self { never_fits: true, .. } => ", the request is larger than the limit on tokens",
            Self { is_page: true, .. } => ", with a page of a proxy",
            _ => "",
        })
    }
}

impl std::error::Error for OpenAiApiError {}

/// The status of an error within an answer of success, by its code or type. The first that matches counts: the type of a bad
/// request is that of others, too, whose code says more.
const STATUS_BY_CODE: [(u16, &[&str]); 6] = [
    (401, &["invalid_api_key", "authentication_error"]),
    (403, &["permission_error"]),
    (404, &["model_not_found", "not_found_error"]),
    (429, &["rate_limit_exceeded", "rate_limit_error"]),
    (500, &SERVER_ERRORS),
    (400, &["invalid_request_error"]),
];

impl OpenAiApiError {
    /// Reads the body of an answer that is not 2xx, leniently: gateways answer with bodies in other formats or with none, and
    /// compatible servers with numbers and nulls. Each text is cut.
    pub(crate) fn read(body: &[u8]) -> Self {
        match lenient::json(body) {
            Ok(body) if body["error"].is_null() => Self::of(&body),
            Ok(body) => Self::of(&body["error"]),
            Err(_) => Self { is_page: lenient::is_page(body), ..Self::default() },
        }
    }

    /// The error that a part of an answer of success holds, as gateways answer that have sent their status before they know. One
    /// that does not say what it means is an answer that cannot be read.
    pub(crate) fn within(part: &Value) -> Option<OpenAiError> {
        let error = Some(&part["error"]).filter(|error| !error.is_null())?;
        let read = Self::of(error);
        let number = |value: &Value| lenient::name(value)?.parse().ok().filter(|status| (400..600).contains(status));
        let by_number = [&error["code"], &error["status"]].into_iter().find_map(number);
        let by_code = || STATUS_BY_CODE.iter().find(|(_, codes)| read.has_code(codes)).map(|(status, _)| *status);
        // Others are known by their code, whatever the status.
        let known = || (read.by_code().is_some() || read.has_code(&OVERLOADED)).then_some(503);
        Some(match by_number.or_else(by_code).or_else(known) {
            Some(http_status) => OpenAiError::Api(Box::new(Self { http_status, ..read })),
            None => OpenAiError::Unreadable("it holds an error that does not say what it means".to_owned()),
        })
    }

    fn of(error: &Value) -> Self {
        let name = |key: &str| lenient::name(&error[key]);
        Self {
            message: name("message").unwrap_or_default(),
            kind: name("type"),
            param: name("param"),
            code: name("code"),
            inner_code: lenient::name(&error["innererror"]["code"]),
            ..Self::default()
        }
    }

    pub(crate) fn has_code(&self, codes: &[&str]) -> bool {
        let names = [&self.code, &self.kind, &self.inner_code];
        names.into_iter().flatten().any(|name| codes.contains(&name.as_str()))
    }
}

#[cfg(test)]
mod tests {
    use retry::{Failure, Reason};
    use serde_json::{Value, json};

    use super::{OpenAiApiError, OpenAiError};

    #[test]
    fn an_error_answer_is_read_leniently_and_what_it_says_is_cut() {
        let long = "é".repeat(100_000);
        let body = json!({"error": {"message": null, "type": long, "param": long, "code": 1234}}).to_string();
        let error = OpenAiApiError { http_status: 400, ..OpenAiApiError::read(body.as_bytes()) };
        assert_eq!((error.message.as_str(), error.code.as_deref()), ("", Some("1234")));
        assert!(error.kind.as_ref().is_some_and(|kind| kind.starts_with('é')));
        assert!(error.to_string().len() < 1_000, "{}", error.to_string().len());
        let bare = OpenAiApiError::read(b"<html>Bad gateway</html>");
        assert_eq!((bare.kind, bare.code, bare.is_page), (None, None, true));
        let flat = OpenAiApiError::read(br#"{"object": "error", "message": "no", "code": 400}"#);
        assert_eq!((flat.message.as_str(), flat.code.as_deref()), ("no", Some("400")), "as vLLM answers");
        for odd in ["", "null", "[]", "7", r#"{"error": null}"#, r#"{"error": "no"}"#, r#"{"error": []}"#] {
            assert_eq!(OpenAiApiError::read(odd.as_bytes()).code, None, "{odd}");
        }
    }

    #[test]
    fn an_error_within_an_answer_of_success_means_what_it_says() {
        let within = |error: Value| OpenAiApiError::within(&json!({ "error": error }));
        assert!(within(Value::Null).is_none() && OpenAiApiError::within(&json!({})).is_none());
        let reason = |error: Value| within(error).map(|error| error.reason());
        assert_eq!(reason(json!({"code": 429})), Some(Reason::OpenAiRateLimited));
        assert_eq!(reason(json!({"code": "429"})), Some(Reason::OpenAiRateLimited));
        assert_eq!(reason(json!({"code": null, "status": "503"})), Some(Reason::OpenAiUnavailable));
        assert_eq!(reason(json!({"code": 502, "message": "Upstream"})), Some(Reason::OpenAiUnavailable));
        let of_key = json!({"type": "invalid_request_error", "code": "invalid_api_key"});
        assert_eq!(reason(of_key), Some(Reason::OpenAiUnauthorized));
        let of_model = json!({"type": "invalid_request_error", "code": "model_not_found"});
        assert_eq!(reason(of_model), Some(Reason::ModelNotFound));
        assert_eq!(reason(json!({"type": "invalid_request_error"})), Some(Reason::OpenAiInvalidRequest));
        assert_eq!(reason(json!({"type": "server_error", "code": null})), Some(Reason::OpenAiUnavailable));
        assert_eq!(reason(json!({"code": "server_is_overloaded"})), Some(Reason::OpenAiUnavailable));
        assert_eq!(reason(json!({"code": "context_length_exceeded"})), Some(Reason::ContextTooLong));
        assert_eq!(reason(json!({"code": "insufficient_quota"})), Some(Reason::InsufficientQuota));
        assert_eq!(reason(json!({"code": "model_not_found"})), Some(Reason::ModelNotFound));
        for unknown in [json!("no"), json!({}), json!({"code": 7, "message": "no"})] {
            assert!(matches!(within(unknown.clone()), Some(OpenAiError::Unreadable(_))), "{unknown}");
        }
    }
}
