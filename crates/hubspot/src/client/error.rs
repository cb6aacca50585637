//! What can go wrong with a call, and what to do about it: the one place where HubSpot's errors are classified.

use std::{collections::HashMap, fmt, time::Duration};

use retry::{Dependency, Failure, Outage, RateLimited, Reason, RetryAction};
use serde::Deserialize;

/// A call that did not give what was asked for.
#[derive(Debug, thiserror::Error)]
pub enum HubSpotError {
    /// No answer within the time-out. A PATCH may have happened.
    #[error("HubSpot did not answer within {0:?}")]
    TimedOut(Duration),
    /// The connection failed or broke.
    #[error("no connection to HubSpot: {0}")]
    Connection(reqwest::Error),
    /// An answer other than 2xx.
    #[error(transparent)]
    Api(Box<HubSpotApiError>),
    /// A call that creates something, and that may have done so although there is no good answer. Look before sending it
    /// again.
    #[error("whether HubSpot did it is unknown: {0}")]
    InDoubt(Box<HubSpotError>),
    /// It was not sent.
    #[error(transparent)]
    RateLimited(#[from] RateLimited),
    /// An answer that does not have the documented form.
    #[error("HubSpot's answer to {operation} cannot be read: {message}")]
    Unreadable {
        /// The call.
        operation: &'static str,
        /// What is wrong with the answer.
        message: String,
    },
}

/// HubSpot's error answer.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HubSpotApiError {
    /// The HTTP status.
    #[serde(skip)]
    pub http_status: u16,
    /// The call.
    #[serde(skip)]
    pub operation: &'static str,
    /// `Retry-After`, if given.
    #[serde(skip)]
    pub retry_after: Option<Duration>,
    /// What HubSpot says.
    pub message: String,
    /// `VALIDATION_ERROR`, `MISSING_SCOPES`, …
    pub category: String,
    /// What HubSpot's support asks for.
    pub correlation_id: String,
    /// `TEN_SECONDLY_ROLLING` or `DAILY`, on 429.
    pub policy_name: Option<String>,
    /// Details.
    pub errors: Vec<ErrorDetail>,
    /// Ids and names the error is about.
    pub context: HashMap<String, Vec<String>>,
}

/// One detail of an error answer.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ErrorDetail {
    /// `PROPERTY_DOESNT_EXIST`, `INVALID_OPTION`, …
    pub code: Option<String>,
    /// The field at fault.
    #[serde(rename = "in")]
    pub location: Option<String>,
    /// What HubSpot says.
    pub message: String,
    /// For example `requiredGranularScopes`.
    pub context: HashMap<String, Vec<String>>,
}

impl fmt::Display for HubSpotApiError {
    /// Names codes, fields, scopes and the correlation id. HubSpot's message is left out: it quotes the values that
    /// were sent, and those may be personal.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HubSpot answered {} to {}", self.http_status, self.operation)?;
        for (label, value) in [("", self.category.as_str()), ("policy ", self.policy_name.as_deref().unwrap_or(""))] {
            if !value.is_empty() {
                write!(f, ", {label}{value}")?;
            }
        }
        for detail in &self.errors {
            if let Some(code) = &detail.code {
                write!(f, ", {code}")?;
            }
            for (name, values) in detail.context.iter().filter(|(name, _)| is_name_list(name)) {
                write!(f, ", {name} {}", values.join(" "))?;
            }
        }
        if !self.correlation_id.is_empty() {
            write!(f, ", correlation id {}", self.correlation_id)?;
        }
        Ok(())
    }
}

impl std::error::Error for HubSpotApiError {}

/// Contexts that hold names, never values of records.
fn is_name_list(context: &str) -> bool {
    ["requiredGranularScopes", "requiredScopes", "missingScopes", "propertyName"].contains(&context)
}

/// HubSpot asks for at least two seconds when a record is locked (423).
const LOCKED_WAIT: Duration = Duration::from_secs(2);

/// How long a 429 without `Retry-After` is waited out: a tenth of the ten-second window and the next try's backoff.
const RATE_LIMIT_WAIT: Duration = Duration::from_secs(1);

/// The daily limit resets at midnight of the portal's time zone, which the answer does not tell.
const DAILY_WAIT: Duration = Duration::from_secs(3_600);

