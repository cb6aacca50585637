//! Why a webhook is rejected, and the answer that HubSpot gets.

use std::fmt::Display;

use axum::{
    Json,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use hubspot::{signature::SignatureError, webhook::WebhookBodyError};
use serde_json::json;
use service::LimitReached;

use crate::body::Incomplete;

/// Why a webhook is rejected. HubSpot sends the webhook again after every status but 2xx.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WebhookRejection {
    /// The limits of concurrent work are reached, or RabbitMQ does not have every event.
    #[error("{0}")]
    Unavailable(String),
    /// HubSpot has not signed it, or not for this URL.
    #[error(transparent)]
    Unsigned(#[from] SignatureError),
    /// The body is no array of events.
    #[error(transparent)]
    Unreadable(WebhookBodyError),
    /// The body is longer than allowed.
    #[error(transparent)]
    TooLarge(WebhookBodyError),
    /// The body did not arrive in time, or the connection broke.
    #[error("the body did not arrive completely and in time")]
    Incomplete,
}

impl From<WebhookBodyError> for WebhookRejection {
    fn from(error: WebhookBodyError) -> Self {
        match error {
            WebhookBodyError::TooLong(_) | WebhookBodyError::TooMuchKept(_) => Self::TooLarge(error),
            WebhookBodyError::NotAnArray(_) | WebhookBodyError::WrongCount(_) => Self::Unreadable(error),
        }
    }
}

impl From<LimitReached> for WebhookRejection {
    fn from(limit: LimitReached) -> Self {
        Self::unavailable(format!("too many bytes at once: {limit}"))
    }
}

impl From<Incomplete> for WebhookRejection {
    fn from(Incomplete: Incomplete) -> Self {
        Self::Incomplete
    }
}

impl WebhookRejection {
    /// It may be accepted later.
    pub(crate) fn unavailable(why: impl Display) -> Self {
        Self::Unavailable(why.to_string())
    }

    /// The name in the metrics and in the answer.
    pub(crate) fn outcome(&self) -> &'static str {
        match self {
            Self::Unavailable(_) => "unavailable",
            Self::Unsigned(_) => "bad_signature",
            Self::Unreadable(_) => "unreadable",
            Self::TooLarge(_) => "too_large",
            Self::Incomplete => "incomplete",
        }
    }

    /// The status of the answer.
    pub(crate) fn status(&self) -> StatusCode {
        match self {
            Self::Unavailable(_) => StatusCode::SERVICE_UNAVAILABLE,
            Self::Unsigned(_) => StatusCode::UNAUTHORIZED,
            Self::Unreadable(_) => StatusCode::BAD_REQUEST,
            Self::TooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Incomplete => StatusCode::REQUEST_TIMEOUT,
        }
    }

    /// The answer; a 503 tells HubSpot to come back after `retry_after_seconds`.
    pub(crate) fn into_response(self, retry_after_seconds: u64) -> Response {
        let (status, message) = (self.status(), self.to_string());
        let mut response = (status, Json(json!({"error": self.outcome(), "message": message}))).into_response();
        if status == StatusCode::SERVICE_UNAVAILABLE {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(retry_after_seconds));
        }
        response
    }
}
