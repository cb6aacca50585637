//! HTTP without TLS.

use anyhow::Result;

/// Asks a URL and returns the status and the body.
///
/// # Errors
/// There is no answer.
pub async fn get(url: &str) -> Result<(u16, String)> {
    let response = client().get(url).send().await?;
    Ok((response.status().as_u16(), response.text().await?))
}

pub(crate) fn client() -> reqwest::Client {
    // reqwest needs a TLS provider, even for HTTP. This fails only when one is installed already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::new()
}
