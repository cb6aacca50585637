//! The errors of requests, and what to do about them.

use std::time::Duration;

use retry::{Dependency, Failure, Outage, OutageSign, RateLimited, Reason, RetryAction};

use crate::OpenAiApiError;

/// A request that failed.
#[derive(Debug, thiserror::Error)]
pub enum OpenAiError {
    /// No answer within the timeout. The request may be billed; it has no other effect.
    #[error("OpenAI did not answer within {0:?}")]
    TimedOut(Duration),
    /// The connection failed or broke.
    #[error("no connection to OpenAI: {}", http_client::with_cause(.0))]
    Connection(reqwest::Error),
    /// An answer other than 2xx.
    #[error(transparent)]
    Api(Box<OpenAiApiError>),
    /// The request was not sent, because no permit of the rate limiter can be had soon.
    #[error(transparent)]
    RateLimited(#[from] RateLimited),
    /// An answer that does not have the documented form. Another one may.
    #[error("OpenAI's answer cannot be read: {0}")]
    Unreadable(String),
    /// A page of a proxy, or another answer of success that is no JSON.
    #[error("OpenAI answered with something that is not JSON, as a proxy's page is")]
    NotJson,
    /// A stream of server-sent events, although none was asked for: a gateway is set to stream, and will do it again.
    #[error(
        "the answer is a stream of server-sent events, although a whole one was asked for; set the gateway to answer without streaming"
    )]
    EventStream,
}

impl OpenAiError {
    /// Whether OpenAI may have answered and bill the answer: it was lost on its way, or cannot be read. What OpenAI rejects
    /// or cannot process is not billed.
    pub fn may_be_billed(&self) -> bool {
        match self {
            Self::TimedOut(_) | Self::Unreadable(_) | Self::NotJson | Self::EventStream => true,
            Self::Connection(error) => !error.is_connect(),
            Self::Api(error) => error.may_be_billed(),
            Self::RateLimited(_) => false,
        }
    }

    /// Whether the answer itself is at fault, so that asking once more may bring another one; more often is not worth its price.
    pub fn is_worth_one_more(&self) -> bool {
        matches!(self, Self::Unreadable(_))
    }
}

impl Failure for OpenAiError {
    fn retry_action(&self) -> RetryAction {
        match self {
            Self::TimedOut(_) | Self::Connection(_) => RetryAction::RetryNow { after: None },
            // It may be billed each time, so it waits longer than moments for the proxy to go away.
            Self::NotJson => RetryAction::RetryLater { after: None },
            Self::Unreadable(_) | Self::EventStream => RetryAction::Park,
            Self::RateLimited(RateLimited { after, .. }) => RetryAction::RateLimited { after: Some(*after) },
            Self::Api(error) => error.retry_action(),
        }
    }

    fn reason(&self) -> Reason {
        match self {
            Self::TimedOut(_) => Reason::OpenAiTimeout,
            Self::Connection(_) => Reason::OpenAiUnreachable,
            Self::Unreadable(_) | Self::NotJson | Self::EventStream => Reason::OpenAiUnreadable,
            Self::RateLimited(RateLimited { shortage, .. }) => shortage.reason(),
            Self::Api(error) => error.reason(),
        }
    }

    fn outage(&self) -> Option<Outage> {
        let sign = match self {
            Self::TimedOut(_) | Self::Connection(_) | Self::NotJson => OutageSign::Possible,
            Self::RateLimited(_) | Self::Unreadable(_) | Self::EventStream => return None,
            Self::Api(error) => error.outage_sign()?,
        };
        Some(Outage { dependency: Dependency::OpenAi, sign })
    }
}
