//! What HTTP clients need to classify an answer.

use std::time::Duration;

use reqwest::{
    ClientBuilder, Response,
    header::{HeaderMap, RETRY_AFTER},
};

/// How often a connection that carries questions is asked whether it still lives, and how long it may take to say so.
/// HTTP/2 puts everything on one connection: one that died in silence would take every question with it until each has
/// timed out.
const ALIVE: [Duration; 2] = [Duration::from_secs(20), Duration::from_secs(10)];

/// What all clients are made from: `timeout` bounds a try, from connecting to the last byte.
pub fn client(timeout: Duration) -> ClientBuilder {
    reqwest::Client::builder()
        .timeout(timeout)
        .http2_keep_alive_interval(ALIVE[0])
        .http2_keep_alive_timeout(ALIVE[1])
        .user_agent(concat!("leadline/", env!("CARGO_PKG_VERSION")))
}

/// Why a body was not read to its end.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// The connection broke, or the time was up.
    #[error(transparent)]
    Transport(#[from] reqwest::Error),
    /// It is longer than the caller takes.
    #[error("the answer has more than {0} bytes")]
    TooLong(usize),
}

/// Reads a body of at most `max` bytes, without trusting `Content-Length`.
pub async fn read_at_most(mut response: Response, max: usize) -> Result<Vec<u8>, BodyError> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        if body.len() + chunk.len() > max {
            return Err(BodyError::TooLong(max));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// Where JSON stops making sense. The library's own words quote values, and those may be personal or secret.
pub fn json_flaw(error: &serde_json::Error) -> String {
    format!("no such JSON as documented, at line {}, column {}", error.line(), error.column())
}

/// How long the other side asks to wait: `retry-after-ms` (OpenAI), else `Retry-After` in seconds. Dates are not
/// understood; neither HubSpot nor OpenAI sends them.
pub fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let number = |name: &str| headers.get(name)?.to_str().ok()?.trim().parse::<f64>().ok();
    let milliseconds = number("retry-after-ms").map(|milliseconds| milliseconds / 1_000.0);
    Duration::try_from_secs_f64(milliseconds.or_else(|| number(RETRY_AFTER.as_str()))?).ok()
}
