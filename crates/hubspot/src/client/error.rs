//! The errors of calls and what to do about them: the one place where HubSpot's errors are classified.

use std::{fmt, time::Duration};

use http_client::shortened;
use retry::{
    Dependency, Failure, Outage,
    OutageSign::{self, Certain, CredentialRejected, Possible},
    RateLimited, Reason, RetryAction,
};

use super::{
    error_body::{ErrorBody, ErrorContext, ErrorDetail, RefusedProperty},
    operation::Operation,
};

/// A call that failed.
#[derive(Debug, thiserror::Error)]
pub enum HubSpotError {
    /// No answer within the timeout. An update may have taken effect.
    #[error("HubSpot did not answer within {0:?}")]
    TimedOut(Duration),
    /// The connection failed or broke.
    #[error("no connection to HubSpot: {}", http_client::with_cause(.0))]
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

/// The category of an error about a record that does not exist.
const OBJECT_NOT_FOUND: &str = "OBJECT_NOT_FOUND";

/// The category of an error about values that HubSpot does not take.
pub(super) const VALIDATION_ERROR: &str = "VALIDATION_ERROR";

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
            // An update has the same effect when it is sent twice, so it is repeated. What is not HubSpot's is temporary.
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
        let outage = |sign: OutageSign| Some(Outage { dependency: Dependency::HubSpot, sign });
        match self {
            Self::TimedOut(_) | Self::Connection(_) | Self::NotJson { .. } => outage(Possible),
            Self::InDoubt(error) => error.outage(),
            Self::RateLimited(_) | Self::Unreadable { .. } => None,
            Self::Api(error) => match error.http_status {
                401 => outage(CredentialRejected),
                477 | 488 => outage(Certain),
                429 if error.is_daily() => outage(Certain),
                500..=599 => outage(Possible),
                _ if error.is_undocumented() => outage(Possible),
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
    /// value (400), for a body that is too long (413), and for a new object that is to be associated with a record that is gone
    /// (404); and one record can make the answer unreadable, or too long.
    pub fn may_be_one_item(&self) -> bool {
        match self {
            Self::Api(error) => error.is_validation() || error.http_status == 413 || error.lacks_association(),
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
            404 if self.is_record_gone() => RetryAction::Discard,
            // The next attempt finds out whether it is the record of the command that is gone.
            404 if self.lacks_association() => RetryAction::RetryLater { after: self.retry_after },
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
            404 if self.is_record_gone() => Reason::RecordGone,
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

    /// Whether the status is a client error that HubSpot's documentation does not name for the call. It may concern this record, or
    /// the whole portal: the same answer for many records in a row is an outage. So is a 404 that is not about one record: the URL is
    /// wrong, a version of the API was switched off, an object type was deleted, or a proxy does not let the call through.
    fn is_undocumented(&self) -> bool {
        let documented = [400, 401, 403, 405, 406, 408, 409, 413, 414, 415, 422, 423, 429, 477, 488];
        let is_named = documented.contains(&self.http_status) || self.is_record_gone() || self.lacks_association();
        (400..500).contains(&self.http_status) && !is_named
    }

    /// Whether HubSpot does not have the one record that the call reads. A batch call leaves out what is missing (207), so a 404 to it
    /// is about something else.
    fn is_record_gone(&self) -> bool {
        self.operation == Operation::ReadObject && self.is_hubspots_not_found()
    }

    /// Whether one of the records that new objects are to be associated with is gone.
    fn lacks_association(&self) -> bool {
        self.operation == Operation::BatchCreateObjects && self.is_hubspots_not_found()
    }

    /// Whether HubSpot itself says that a record does not exist (404 `OBJECT_NOT_FOUND`), and nothing between us and HubSpot. HubSpot
    /// may leave the category out, but hardly the correlation id ("Error handling").
    fn is_hubspots_not_found(&self) -> bool {
        let ErrorBody { category, correlation_id, .. } = &self.body;
        let is_named = category == OBJECT_NOT_FOUND || (category.is_empty() && !correlation_id.is_empty());
        self.http_status == 404 && is_named
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

#[cfg(test)]
mod tests {
    use super::*;

    /// HubSpot's answer for a record that does not exist.
    const NOT_FOUND: &str =
        r#"{"status":"error","message":"Object not found.","correlationId":"c-1","category":"OBJECT_NOT_FOUND"}"#;

    fn answered(http_status: u16, operation: Operation, body: &str) -> HubSpotError {
        let body = ErrorBody::read(body.as_bytes());
        HubSpotError::Api(Box::new(HubSpotApiError { http_status, operation, retry_after: None, body }))
    }

    #[test]
    fn a_record_is_gone_only_when_hubspot_says_so_to_a_read_of_that_record() {
        let without_category = r#"{"status":"error","correlationId":"c-1"}"#;
        for body in [NOT_FOUND, without_category] {
            let error = answered(404, Operation::ReadObject, body);
            assert_eq!((error.reason(), error.retry_action()), (Reason::RecordGone, RetryAction::Discard), "{body}");
            assert_eq!(error.outage(), None);
        }
        let of_proxy = "<html>404 page not found</html>";
        let of_path = r#"{"status":"error","correlationId":"c-1","category":"RESOURCE_NOT_FOUND"}"#;
        let others = [
            Operation::BatchReadObjects,
            Operation::BatchReadHistories,
            Operation::BatchUpdateObjects,
            Operation::SearchObjects,
            Operation::BatchReadAssociations,
            Operation::ListAssociationLabels,
            Operation::ListProperties,
            Operation::ListPipelines,
            Operation::DescribeAccount,
        ];
        let of_one = [of_proxy, of_path, "{}", ""].map(|body| (Operation::ReadObject, body));
        let of_others = others.iter().flat_map(|operation| [(*operation, of_proxy), (*operation, NOT_FOUND)]);
        let creations = [(Operation::BatchCreateObjects, of_proxy), (Operation::BatchCreateObjects, of_path)];
        for (operation, body) in of_one.into_iter().chain(of_others).chain(creations) {
            let error = answered(404, operation, body);
            assert_eq!(error.reason(), Reason::HubSpotRefused, "{operation}: {body}");
            assert_eq!(error.retry_action(), RetryAction::RetryNow { after: None }, "{operation}: {body}");
            let outage = Some(Outage { dependency: Dependency::HubSpot, sign: OutageSign::Possible });
            assert_eq!(error.outage(), outage, "when many meet it: {operation}: {body}");
            assert!(!error.may_be_one_item(), "{operation}: {body}");
            // A message that meets it again and again while others succeed is not taken for an outage for ever.
            assert_eq!(error.reason().may_be_outage_of(), Some(Dependency::HubSpot));
        }
    }

    #[test]
    fn an_association_with_a_record_that_is_gone_costs_no_other_new_object() {
        let error = answered(404, Operation::BatchCreateObjects, NOT_FOUND);
        assert!(error.may_be_one_item(), "the batch is halved until it is alone");
        assert_eq!((error.outage(), error.leaves_doubt()), (None, false));
        assert_eq!(error.retry_action(), RetryAction::RetryLater { after: None });
        assert_eq!(error.reason(), Reason::HubSpotRefused);
    }
}
