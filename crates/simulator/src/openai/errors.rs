//! OpenAI's error answers.

use axum::{
    Json,
    http::{HeaderValue, StatusCode},
    response::{IntoResponse, Response},
};
use serde_json::json;

fn answer(status: StatusCode, kind: &str, message: &str, param: Option<&str>, code: Option<&str>) -> Response {
    let body = json!({"error": {"message": message, "type": kind, "param": param, "code": code}});
    let mut response = (status, Json(body)).into_response();
    if let Ok(id) = HeaderValue::from_str(&format!("req_{}", uuid::Uuid::now_v7().simple())) {
        response.headers_mut().insert("x-request-id", id);
    }
    response
}

/// 400
pub(crate) fn invalid_request(message: &str, param: Option<&str>, code: Option<&str>) -> Response {
    answer(StatusCode::BAD_REQUEST, "invalid_request_error", message, param, code)
}

/// 401
pub(crate) fn invalid_api_key() -> Response {
    let message = "Incorrect API key provided. You can find your API key in your account settings.";
    answer(StatusCode::UNAUTHORIZED, "invalid_request_error", message, None, Some("invalid_api_key"))
}

/// 404
pub(crate) fn model_not_found(model: &str) -> Response {
    let message = format!("The model `{model}` does not exist or you do not have access to it.");
    answer(StatusCode::NOT_FOUND, "invalid_request_error", &message, None, Some("model_not_found"))
}

/// 403 for a model that the key's project lacks
pub(crate) fn model_forbidden(model: &str) -> Response {
    let message = format!("Project `proj_simulator` does not have access to model `{model}`.");
    answer(StatusCode::FORBIDDEN, "invalid_request_error", &message, None, Some("model_not_found"))
}

/// 429 for a rate limit; `dimension` is `requests` or `tokens`
pub(crate) fn rate_limited(dimension: &str) -> Response {
    let message = format!("Rate limit reached on {dimension} per min. Please try again later.");
    answer(StatusCode::TOO_MANY_REQUESTS, dimension, &message, None, Some("rate_limit_exceeded"))
}

/// 429 for an account without credit
pub(crate) fn insufficient_quota() -> Response {
    let message = "You exceeded your current quota, please check your plan and billing details.";
    answer(StatusCode::TOO_MANY_REQUESTS, "insufficient_quota", message, None, Some("insufficient_quota"))
}

/// OpenAI's answer with this status when the failure is on its side.
pub(crate) fn by_status(status: StatusCode) -> Response {
    match status {
        StatusCode::UNAUTHORIZED => invalid_api_key(),
        StatusCode::TOO_MANY_REQUESTS => rate_limited("requests"),
        other => answer(other, "server_error", "The server had an error while processing your request.", None, None),
    }
}
