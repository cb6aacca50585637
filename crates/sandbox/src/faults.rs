//! Faults on demand: what goes wrong with HubSpot and OpenAI in practice.

use std::{sync::Arc, time::Duration};

use axum::{
    body::{Body, to_bytes},
    extract::{Request, State},
    http::{StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use serde::{Deserialize, Serialize};

use crate::{Sandbox, calls::MAX_BODY, hubspot, lock, openai};

/// A fault, and which calls it strikes.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// Whose calls.
    pub target: Target,
    /// What happens.
    pub kind: FaultKind,
    /// Only calls whose path contains this.
    #[serde(default)]
    pub path: Option<String>,
    /// Only calls whose body contains this.
    #[serde(default)]
    pub contains: Option<String>,
    /// Only this many calls.
    #[serde(default)]
    pub times: Option<u32>,
    /// Of the calls that match, this share in percent; all by default.
    #[serde(default)]
    pub percent: Option<u8>,
}

/// Whose calls a fault strikes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// HubSpot's.
    Hubspot,
    /// OpenAI's.
    Openai,
}

/// What happens to a call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FaultKind {
    /// The answer comes later, by this many milliseconds.
    Latency(u64),
    /// The answer has this status, and `Retry-After` if given.
    Status {
        /// For example 429 or 503.
        code: u16,
        /// In seconds.
        #[serde(default)]
        retry_after: Option<u64>,
    },
    /// The answer does not come.
    Hang,
    /// The connection breaks within the answer.
    Cut,
    /// The answer is no JSON.
    Garbage,
    /// The model answers prose instead of JSON.
    Prose,
    /// The model declines.
    Refusal,
    /// The model's answer is cut at the output limit.
    Length,
    /// The content filter holds the answer back.
    ContentFilter,
    /// No money is left.
    InsufficientQuota,
}

/// A model's misbehaviour, passed on to the handler that plays the model.
#[derive(Debug, Clone)]
pub(crate) struct Misbehaviour(pub(crate) FaultKind);

/// How long a call hangs: longer than any sane time-out.
const HANG: Duration = Duration::from_secs(300);

/// Lets a call pass, or strikes it.
pub(crate) async fn strike(State(sandbox): State<Arc<Sandbox>>, request: Request, next: Next) -> Response {
    let (head, body) = request.into_parts();
    let Ok(body) = to_bytes(body, MAX_BODY).await else {
        return StatusCode::PAYLOAD_TOO_LARGE.into_response();
    };
    let target = if head.uri.path().starts_with("/v1/") { Target::Openai } else { Target::Hubspot };
    let struck = pick(&sandbox, target, head.uri.path(), &body);
    let mut request = Request::from_parts(head, Body::from(body));
    match struck {
        None => next.run(request).await,
        Some(FaultKind::Latency(ms)) => {
            tokio::time::sleep(Duration::from_millis(ms)).await;
            next.run(request).await
        }
        Some(FaultKind::Hang) => {
            tokio::time::sleep(HANG).await;
            StatusCode::GATEWAY_TIMEOUT.into_response()
        }
        Some(FaultKind::Cut) => {
            let broken = std::io::Error::other("cut on purpose");
            let parts = [Ok(bytes::Bytes::from_static(b"{\"id\":\"5")), Err(broken)];
            Response::new(Body::from_stream(futures_util::stream::iter(parts)))
        }
        Some(FaultKind::Garbage) => "<html>Bad gateway, says a proxy</html>".into_response(),
        Some(FaultKind::Status { code, retry_after }) => {
            let status = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            let mut response = match target {
                Target::Hubspot => hubspot::errors::by_status(status),
                Target::Openai => openai::errors::by_status(status),
            };
            if let Some(seconds) = retry_after {
                response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
            }
            response
        }
        Some(FaultKind::InsufficientQuota) => openai::errors::insufficient_quota(),
        Some(kind) => {
            request.extensions_mut().insert(Misbehaviour(kind));
            next.run(request).await
        }
    }
}

fn pick(sandbox: &Sandbox, target: Target, path: &str, body: &[u8]) -> Option<FaultKind> {
    let mut faults = lock(&sandbox.faults);
    let text = String::from_utf8_lossy(body);
    let fault = faults.iter_mut().find(|fault| {
        fault.target == target
            && fault.times != Some(0)
            && fault.path.as_deref().is_none_or(|part| path.contains(part))
            && fault.contains.as_deref().is_none_or(|part| text.contains(part))
            && fault.percent.is_none_or(|percent| u128::from(percent) > dice())
    })?;
    if let Some(times) = &mut fault.times {
        *times -= 1;
    }
    Some(fault.kind.clone())
}

/// 0–99; the random part of a fresh id is random enough.
fn dice() -> u128 {
    uuid::Uuid::now_v7().as_u128() % 100
}
