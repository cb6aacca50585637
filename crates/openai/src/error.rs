//! The errors of requests and what to do about them: the one place where OpenAI's errors are classified.

use std::{fmt, time::Duration};

use retry::{Dependency, Failure, Outage, RateLimited, Reason, RetryAction};
use serde::Deserialize;

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
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct OpenAiApiError {
    /// The HTTP status.
    #[serde(skip)]
    pub http_status: u16,
    /// The header `retry-after-ms` or `retry-after`.
    #[serde(skip)]
    pub retry_after: Option<Duration>,
    /// The header `x-should-retry`, which clients have to obey.
    #[serde(skip)]
    pub should_retry: Option<bool>,
    /// The id that OpenAI's support asks for.
    #[serde(skip)]
    pub request_id: Option<String>,
    /// The message. It may quote the request, so it is not part of the error's text.
    pub message: String,
    /// `invalid_request_error`, …
    #[serde(rename = "type")]
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
            Self::Api(_) | Self::RateLimited(_) => false,
        }
    }
}

/// The wait when the account has no credit left: a person has to add some, which takes longer than seconds.
const QUOTA_WAIT: Duration = Duration::from_secs(600);

impl Failure for OpenAiError {
    fn retry_action(&self) -> RetryAction {
        match self {
            Self::TimedOut(_) | Self::Connection(_) | Self::Unreadable(_) => RetryAction::RetryNow { after: None },
            Self::RateLimited(RateLimited { after }) => RetryAction::RateLimited { after: Some(*after) },
            Self::Api(error) => error.retry_action(),
        }
    }

    fn reason(&self) -> Reason {
        match self {
            Self::TimedOut(_) => Reason::OpenAiTimeout,
            Self::Connection(_) => Reason::OpenAiUnreachable,
            Self::Unreadable(_) => Reason::OpenAiUnreadable,
            Self::RateLimited(_) => Reason::RateLimitShareExhausted,
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
    fn has_code(&self, codes: &[&str]) -> bool {
        let is_one = |value: &Option<String>| value.as_deref().is_some_and(|value| codes.contains(&value));
        is_one(&self.code) || is_one(&self.kind)
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
