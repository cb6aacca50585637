//! The errors of calls and what to do about them: the one place where HubSpot's errors are classified.

use std::{fmt, time::Duration};

use http_client::shortened;
use retry::{Dependency, Failure, Outage, RateLimited, Reason, RetryAction};

use super::{
    error_body::{ErrorBody, ErrorContext, ErrorDetail, RefusedProperty},
    operation::Operation,
};

/// A call that failed.
#[derive(Debug, thiserror::Error)]
pub enum HubSpotError {
    /// No answer within the timeout. A PATCH may have taken effect.
    #[error("HubSpot did not answer within {0:?}")]
    TimedOut(Duration),
    /// The connection failed or broke.
    #[error("no connection to HubSpot: {0}")]
    Connection(reqwest::Error),
    /// An answer other than 2xx.
    #[error(transparent)]
    Api(Box<HubSpotApiError>),
    /// A call that creates an object, and that may have taken effect although it failed. Search for the object before
    /// sending the call again.
    #[error("whether the call took effect is unknown: {0}")]
    InDoubt(Box<HubSpotError>),
    /// The call was not sent, because no permit of the rate limiter can be had soon.
    #[error(transparent)]
    RateLimited(#[from] RateLimited),
    /// An answer that is no JSON at all. It comes from something between us and HubSpot, or was cut off there.
    #[error("the answer to {operation} is not JSON: it does not come from HubSpot")]
    NotJson {
        /// The call.
        operation: Operation,
    },
    /// An answer of HubSpot's that does not have the documented form, or is too long. Something in a record may be the
    /// cause, and the same call will be answered the same.
    #[error("HubSpot's answer to {operation} cannot be read: {message}")]
    Unreadable {
        /// The call.
        operation: Operation,
        /// What is wrong with the answer.
        message: String,
    },
}

/// An error answer.
#[derive(Debug)]
pub struct HubSpotApiError {
    /// The HTTP status.
    pub http_status: u16,
    /// The call.
    pub operation: Operation,
    /// The header `Retry-After`, if given.
    pub retry_after: Option<Duration>,
    /// The body; empty when the answer comes from a proxy and is not in HubSpot's format.
    pub body: ErrorBody,
}

/// The longest list of codes, scopes and properties in the text of an error, in bytes. An answer may name a hundred of each.
const MAX_LIST: usize = 1_000;

impl fmt::Display for HubSpotApiError {
    /// Writes codes, fields, scopes and the correlation id. HubSpot's message is left out: it quotes the values that
    /// were sent, which may be personal data.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let body = &self.body;
        write!(f, "HubSpot answered {} to {}", self.http_status, self.operation)?;
        for (label, value) in [("", body.category.as_str()), ("policy ", body.policy_name.as_deref().unwrap_or(""))] {
            if !value.is_empty() {
                write!(f, ", {label}{value}")?;
            }
        }
        let list = self.list();
        let shown = shortened(&list, MAX_LIST);
        write!(f, "{shown}{}", if shown.len() < list.len() { "…" } else { "" })?;
        if let Some(hublet) = &body.correct_hublet {
            write!(
                f,
                "; the portal is in the data centre {hublet}: set hubspot.base_url to https://api-{hublet}.hubapi.com"
            )?;
        }
        if !body.correlation_id.is_empty() {
            write!(f, ", correlation id {}", body.correlation_id)?;
        }
        Ok(())
    }
}

impl std::error::Error for HubSpotApiError {}

impl HubSpotApiError {
    /// The codes, scopes and properties that the answer names.
    fn list(&self) -> String {
        let scopes = |context: &ErrorContext| -> Vec<String> {
            let lists = context.iter().filter(|(name, _)| is_scope_list(name));
            lists.map(|(name, values)| format!(", {name} {}", values.join(" "))).collect()
        };
        let of_detail = |detail: &ErrorDetail| {
            let code = detail.code.iter().map(|code| format!(", {code}"));
            code.chain(scopes(&detail.context)).collect::<String>()
        };
        let properties = self.refused_properties().into_iter().map(|refused| format!(", property {}", refused.name));
        let details = self.body.errors.iter().map(of_detail);
        details.chain(scopes(&self.body.context)).chain(properties).collect()
    }
}

/// Whether a context holds names of scopes, and never values of records.
fn is_scope_list(context: &str) -> bool {
    ["requiredGranularScopes", "requiredScopes", "missingScopes"].contains(&context)
}

/// The shortest wait when a record is locked (423): HubSpot's documentation asks for at least two seconds.
const LOCKED_WAIT: Duration = Duration::from_secs(2);

/// The wait after a 429 without `Retry-After`: a tenth of the ten-second window. The backoff of the next attempt is
/// added.
const RATE_LIMIT_WAIT: Duration = Duration::from_secs(1);

/// The wait when the daily limit is used up: one hour. The limit resets at midnight in the portal's time zone, which
/// the answer does not name.
const DAILY_WAIT: Duration = Duration::from_secs(3_600);

