//! How every HTTP client of Leadline is built, and how answers are read: bounded, and without quoting what they hold.
//!
//! The HubSpot client, the OpenAI client and the notification channels use it.

mod compressed;
mod storable;
mod trust;
mod waits;

use std::{error::Error, time::Duration};

use reqwest::{Certificate, ClientBuilder, Response, redirect::Policy};

pub use storable::{replace_unstorable_escapes, without_unstorable_escapes};
pub use trust::{Trust, TrustError};
pub use waits::retry_after;

/// How often an idle or busy HTTP/2 connection is pinged. HTTP/2 puts all requests on one connection: if it breaks without
/// a sign, every request on it would wait for its own timeout.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(20);

/// How long the other side may take to answer a ping before the connection is closed.
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(10);

const USER_AGENT: &str = concat!("leadline/", env!("CARGO_PKG_VERSION"));

/// Makes ring the TLS provider of the process. Call it once, before the first client or connection is made.
pub fn install_tls_provider() {
    // An error only means that it is installed already.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// The builder that all clients start from. `timeout` bounds one attempt, from connecting to the last byte.
///
/// No client follows a redirect or says where it comes from: headers such as `api-key`, bodies with a token and URLs that
/// are secrets themselves would go wherever the other side points to. A redirect is an answer that is no success.
pub fn builder(timeout: Duration) -> ClientBuilder {
    reqwest::Client::builder()
        .timeout(timeout)
        .redirect(Policy::none())
        .referer(false)
        .http2_keep_alive_interval(KEEP_ALIVE_INTERVAL)
        .http2_keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
        .user_agent(USER_AGENT)
}

/// The same, and the certificates `authorities` in PEM are trusted beside the system's, for a server whose authority is not known to all.
///
/// # Errors
/// They are no PEM.
pub fn builder_trusting(timeout: Duration, authorities: Option<&str>) -> Result<ClientBuilder, reqwest::Error> {
    let authorities = authorities.map_or_else(|| Ok(Vec::new()), |pem| Certificate::from_pem_bundle(pem.as_bytes()))?;
    Ok(if authorities.is_empty() { builder(timeout) } else { builder(timeout).tls_certs_merge(authorities) })
}

/// A client that blocks its thread, with the same rules: what exports traces uses one, and may send secret headers.
///
/// # Errors
/// When no TLS provider is installed or the system's roots cannot be read.
#[cfg(feature = "blocking")]
pub fn blocking_client(timeout: Duration) -> Result<reqwest::blocking::Client, reqwest::Error> {
    let builder = move || reqwest::blocking::Client::builder().timeout(timeout).redirect(Policy::none()).referer(false);
    // reqwest refuses to build it on a thread of a runtime.
    let built = std::thread::spawn(move || builder().user_agent(USER_AGENT).build());
    built.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// Why a body was not read to its end.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// The connection broke, or the timeout passed.
    #[error(transparent)]
    Transport(#[from] reqwest::Error),
    /// The body is longer than the caller accepts, in bytes.
    #[error("the answer has more than {0} bytes")]
    TooLong(usize),
    /// The body is compressed, and cannot be decompressed.
    #[error("the answer's compression is broken: {0}")]
    Compressed(std::io::Error),
}

/// Reads a JSON body of at most `max` bytes, without the escapes that the ledger cannot store; bytes that are no text are
/// replaced, so that half a character in one record does not make a whole answer unreadable. It counts the bytes that arrive and
/// does not trust `Content-Length`. No client asks for compression, and gateways compress all the same: gzip is decompressed, and
/// counted as what it becomes.
pub async fn read_body(mut response: Response, max: usize) -> Result<Vec<u8>, BodyError> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        if body.len() + chunk.len() > max {
            return Err(BodyError::TooLong(max));
        }
        body.extend_from_slice(&chunk);
    }
    if compressed::is_gzip(&body) {
        body = compressed::decompress(&body, max)?;
    }
    replace_unstorable_escapes(&mut body);
    if std::str::from_utf8(&body).is_err() {
        body = String::from_utf8_lossy(&body).into_owned().into_bytes();
    }
    Ok(body)
}

/// What a request failed of, to its root: that a certificate is not accepted stands at the end of a chain of errors. No URL is told, if the
/// error has lost its own.
pub fn with_cause(error: &reqwest::Error) -> String {
    let mut root: Option<&dyn Error> = None;
    while let Some(cause) = root.map_or_else(|| error.source(), |root| root.source()) {
        root = Some(cause);
    }
    root.map_or_else(|| error.to_string(), |root| format!("{error}: {root}"))
}

/// The longest name, code or id of an error answer that is kept, in bytes.
pub const MAX_NAME: usize = 200;

/// The beginning of a text, of at most `bytes`: what the other side says has no bound of its own.
pub fn shortened(text: &str, bytes: usize) -> String {
    text[..text.floor_char_boundary(bytes)].to_owned()
}

/// Says where JSON is not as documented, by line and column. The error's own text quotes values, and those may be personal
/// or secret.
pub fn json_error_position(error: &serde_json::Error) -> String {
    format!("the JSON is not as documented, at line {}, column {}", error.line(), error.column())
}

#[cfg(test)]
mod tests {
    use super::json_error_position;

    #[test]
    fn the_position_of_a_json_error_does_not_quote_the_value() {
        let error = serde_json::from_str::<Vec<u32>>(r#"["a secret"]"#).expect_err("not a number");
        let text = json_error_position(&error);
        assert!(text.contains("line 1") && !text.contains("secret"), "{text}");
    }
}
