//! The middleware that applies the faults that are switched on.

use std::{sync::Arc, time::Duration};

use axum::{
    body::{Body, to_bytes},
    extract::{Request, State},
    http::{HeaderName, HeaderValue, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};

use crate::{
    calls::MAX_BODY_BYTES,
    faults::{FaultKind, Misbehaviour, Target},
    hubspot,
    lock::lock,
    openai,
    state::Simulator,
};

/// How long a call hangs: longer than any timeout that the fleet is set to.
const HANG: Duration = Duration::from_secs(300);

/// Lets a call pass, or answers it as the first fault that matches it says.
pub(crate) async fn inject(State(simulator): State<Arc<Simulator>>, request: Request, next: Next) -> Response {
    let (head, body) = request.into_parts();
    let Ok(body) = to_bytes(body, MAX_BODY_BYTES).await else {
        return StatusCode::PAYLOAD_TOO_LARGE.into_response();
    };
    let target = if head.uri.path().starts_with("/v1/") { Target::Openai } else { Target::Hubspot };
    // Before the fault is looked for: it may be switched off in between.
    let mut cleared = simulator.faults_cleared.subscribe();
    let fault = pick(&simulator, target, head.uri.path(), &body);
    if fault.is_none() && target == Target::Openai {
        let refusal = lock(&simulator.model_access).refusal(head.uri.path(), &body);
        if let Some(refusal) = refusal {
            return refusal;
        }
    }
    let mut request = Request::from_parts(head, Body::from(body));
    match fault {
        None => next.run(request).await,
        Some(FaultKind::Latency(ms)) => {
            tokio::time::sleep(Duration::from_millis(ms)).await;
            next.run(request).await
        }
        Some(FaultKind::Held) => {
            let held = async { drop(tokio::time::timeout(HANG, cleared.changed()).await) };
            match target {
                Target::Openai => simulator.openai_traffic.wait_for_model(held).await,
                Target::Hubspot => held.await,
            }
            next.run(request).await
        }
        Some(FaultKind::LateAnswer(ms)) => {
            let answer = next.run(request).await;
            tokio::time::sleep(Duration::from_millis(ms)).await;
            answer
        }
        Some(FaultKind::LostAnswer) => {
            next.run(request).await;
            broken()
        }
        Some(FaultKind::HalfCharacters) => with_half_characters(next.run(request).await).await,
        Some(FaultKind::OddLimits) => {
            let mut answer = next.run(request).await;
            for (name, value) in ODD_LIMITS {
                answer.headers_mut().insert(HeaderName::from_static(name), HeaderValue::from_static(value));
            }
            answer
        }
        Some(FaultKind::GatewayGaveUp(code)) => {
            next.run(request).await;
            let status = StatusCode::from_u16(code).unwrap_or(StatusCode::GATEWAY_TIMEOUT);
            (status, "<html>The upstream did not answer in time, says a proxy</html>").into_response()
        }
        Some(FaultKind::Hang) => {
            tokio::time::sleep(HANG).await;
            StatusCode::GATEWAY_TIMEOUT.into_response()
        }
        Some(FaultKind::Cut) => broken(),
        Some(FaultKind::Garbage) => "<html>Bad gateway, says a proxy</html>".into_response(),
        Some(FaultKind::Malformed) => {
            let record = r#"{"id": "7", "createdAt": "some day", "properties": {}}"#;
            let body = format!(r#"{{"status": "COMPLETE", "results": [{record}], "createdAt": "some day"}}"#);
            ([(header::CONTENT_TYPE, "application/json")], body).into_response()
        }
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
        Some(FaultKind::Answer { code, body }) => {
            let media_type = if body.trim_start().starts_with('<') { "text/html" } else { "application/json" };
            let status = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            (status, [(header::CONTENT_TYPE, media_type)], body).into_response()
        }
        Some(kind) => {
            request.extensions_mut().insert(Misbehaviour(kind));
            next.run(request).await
        }
    }
}

/// Numbers that no limit can have, by header.
const ODD_LIMITS: [(&str, &str); 8] = [
    ("x-ratelimit-limit-requests", "-1"),
    ("x-ratelimit-remaining-requests", "-1"),
    ("x-ratelimit-limit-tokens", "30000"),
    ("x-ratelimit-remaining-tokens", "9223372036854775807"),
    ("x-hubspot-ratelimit-max", "9223372036854775807"),
    ("x-hubspot-ratelimit-remaining", "9223372036854775807"),
    ("x-hubspot-ratelimit-daily", "0"),
    ("x-hubspot-ratelimit-daily-remaining", "9223372036854775807"),
];

/// An answer whose connection breaks within the body.
fn broken() -> Response {
    let cut = std::io::Error::other("cut on purpose");
    let parts = [Ok(bytes::Bytes::from_static(b"{\"id\":\"5")), Err(cut)];
    Response::new(Body::from_stream(futures_util::stream::iter(parts)))
}

/// The answer with every U+FFFD as half of an emoji: once as an escape, once as a byte.
async fn with_half_characters(answer: Response) -> Response {
    let (head, body) = answer.into_parts();
    let text = to_bytes(body, MAX_BODY_BYTES).await.unwrap_or_default();
    let parts = String::from_utf8_lossy(&text).into_owned();
    let mut halves = [&b"\\ud83d"[..], &b"\xf0"[..]].into_iter().cycle();
    let mut bytes = Vec::new();
    for (index, part) in parts.split('\u{fffd}').enumerate() {
        if index > 0 {
            bytes.extend_from_slice(halves.next().unwrap_or_default());
        }
        bytes.extend_from_slice(part.as_bytes());
    }
    let mut answer = Response::from_parts(head, Body::from(bytes));
    answer.headers_mut().remove(header::CONTENT_LENGTH);
    answer
}

/// The kind of the first fault that applies to this call; uses up one of its `times`.
fn pick(simulator: &Simulator, target: Target, path: &str, body: &[u8]) -> Option<FaultKind> {
    let mut faults = lock(&simulator.faults);
    let text = String::from_utf8_lossy(body);
    let fault = faults.iter_mut().find(|fault| {
        fault.target == target
            && fault.times != Some(0)
            && fault.path.as_deref().is_none_or(|part| path.contains(part))
            && fault.contains.as_deref().is_none_or(|part| text.contains(part))
            && fault.percent.is_none_or(|percent| u128::from(percent) > random_percent())
    })?;
    if let Some(times) = &mut fault.times {
        *times -= 1;
    }
    Some(fault.kind.clone())
}

/// A number from 0 to 99, from the random part of a fresh UUIDv7: good enough for a share of calls.
fn random_percent() -> u128 {
    uuid::Uuid::now_v7().as_u128() % 100
}