impl Failure for HubSpotError {
    fn retry_action(&self) -> RetryAction {
        match self {
            // A PATCH has the same effect when it is sent twice, so it is repeated. What is not HubSpot's is temporary.
            Self::TimedOut(_) | Self::Connection(_) | Self::NotJson { .. } => RetryAction::RetryNow { after: None },
            Self::InDoubt(_) | Self::Unreadable { .. } => RetryAction::RetryLater { after: None },
            Self::RateLimited(RateLimited { after, .. }) => RetryAction::RateLimited { after: Some(*after) },
            Self::Api(error) => error.retry_action(),
        }
    }

    fn reason(&self) -> Reason {
        match self {
            Self::TimedOut(_) => Reason::HubSpotTimeout,
            Self::Connection(_) => Reason::HubSpotUnreachable,
            Self::NotJson { .. } | Self::Unreadable { .. } => Reason::HubSpotUnreadable,
            Self::InDoubt(_) => Reason::InDoubt,
            Self::RateLimited(RateLimited { shortage, .. }) => shortage.reason(),
            Self::Api(error) => error.reason(),
        }
    }

    fn outage(&self) -> Option<Outage> {
        let outage = |is_certain| Some(Outage { dependency: Dependency::HubSpot, is_certain });
        match self {
            Self::TimedOut(_) | Self::Connection(_) | Self::NotJson { .. } => outage(false),
            Self::InDoubt(error) => error.outage(),
            Self::RateLimited(_) | Self::Unreadable { .. } => None,
            Self::Api(error) => match error.http_status {
                401 | 477 | 488 => outage(true),
                429 if error.is_daily() => outage(true),
                500..=599 => outage(false),
                _ if error.is_undocumented() => outage(false),
                _ => None,
            },
        }
    }
}

impl HubSpotError {
    /// Whether the call may have taken effect although it failed.
    pub fn leaves_doubt(&self) -> bool {
        match self {
            Self::TimedOut(_)
            | Self::Connection(_)
            | Self::NotJson { .. }
            | Self::Unreadable { .. }
            | Self::InDoubt(_) => true,
            Self::RateLimited(_) => false,
            Self::Api(error) => matches!(error.http_status, 408 | 500..=599),
        }
    }

    /// Whether a single item of a failed batch call can be the cause: HubSpot rejects the whole batch for one invalid
    /// value (400), and for a body that is too long (413); and one record can make the answer unreadable, or too long.
    pub fn may_be_one_item(&self) -> bool {
        match self {
            Self::Api(error) => error.is_validation() || error.http_status == 413,
            Self::Unreadable { .. } => true,
            _ => false,
        }
    }

    /// The error answer, if there was one.
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
            // 401: the token is invalid and every call fails; the retry queues give an operator time to replace it.
            // 477 (HubSpot's own code): the portal is being migrated, with a `Retry-After` of up to 24 hours.
            // 488 (HubSpot's own code): the portal is in another data centre, and every call fails until the URL is changed.
            401 | 477 | 488 => RetryAction::RetryLater { after: self.retry_after },
            404 => RetryAction::Discard,
            423 => RetryAction::RetryNow { after: Some(self.retry_after.unwrap_or_default().max(LOCKED_WAIT)) },
            429 if self.is_daily() => RetryAction::RateLimited { after: Some(self.retry_after.unwrap_or(DAILY_WAIT)) },
            429 => RetryAction::RateLimited { after: Some(self.retry_after.unwrap_or(RATE_LIMIT_WAIT)) },
            408 | 409 | 500..=599 => RetryAction::RetryNow { after: self.retry_after },
            // When it concerns the whole portal, one record after the other must not be parked for it.
            _ if self.is_undocumented() => RetryAction::RetryNow { after: self.retry_after },
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
            488 => Reason::WrongDataCentre,
            500..=599 => Reason::HubSpotUnavailable,
            _ => Reason::HubSpotRefused,
        }
    }

    /// Whether the status is a client error that HubSpot's documentation does not name. It may concern this record, or the
    /// whole portal: the same answer for many records in a row is an outage.
    fn is_undocumented(&self) -> bool {
        let documented = [400, 401, 403, 404, 405, 406, 408, 409, 413, 414, 415, 422, 423, 429, 477, 488];
        (400..500).contains(&self.http_status) && !documented.contains(&self.http_status)
    }

    /// Whether the daily limit of the account is used up.
    fn is_daily(&self) -> bool {
        self.http_status == 429 && self.body.policy_name.as_deref() == Some("DAILY")
    }

    /// The properties that HubSpot does not take in this call; none when the error is about something else.
    pub fn refused_properties(&self) -> Vec<RefusedProperty> {
        if self.is_validation() { self.body.refused_properties() } else { Vec::new() }
    }

    /// Whether HubSpot rejects the value of this property.
    pub fn is_about(&self, property: &str) -> bool {
        self.refused_properties().iter().any(|refused| refused.name == property)
    }

    /// Whether HubSpot rejects the content of the call (400), and not its sender or its time.
    pub fn is_validation(&self) -> bool {
        self.http_status == 400
    }
}
