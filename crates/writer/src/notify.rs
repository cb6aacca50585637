//! Sends messages to notification channels: Slack-compatible webhooks, whose URLs are in the settings.
//!
//! Every message carries its action's id as `Idempotency-Key`. A receiver that ignores this header may get a message twice,
//! when its first answer was lost.

use std::{collections::BTreeMap, time::Duration};

use domain::ActionId;
use http_client::retry_after;
use retry::{Failure, Reason, RetryAction, RetryPolicy};
use secrecy::{ExposeSecret, SecretString};
use serde_json::json;
use spans::calls::{self, HttpRequest};
use tracing::Instrument;

/// Why a channel did not accept a message.
#[derive(Debug, thiserror::Error)]
pub enum NotifyError {
    /// No answer. The text does not contain the URL, which is a secret.
    #[error("the channel did not answer: {0}")]
    Transport(reqwest::Error),
    /// An answer other than 2xx.
    #[error("the channel answered {status}")]
    Refused {
        /// The HTTP status.
        status: u16,
        /// The header `Retry-After`, if the answer has one.
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

/// A channel that does not answer at once is tried again within the process, then from the retry queues.
const CHANNEL_RETRY: RetryPolicy =
    RetryPolicy { attempts: 3, base_delay: Duration::from_millis(200), max_delay: Duration::from_secs(5) };

/// The notification channels.
pub struct Channels {
    http: reqwest::Client,
    urls: BTreeMap<String, SecretString>,
}

impl Channels {
    /// Channels by name. `timeout` is for one call.
    ///
    /// # Errors
    ///
    /// When the HTTP client cannot be built.
    pub fn new(urls: BTreeMap<String, SecretString>, timeout: Duration) -> Result<Self, reqwest::Error> {
        Ok(Self { http: http_client::builder(timeout).build()?, urls })
    }

    /// The channel's URL; `None` when the settings have none.
    pub fn url(&self, channel: &str) -> Option<&SecretString> {
        self.urls.get(channel)
    }

    /// Sends a message to a channel. Channels with `Idempotency-Key` support deliver it once for each `id`.
    pub async fn send(&self, url: &SecretString, id: ActionId, text: &str) -> Result<(), NotifyError> {
        let body = json!({"text": without_mentions(text)});
        retry::run(&CHANNEL_RETRY, || async {
            // The URL is a secret, and so is the address of some.
            let span = calls::http(&HttpRequest { method: "POST", base_url: "", template: "/{channel}", server: None });
            let request = self.http.post(url.expose_secret()).header("Idempotency-Key", id.to_string()).json(&body);
            let answered = request.send().instrument(span.clone()).await;
            let result = answered.map_err(|error| NotifyError::Transport(error.without_url())).and_then(|response| {
                let status = response.status();
                calls::http_answered(&span, status.as_u16());
                let retry_after = retry_after(response.headers());
                let refused = NotifyError::Refused { status: status.as_u16(), retry_after };
                if status.is_success() { Ok(()) } else { Err(refused) }
            });
            if let Err(error) = &result {
                spans::fail(&span, error.reason().as_str());
            }
            result
        })
        .await
    }
}

/// Slack notifies people for `<!channel>`, `<@user>` and `<#channel>`. The text may come from a note that a stranger wrote,
/// so these marks are escaped.
fn without_mentions(text: &str) -> String {
    ["<!", "<@", "<#"].iter().fold(text.to_owned(), |text, mark| text.replace(mark, &mark.replace('<', "&lt;")))
}

#[cfg(test)]
mod tests {
    use super::without_mentions;

    #[test]
    fn a_message_mentions_no_person_and_no_channel() {
        assert_eq!(
            without_mentions("<!channel> <@U1> <https://example.com|a link>"),
            "&lt;!channel> &lt;@U1> <https://example.com|a link>"
        );
    }
}
