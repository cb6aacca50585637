//! The errors of requests and what to do about them: the one place where OpenAI's errors are classified.

use std::{fmt, time::Duration};

use http_client::{MAX_NAME, shortened};
use retry::{Dependency, Failure, Outage, RateLimited, Reason, RetryAction};
use serde_json::Value;

/// A request that failed.
#[derive(Debug, thiserror::Error)]
pub enum OpenAiError {
    /// No answer within the timeout. The request may be billed; it has no other effect.
    #[error("OpenAI did not answer within {0:?}")]
    TimedOut(Duration),
    /// The connection failed or broke.
    #[error("no connection to OpenAI: {0}")]
    Connection(reqwest::Error),
    /// An answer other than 2xx.
    #[error(transparent)]
    Api(Box<OpenAiApiError>),
    /// The request was not sent, because no permit of the rate limiter can be had soon.
    #[error(transparent)]
    RateLimited(#[from] RateLimited),
    /// An answer that does not have the documented form.
    #[error("OpenAI's answer cannot be read: {0}")]
    Unreadable(String),
}

/// An error answer (OpenAI's documentation, "Error codes").
#[derive(Debug, Default)]
pub struct OpenAiApiError {
    /// The HTTP status.
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
}

impl fmt::Display for OpenAiApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OpenAI answered {}", self.http_status)?;
        let parts =
            [("", &self.kind), ("code ", &self.code), ("parameter ", &self.param), ("request id ", &self.request_id)];
        for (label, value) in parts.into_iter().filter_map(|(label, value)| Some((label, value.as_ref()?))) {
            write!(f, ", {label}{value}")?;
        }
        Ok(())
    }
}

impl std::error::Error for OpenAiApiError {}

impl OpenAiError {
    /// Whether OpenAI may have answered and bill the answer: it was lost on its way, or cannot be read. What OpenAI rejects
    /// or cannot process is not billed.
    pub fn may_be_billed(&self) -> bool {
        match self {
            Self::TimedOut(_) | Self::Unreadable(_) => true,
            Self::Connection(error) => !error.is_connect(),
            Self::Api(error) => error.may_be_billed(),
            Self::RateLimited(_) => false,
        }
    }
}

/// What OpenAI calls the errors of its own servers (its documentation, "Error codes": 500 and 503).
const SERVER_ERRORS: [&str; 5] =
    ["server_error", "server_is_overloaded", "service_unavailable", "overloaded_error", "slow_down"];

/// The wait when the account has no credit left: a person has to add some, which takes longer than seconds.
const QUOTA_WAIT: Duration = Duration::from_secs(600);

impl Failure for OpenAiError {
    fn retry_action(&self) -> RetryAction {
        match self {
            Self::TimedOut(_) | Self::Connection(_) | Self::Unreadable(_) => RetryAction::RetryNow { after: None },
            Self::RateLimited(RateLimited { after, .. }) => RetryAction::RateLimited { after: Some(*after) },
            Self::Api(error) => error.retry_action(),
        }
    }

    fn reason(&self) -> Reason {
        match self {
            Self::TimedOut(_) => Reason::OpenAiTimeout,
            Self::Connection(_) => Reason::OpenAiUnreachable,
            Self::Unreadable(_) => Reason::OpenAiUnreadable,
            Self::RateLimited(RateLimited { shortage, .. }) => shortage.reason(),
            Self::Api(error) => error.reason(),
        }
    }

    fn outage(&self) -> Option<Outage> {
        let outage = |is_certain| Some(Outage { dependency: Dependency::OpenAi, is_certain });
        match self {
            Self::TimedOut(_) | Self::Connection(_) | Self::Unreadable(_) => outage(false),
            Self::RateLimited(_) => None,
            Self::Api(error) if error.is_out_of_credit() => outage(true),
            Self::Api(error) => match error.http_status {
                401 => outage(true),
                500..=599 => outage(false),
                _ => None,
            },
        }
    }
}

impl OpenAiApiError {
    /// Reads the body of an answer that is not 2xx, leniently: gateways answer with bodies in other formats or with none, and
    /// compatible servers with numbers and nulls. Each text is cut.
    pub(crate) fn read(body: &[u8]) -> Self {
        let body = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
        let body: Value = serde_json::from_slice(body).unwrap_or_default();
        let text = |key: &str| match &body["error"][key] {
            Value::String(text) if !text.is_empty() => Some(shortened(text, MAX_NAME)),
            Value::Number(number) => Some(number.to_string()),
            _ => None,
        };
        let message = text("message").unwrap_or_default();
        Self { message, kind: text("type"), param: text("param"), code: text("code"), ..Self::default() }
    }