impl Failure for HubSpotError {
    fn retry_action(&self) -> RetryAction {
        match self {
            // A property's PATCH may be sent twice, so in doubt means again. An unreadable answer comes from something
            // between us and HubSpot, and passes.
            Self::TimedOut(_) | Self::Connection(_) | Self::Unreadable { .. } => RetryAction::RetryNow { after: None },
            Self::InDoubt(_) => RetryAction::RetryLater { after: None },
            Self::RateLimited(RateLimited { after }) => RetryAction::RateLimited { after: Some(*after) },
            Self::Api(error) => error.retry_action(),
        }
    }

    fn reason(&self) -> Reason {
        match self {
            Self::TimedOut(_) => Reason::HubSpotTimeout,
            Self::Connection(_) => Reason::HubSpotUnreachable,
            Self::Unreadable { .. } => Reason::HubSpotUnreadable,
            Self::InDoubt(_) => Reason::InDoubt,
            Self::RateLimited(_) => Reason::RateLimitShareExhausted,
            Self::Api(error) => error.reason(),
        }
    }

    fn outage(&self) -> Option<Outage> {
        let outage = |is_certain| Some(Outage { dependency: Dependency::HubSpot, is_certain });
        match self {
            Self::TimedOut(_) | Self::Connection(_) | Self::Unreadable { .. } => outage(false),
            Self::InDoubt(error) => error.outage(),
            Self::RateLimited(_) => None,
            Self::Api(error) => match error.http_status {
                401 | 477 => outage(true),
                429 if error.is_daily() => outage(true),
                500..=599 => outage(false),
                _ => None,
            },
        }
    }
}

impl HubSpotError {
    /// Whether the call may have had its effect.
    pub fn leaves_doubt(&self) -> bool {
        match self {
            Self::TimedOut(_) | Self::Connection(_) | Self::Unreadable { .. } | Self::InDoubt(_) => true,
            Self::RateLimited(_) => false,
            Self::Api(error) => matches!(error.http_status, 408 | 500..=599),
        }
    }

    /// HubSpot's answer, if there was one.
    pub fn api(&self) -> Option<&HubSpotApiError> {
        match self {
            Self::Api(error) => Some(error),
            _ => None,
        }
    }
}

impl HubSpotApiError {
    fn retry_action(&self) -> RetryAction {
        match self.http_status {
            // 401: the token is dead, every call would fail the same way; retry queues give a person time.
            // 477 (HubSpot's own code): the portal is being moved, Retry-After up to 24 h.
            401 | 477 => RetryAction::RetryLater { after: self.retry_after },
            404 => RetryAction::Discard,
            423 => RetryAction::RetryNow { after: Some(self.retry_after.unwrap_or_default().max(LOCKED_WAIT)) },
            429 if self.is_daily() => RetryAction::RateLimited { after: Some(self.retry_after.unwrap_or(DAILY_WAIT)) },
            429 => RetryAction::RateLimited { after: Some(self.retry_after.unwrap_or(RATE_LIMIT_WAIT)) },
            408 | 409 | 500..=599 => RetryAction::RetryNow { after: self.retry_after },
            _ => RetryAction::Park,
        }
    }

    fn reason(&self) -> Reason {
        match self.http_status {
            400 => Reason::ValidationError,
            401 => Reason::Unauthorized,
            403 => Reason::MissingScope,
            404 => Reason::RecordGone,
            409 => Reason::Conflict,
            413 | 414 => Reason::TooLarge,
            423 => Reason::RecordLocked,
            429 => Reason::RateLimited,
            477 => Reason::PortalMigrating,
            500..=599 => Reason::HubSpotUnavailable,
            _ => Reason::HubSpotRefused,
        }
    }

    /// Whether the account has no calls left today.
    fn is_daily(&self) -> bool {
        self.http_status == 429 && self.policy_name.as_deref() == Some("DAILY")
    }

    /// Whether HubSpot did not like this property's value.
    pub fn is_about(&self, property: &str) -> bool {
        let names = |context: &HashMap<String, Vec<String>>| {
            context.get("propertyName").is_some_and(|names| names.iter().any(|name| name == property))
        };
        self.is_validation() && (names(&self.context) || self.errors.iter().any(|detail| names(&detail.context)))
    }

    /// Whether HubSpot did not like what the call said, rather than who said it or when.
    pub fn is_validation(&self) -> bool {
        self.http_status == 400
    }
}
