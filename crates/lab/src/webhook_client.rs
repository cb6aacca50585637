//! Signed webhooks, as HubSpot sends them.

use std::time::Duration;

use anyhow::Result;
use hubspot::signature;
use time::OffsetDateTime;

use crate::fleet::PUBLIC_URL;

/// Posts signed webhooks. Cheap to clone; clones share connections.
#[derive(Debug, Clone)]
pub struct WebhookClient {
    http: reqwest::Client,
    secret: String,
    signed_uri: String,
}

impl WebhookClient {
    /// A client with the simulator's secret, which waits so long for an answer.
    pub fn new(patience: Duration) -> Result<Self> {
        Ok(Self {
            http: reqwest::Client::builder().timeout(patience).build()?,
            secret: simulator::Config::default().client_secret,
            signed_uri: signature::signed_uri(PUBLIC_URL),
        })
    }

    /// Posts a body until it is answered 200, as HubSpot does in the end.
    pub async fn deliver(&self, receiver: &str, body: &[u8]) {
        while self.post(receiver, body.to_vec(), 0).await != Some(200) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Posts a body, with a timestamp that is off by `skew` milliseconds, and gives the answer's status, if there is one.
    pub async fn post(&self, receiver: &str, body: Vec<u8>, skew: i64) -> Option<u16> {
        let timestamp = (milliseconds() + skew).to_string();
        let signature = signature::v3(&self.secret, "POST", &self.signed_uri, &body, &timestamp);
        let request = self
            .http
            .post(receiver)
            .header("X-HubSpot-Signature-v3", signature)
            .header("X-HubSpot-Request-Timestamp", timestamp)
            .header("Content-Type", "application/json")
            .body(body);
        let response = request.send().await.ok()?;
        let status = response.status().as_u16();
        // Read to its end, so that the connection is used again.
        response.bytes().await.ok()?;
        Some(status)
    }
}

/// Milliseconds since 1970.
pub fn milliseconds() -> i64 {
    i64::try_from(OffsetDateTime::now_utc().unix_timestamp_nanos() / 1_000_000).unwrap_or(0)
}