    fn has_code(&self, codes: &[&str]) -> bool {
        let is_one = |value: &Option<String>| value.as_deref().is_some_and(|value| codes.contains(&value));
        is_one(&self.code) || is_one(&self.kind)
    }

    /// A gateway answers 408 or 5xx of its own when it gives up on an answer, which OpenAI bills all the same. Only where OpenAI
    /// itself says that it failed is it known that there was none.
    fn may_be_billed(&self) -> bool {
        let is_openais = matches!(self.http_status, 500 | 503) && self.has_code(&SERVER_ERRORS);
        matches!(self.http_status, 408 | 500..=599) && !is_openais
    }

    /// Whether the account has no credit left. OpenAI answers 429 with one of these codes; waiting does not help.
    fn is_out_of_credit(&self) -> bool {
        self.has_code(&["insufficient_quota", "billing_hard_limit_reached"])
    }

    fn retry_action(&self) -> RetryAction {
        let transient = matches!(self.http_status, 408 | 409 | 429 | 500..=599);
        match self.should_retry {
            _ if self.is_out_of_credit() => RetryAction::RetryLater { after: Some(QUOTA_WAIT) },
            Some(true) | None if self.http_status == 429 => RetryAction::RateLimited { after: self.retry_after },
            // The key is invalid and every call fails; the retry queues give an operator time to replace it.
            _ if self.http_status == 401 => RetryAction::RetryLater { after: self.retry_after },
            Some(true) => RetryAction::RetryNow { after: self.retry_after },
            Some(false) if transient => RetryAction::RetryLater { after: self.retry_after },
            None if transient => RetryAction::RetryNow { after: self.retry_after },
            _ => RetryAction::Park,
        }
    }

    fn reason(&self) -> Reason {
        match self.http_status {
            _ if self.is_out_of_credit() => Reason::InsufficientQuota,
            _ if self.has_code(&["context_length_exceeded"]) => Reason::ContextTooLong,
            400 => Reason::OpenAiInvalidRequest,
            401 => Reason::OpenAiUnauthorized,
            403 => Reason::OpenAiForbidden,
            404 => Reason::ModelNotFound,
            429 => Reason::OpenAiRateLimited,
            408 | 409 | 500..=599 => Reason::OpenAiUnavailable,
            _ => Reason::OpenAiRefused,
        }
    }
}

/// Why a model takes no request of this kind, whatever it is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ModelRefusal {
    /// There is no such model (any more): 404, or the code `model_not_found`. OpenAI does not document what a model answers that
    /// was shut down; users have seen this (models.dev#3707).
    Gone,
    /// The API key's project or country may not use it: 403.
    Forbidden,
    /// It does not take this parameter, or not with this value: 400 with a `param` of the request's options.
    Parameter(String),
}

impl OpenAiError {
    /// Whether the model would refuse any other request with the same options, too; `None` if the data may be to blame.
    pub fn model_refusal(&self) -> Option<ModelRefusal> {
        let Self::Api(error) = self else { return None };
        match error.http_status {
            400 | 404 if error.http_status == 404 || error.has_code(&["model_not_found"]) => Some(ModelRefusal::Gone),
            // A gateway may block a text; it does not answer in OpenAI's form.
            403 if error.kind.is_some() || error.code.is_some() => Some(ModelRefusal::Forbidden),
            400 => error.refused_parameter().map(ModelRefusal::Parameter),
            _ => None,
        }
    }

    /// Whether OpenAI itself says that the API key has no such model. The 404 of a compatible server may only mean that it
    /// describes no models.
    pub fn denies_model(&self) -> bool {
        let is_named = matches!(self, Self::Api(error) if error.has_code(&["model_not_found"]));
        is_named || self.model_refusal() == Some(ModelRefusal::Forbidden)
    }
}

impl OpenAiApiError {
    /// The option of the request that a 400 names. What is wrong with the messages may be a stranger's text, unless OpenAI
    /// says that the model does not support it.
    fn refused_parameter(&self) -> Option<String> {
        let is_unsupported = self.has_code(&["unsupported_value", "unsupported_parameter"]);
        let names_option = |param: &&String| {
            let is_data = ["messages", "input", "prompt"].iter().any(|data| names(param, data));
            is_unsupported || (self.has_code(&["invalid_request_error"]) && !is_data)
        };
        let too_long = self.reason() == Reason::ContextTooLong;
        self.param.as_ref().filter(names_option).filter(|_| !too_long).cloned()
    }
}

