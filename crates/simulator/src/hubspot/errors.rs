//! HubSpot's error answers.

use axum::{
    Json,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};

fn answer(status: StatusCode, category: &str, message: &str, more: &Value) -> Response {
    let mut body = json!({
        "status": "error",
        "message": message,
        "correlationId": uuid::Uuid::now_v7(),
        "category": category,
    });
    if let (Some(body), Some(more)) = (body.as_object_mut(), more.as_object()) {
        body.extend(more.clone());
    }
    (status, Json(body)).into_response()
}

/// 400
pub(crate) fn validation(message: &str) -> Response {
    answer(StatusCode::BAD_REQUEST, "VALIDATION_ERROR", message, &json!({}))
}

/// 400 for property values: each problem is the property, HubSpot's code and the message. Older and multi-status bodies name
/// the properties in the message only (HubSpot's changelog, "Property Validations Rules will be enforced").
pub(crate) fn invalid_values(problems: &[(String, &'static str, String)], in_message_only: bool) -> Response {
    let listed: Vec<_> = problems
        .iter()
        .map(|(name, code, message)| {
            json!({"isValid": false, "message": message, "error": code, "name": name, "propertyErrorCode": code})
        })
        .collect();
    let errors: Vec<_> = problems
        .iter()
        .map(|(name, code, message)| json!({"message": message, "code": code, "context": {"propertyName": [name]}}))
        .collect();
    let message = format!("Property values were not valid: {}", Value::from(listed));
    let more = if in_message_only { json!({}) } else { json!({"errors": errors}) };
    answer(StatusCode::BAD_REQUEST, "VALIDATION_ERROR", &message, &more)
}

/// 401
pub(crate) fn invalid_authentication() -> Response {
    let message = "Authentication credentials not found. This API supports OAuth 2.0 authentication.";
    answer(StatusCode::UNAUTHORIZED, "INVALID_AUTHENTICATION", message, &json!({}))
}

/// 403
pub(crate) fn missing_scope(scope: &str) -> Response {
    let message = "This app hasn't been granted all required scopes to make this call.";
    let errors = json!({"errors": [{"message": "One or more of the following scopes are required.",
        "context": {"requiredGranularScopes": [scope]}}]});
    answer(StatusCode::FORBIDDEN, "MISSING_SCOPES", message, &errors)
}

/// 409
pub(crate) fn already_exists(message: &str) -> Response {
    answer(StatusCode::CONFLICT, "OBJECT_ALREADY_EXISTS", message, &json!({}))
}

/// 404 for a path
pub(crate) fn not_found(message: &str) -> Response {
    answer(StatusCode::NOT_FOUND, "OBJECT_NOT_FOUND", message, &json!({}))
}

/// 404 for a record
pub(crate) fn object_not_found(id: &str) -> Response {
    not_found(&format!("Object not found. objectId are usually numeric. ({id})"))
}

/// 415
pub(crate) fn unsupported_media_type() -> Response {
    answer(StatusCode::UNSUPPORTED_MEDIA_TYPE, "VALIDATION_ERROR", "Unsupported Media Type", &json!({}))
}

/// 429; `policy` is `TEN_SECONDLY_ROLLING` or `DAILY`
pub(crate) fn rate_limited(policy: &str) -> Response {
    let message = format!("You have reached your {} limit.", policy.to_lowercase());
    let body = json!({"status": "error", "message": message, "errorType": "RATE_LIMIT", "category": "RATE_LIMITS",
        "correlationId": uuid::Uuid::now_v7(), "policyName": policy, "requestId": uuid::Uuid::now_v7()});
    (StatusCode::TOO_MANY_REQUESTS, Json(body)).into_response()
}

/// 488: the portal is in another data centre. Answers captured in production have no category.
fn wrong_data_centre(status: StatusCode) -> Response {
    let message = "Hub 9876543 is unknown to this Hublet, but it appears to exist in Hublet eu1";
    let body =
        json!({"status": "error", "message": message, "correlationId": uuid::Uuid::now_v7(), "correctHublet": "eu1"});
    (status, Json(body)).into_response()
}

/// HubSpot's answer with this status when the failure is on its side.
pub(crate) fn by_status(status: StatusCode) -> Response {
    match status {
        StatusCode::UNAUTHORIZED => invalid_authentication(),
        StatusCode::FORBIDDEN => missing_scope("crm.objects.contacts.write"),
        StatusCode::NOT_FOUND => object_not_found("1"),
        StatusCode::TOO_MANY_REQUESTS => rate_limited("TEN_SECONDLY_ROLLING"),
        status if status.as_u16() == 488 => wrong_data_centre(status),
        other => answer(other, "INTERNAL_ERROR", "There was a problem with the request.", &json!({})),
    }
}
