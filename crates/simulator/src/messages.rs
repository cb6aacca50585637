//! Messages to notification channels.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A message that was posted to a channel.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ChannelMessage {
    /// The channel's name, from the path.
    pub channel: String,
    /// The header `Idempotency-Key`.
    pub key: Option<String>,
    /// The JSON body.
    pub body: Value,
}