/// Whether `param` is `option` or a part of it: `messages[1].content`.
fn names(param: &str, option: &str) -> bool {
    param.strip_prefix(option).is_some_and(|rest| rest.is_empty() || rest.starts_with(['[', '.']))
}

#[cfg(test)]
mod tests {
    use super::{ModelRefusal, OpenAiApiError, OpenAiError};

    fn may_be_billed(http_status: u16, kind: Option<&str>) -> bool {
        let kind = kind.map(ToOwned::to_owned);
        OpenAiError::Api(Box::new(OpenAiApiError { http_status, kind, ..OpenAiApiError::default() })).may_be_billed()
    }

    #[test]
    fn an_error_answer_is_read_leniently_and_what_it_says_is_cut() {
        let long = "é".repeat(100_000);
        let body =
            serde_json::json!({"error": {"message": null, "type": long, "param": long, "code": 1234}}).to_string();
        let error = OpenAiApiError { http_status: 400, ..OpenAiApiError::read(body.as_bytes()) };
        assert_eq!((error.message.as_str(), error.code.as_deref()), ("", Some("1234")));
        assert!(error.kind.as_ref().is_some_and(|kind| kind.starts_with('é')));
        assert!(error.to_string().len() < 1_000, "{}", error.to_string().len());
        let bare = OpenAiApiError::read(b"<html>Bad gateway</html>");
        assert_eq!((bare.kind, bare.code), (None, None));
    }

    #[test]
    fn what_a_gateway_says_when_it_gives_up_may_be_billed_and_what_openai_says_of_itself_is_not() {
        for (status, kind) in [
            (408, None),
            (500, None),
            (500, Some("internal_error")),
            (502, None),
            (503, None),
            (504, Some("server_error")),
            (524, None),
        ] {
            assert!(may_be_billed(status, kind), "{status} {kind:?}");
        }
        for (status, kind) in [
            (400, Some("invalid_request_error")),
            (401, None),
            (409, None),
            (429, Some("requests")),
            (500, Some("server_error")),
            (503, Some("server_is_overloaded")),
        ] {
            assert!(!may_be_billed(status, kind), "{status} {kind:?}");
        }
    }

    fn model_refusal(http_status: u16, body: &str) -> Option<ModelRefusal> {
        let error = OpenAiApiError { http_status, ..OpenAiApiError::read(body.as_bytes()) };
        OpenAiError::Api(Box::new(error)).model_refusal()
    }

    #[test]
    fn what_a_model_refuses_of_any_request_is_told_from_what_is_wrong_with_one() {
        let parameter = |name: &str| Some(ModelRefusal::Parameter(name.to_owned()));
        for (status, body, expected) in [
            (404, r#"{"error":{"type":"invalid_request_error","code":"model_not_found"}}"#, Some(ModelRefusal::Gone)),
            (
                400,
                r#"{"error":{"type":"invalid_request_error","param":"model","code":"model_not_found"}}"#,
                Some(ModelRefusal::Gone),
            ),
            (404, "<html>no such route</html>", Some(ModelRefusal::Gone)),
            (
                403,
                r#"{"error":{"type":"invalid_request_error","code":"model_not_found"}}"#,
                Some(ModelRefusal::Forbidden),
            ),
            (
                403,
                r#"{"error":{"type":"request_forbidden","code":"unsupported_country_region_territory"}}"#,
                Some(ModelRefusal::Forbidden),
            ),
            (403, "<html>Blocked by a firewall because of a text</html>", None),
            (
                400,
                r#"{"error":{"type":"invalid_request_error","param":"temperature","code":"unsupported_value"}}"#,
                parameter("temperature"),
            ),
            (
                400,
                r#"{"error":{"type":"invalid_request_error","param":"response_format"}}"#,
                parameter("response_format"),
            ),
            (
                400,
                r#"{"error":{"code":"unsupported_value","param":"messages[0].role"}}"#,
                parameter("messages[0].role"),
            ),
            (
                400,
                r#"{"error":{"type":"invalid_request_error","param":"messages[1].content","code":"string_above_max_length"}}"#,
                None,
            ),
            (
                400,
                r#"{"error":{"type":"invalid_request_error","param":"messages","code":"context_length_exceeded"}}"#,
                None,
            ),
            (400, r#"{"error":{"type":"invalid_request_error","param":null}}"#, None),
            (429, r#"{"error":{"type":"requests","param":"temperature"}}"#, None),
            (500, "", None),
        ] {
            assert_eq!(model_refusal(status, body), expected, "{status} {body}");
        }
    }
}
