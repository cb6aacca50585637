//! The middleware that records every call to the two APIs.

use std::sync::Arc;

use axum::{
    body::{Body, to_bytes},
    extract::{Request, State},
    http::StatusCode,
    middleware::Next,
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use futures_util::stream;
use serde_json::Value;
use time::OffsetDateTime;

use crate::{
    calls::{Call, MAX_BODY_BYTES},
    lock::lock,
    state::Simulator,
};

/// Lets a call pass and records it with its answer.
pub(crate) async fn record(State(simulator): State<Arc<Simulator>>, request: Request, next: Next) -> Response {
    if simulator.config.keep_calls == 0 {
        return next.run(request).await;
    }
    let at = OffsetDateTime::now_utc();
    let (head, body) = request.into_parts();
    let Ok(body) = to_bytes(body, MAX_BODY_BYTES).await else {
        return StatusCode::PAYLOAD_TOO_LARGE.into_response();
    };
    let mut call = Call {
        number: 0,
        at_ms: i64::try_from(at.unix_timestamp_nanos() / 1_000_000).unwrap_or(i64::MAX),
        method: head.method.to_string(),
        path: head.uri.path().to_owned(),
        query: head.uri.query().unwrap_or_default().to_owned(),
        request: serde_json::from_slice(&body).unwrap_or(Value::Null),
        status: 0,
        response: Value::Null,
    };
    let response = next.run(Request::from_parts(head, Body::from(body))).await;
    let (head, body) = response.into_parts();
    call.status = head.status.as_u16();
    // A fault may have broken the body off; the caller must meet it broken, too.
    let (body, answer) = match to_bytes(body, MAX_BODY_BYTES).await {
        Ok(bytes) => (Body::from(bytes.clone()), serde_json::from_slice(&bytes).unwrap_or(Value::Null)),
        Err(error) => (Body::from_stream(stream::iter([Err::<Bytes, _>(error)])), Value::Null),
    };
    call.response = answer;
    lock(&simulator.calls).add(call, simulator.config.keep_calls);
    Response::from_parts(head, body)
}
