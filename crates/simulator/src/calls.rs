//! Every call is recorded, so that tests can say what HubSpot and OpenAI would have seen.

use std::{collections::VecDeque, sync::Arc};

use axum::{
    body::{Body, to_bytes},
    extract::{Request, State},
    http::StatusCode,
    middleware::Next,
    response::{IntoResponse, Response},
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use time::OffsetDateTime;

use crate::{Simulator, lock};

/// Longer bodies are refused; HubSpot's own limit is of this order.
pub(crate) const MAX_BODY: usize = 10 * 1024 * 1024;

/// One call and its answer.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Call {
    /// Counts from 1.
    pub number: u64,
    /// When it came, in ms since 1970.
    pub at_ms: i64,
    /// For example `PATCH`.
    pub method: String,
    /// Without the query.
    pub path: String,
    /// Without the question mark.
    pub query: String,
    /// Null when there was none.
    pub request: Value,
    /// The answer's status.
    pub status: u16,
    /// Null when there was none, or no JSON.
    pub response: Value,
}

#[derive(Debug, Default)]
pub(crate) struct Calls {
    next: u64,
    kept: VecDeque<Call>,
}

impl Calls {
    /// The calls after the one with number `after`.
    pub(crate) fn after(&self, after: u64) -> Vec<Call> {
        self.kept.iter().filter(|call| call.number > after).cloned().collect()
    }

    fn add(&mut self, mut call: Call, keep: usize) {
        self.next += 1;
        call.number = self.next;
        self.kept.push_back(call);
        if self.kept.len() > keep {
            self.kept.pop_front();
        }
    }
}

/// Records the call that passes.
pub(crate) async fn record(State(simulator): State<Arc<Simulator>>, request: Request, next: Next) -> Response {
    if simulator.config.keep_calls == 0 {
        return next.run(request).await;
    }
    let at = OffsetDateTime::now_utc();
    let (head, body) = request.into_parts();
    let Ok(body) = to_bytes(body, MAX_BODY).await else {
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
    // A body that breaks off on purpose stays broken.
    let (body, answer) = match to_bytes(body, MAX_BODY).await {
        Ok(bytes) => (Body::from(bytes.clone()), serde_json::from_slice(&bytes).unwrap_or(Value::Null)),
        Err(error) => (Body::from_stream(futures_util::stream::iter([Err::<bytes::Bytes, _>(error)])), Value::Null),
    };
    call.response = answer;
    lock(&simulator.calls).add(call, simulator.config.keep_calls);
    Response::from_parts(head, body)
}
