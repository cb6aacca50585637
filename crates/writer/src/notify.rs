//! Messages to the channels that the settings name: Slack-compatible webhooks.
//!
//! Every message carries its action's id as `Idempotency-Key`. A receiver that does not look at it may see a message
//! twice, when its answer was lost: HTTP knows no better.

use std::{collections::BTreeMap, time::Duration};

use domain::ActionId;
use http_client::retry_after;
use retry::{Failure, Reason, RetryAction, RetryPolicy};
use secrecy::{ExposeSecret, SecretString};
use serde_json::json;

/// Why a message was not taken.
#[derive(Debug, thiserror::Error)]
pub enum NotifyError {
    /// No answer. The URL is a secret and not part of the text.
    #[error("the channel did not answer: {0}")]
    Transport(reqwest::Error),
    /// An answer other than 2xx.
    #[error("the channel answered {status}")]
    Refused {
        /// The HTTP status.
        status: u16,
        /// `Retry-After`, if given.
        retry_after: Option<Duration>,
    },
}

impl Failure for NotifyError {
    fn retry_action(&self) -> RetryAction {
        match self {
            Self::Transport(_) => RetryAction::RetryNow { after: None },
            Self::Refused { status: 429, retry_after } => RetryAction::RateLimited { after: *retry_after },
            Self::Refused { status: 408 | 500..=599, retry_after } => RetryAction::RetryNow { after: *retry_after },
            Self::Refused { .. } => RetryAction::Park,
        }
    }

    fn reason(&self) -> Reason {
        match self {
            Self::Transport(_) => Reason::ChannelUnreachable,
            Self::Refused { status: 429, .. } => Reason::ChannelRateLimited,
            Self::Refused { status: 408 | 500..=599, .. } => Reason::ChannelUnavailable,
            Self::Refused { .. } => Reason::ChannelRefused,
        }
    }
}

/// The channels.
pub struct Channels {
    http: reqwest::Client,
    urls: BTreeMap<String, SecretString>,
    retry: RetryPolicy,
}

impl Channels {
    pub fn new(urls: BTreeMap<String, SecretString>, timeout: Duration, retry: RetryPolicy) -> Result<Self, String> {
        let http =
            http_client::builder(timeout).build().map_err(|error| format!("the channels' HTTP client: {error}"))?;
        Ok(Self { http, urls, retry })
    }

    /// The channel's URL, if the settings have one.
    pub fn url(&self, channel: &str) -> Option<&SecretString> {
        self.urls.get(channel)
    }

    /// Sends a message.
    pub async fn send(&self, url: &SecretString, id: ActionId, text: &str) -> Result<(), NotifyError> {
        let body = json!({"text": harmless(text)});
        retry::run(&self.retry, || async {
            let request = self.http.post(url.expose_secret()).header("Idempotency-Key", id.to_string()).json(&body);
            let response = request.send().await.map_err(|error| NotifyError::Transport(error.without_url()))?;
            if response.status().is_success() {
                return Ok(());
            }
            let retry_after = retry_after(response.headers());
            Err(NotifyError::Refused { status: response.status().as_u16(), retry_after })
        })
        .await
    }
}

/// Slack reads `<!channel>` and `<@someone>` as calls to people. What a stranger wrote into a note calls nobody.
fn harmless(text: &str) -> String {
    ["<!", "<@", "<#"].iter().fold(text.to_owned(), |text, mark| text.replace(mark, &mark.replace('<', "&lt;")))
}

#[cfg(test)]
mod tests {
    use super::harmless;

    #[test]
    fn nobody_is_called_by_a_message() {
        assert_eq!(
            harmless("<!channel> <@U1> <https://example.com|a link>"),
            "&lt;!channel> &lt;@U1> <https://example.com|a link>"
        );
    }
}
