//! What an error answer means, and what becomes of the request: the one place where error answers are classified.

use std::time::Duration;

use retry::{OutageSign, Reason, RetryAction};

use crate::api_error::OpenAiApiError;

/// What an error answer means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Meaning {
    /// A person has to pay.
    OutOfCredit,
    /// The request is longer than the model, or the account's limit on tokens, takes at any time.
    TooLong,
    /// The content filter withheld the answer, or refused the prompt.
    Filtered,
    /// OpenAI does not answer from this country.
    Region,
    /// OpenAI, or the model, has more to do than it can; the request is as good as before.
    Overloaded,
    RateLimited,
    Unauthorized,
    /// OpenAI or a gateway failed.
    Unavailable,
    Invalid,
    Forbidden,
    NoModel,
    Refused,
}

impl Meaning {
    fn reason(self) -> Reason {
        match self {
            Self::OutOfCredit => Reason::InsufficientQuota,
            Self::TooLong => Reason::ContextTooLong,
            Self::Filtered => Reason::ContentFiltered,
            Self::Region => Reason::OpenAiRegion,
            Self::Overloaded | Self::Unavailable => Reason::OpenAiUnavailable,
            Self::RateLimited => Reason::OpenAiRateLimited,
            Self::Unauthorized => Reason::OpenAiUnauthorized,
            Self::Invalid => Reason::OpenAiInvalidRequest,
            Self::Forbidden => Reason::OpenAiForbidden,
            Self::NoModel => Reason::ModelNotFound,
            Self::Refused => Reason::OpenAiRefused,
        }
    }
}

/// The codes, or types, by which an error answer says what it means whatever its status; the first that matches counts.
const BY_CODE: [(Meaning, &[&str]); 4] = [
    // As users of OpenAI have seen them; `insufficient_quota` is also the type of errors with other codes.
    (
        Meaning::OutOfCredit,
        &["insufficient_quota", "billing_hard_limit_reached", "billing_not_active", "credit_balance_exhausted"],
    ),
    (Meaning::TooLong, &["context_length_exceeded", "string_above_max_length", "request_too_large"]),
    // Azure's error of a prompt that its filter refuses, and OpenAI's of one that may violate its usage policies.
    (Meaning::Filtered, &["content_filter", "ResponsibleAIPolicyViolation", "invalid_prompt"]),
    (Meaning::Region, &["unsupported_country_region_territory"]),
];

/// What OpenAI calls the overload of its servers (its documentation, "Error codes": 503).
pub(crate) const OVERLOADED: [&str; 3] = ["server_is_overloaded", "overloaded_error", "slow_down"];

/// What OpenAI calls the errors of its own servers (its documentation, "Error codes": 500 and 503).
pub(crate) const SERVER_ERRORS: [&str; 2] = ["server_error", "service_unavailable"];

/// The wait when only a person can mend it, for example by adding credit: that takes longer than seconds.
const WAIT_FOR_A_PERSON: Duration = Duration::from_secs(600);

impl OpenAiApiError {
    pub(crate) fn by_code(&self) -> Option<Meaning> {
        BY_CODE.iter().find(|(_, codes)| self.has_code(codes)).map(|(meaning, _)| *meaning)
    }

    /// A gateway answers 408 or 5xx of its own when it gives up on an answer, which OpenAI bills all the same. Only where OpenAI
    /// itself says that it failed is it known that there was none.
    pub(crate) fn may_be_billed(&self) -> bool {
        let is_openais =
            matches!(self.http_status, 500 | 503) && (self.has_code(&SERVER_ERRORS) || self.has_code(&OVERLOADED));
        matches!(self.http_status, 408 | 500..=599) && !is_openais && self.by_code().is_none()
    }

    pub(crate) fn reason(&self) -> Reason {
        self.meaning().reason()
    }

    fn meaning(&self) -> Meaning {
        if let Some(meaning) = self.by_code() {
            return meaning;
        }
        match self.http_status {
            402 => Meaning::OutOfCredit,
            413 => Meaning::TooLong,
            429 if self.never_fits => Meaning::TooLong,
            429 => Meaning::RateLimited,
            401 => Meaning::Unauthorized,
            500..=599 if self.has_code(&OVERLOADED) => Meaning::Overloaded,
            408 | 409 | 500..=599 => Meaning::Unavailable,
            // Cloudflare's, before OpenAI has seen the request.
            403 if self.is_page => Meaning::Unavailable,
            400 => Meaning::Invalid,
            403 => Meaning::Forbidden,
            404 | 410 => Meaning::NoModel,
            _ => Meaning::Refused,
        }
    }

    pub(crate) fn retry_action(&self) -> RetryAction {
        let after = self.retry_after;
        match (self.meaning(), self.should_retry) {
            (Meaning::OutOfCredit | Meaning::Region, _) => RetryAction::RetryLater { after: Some(WAIT_FOR_A_PERSON) },
            (Meaning::TooLong | Meaning::Filtered, _)
            | (Meaning::Invalid | Meaning::Forbidden | Meaning::NoModel | Meaning::Refused, None | Some(false)) => {
                RetryAction::Park
            }
            // When the key is invalid, every call fails; the retry queues give an operator time to replace it.
            (Meaning::Unauthorized, _)
            | (Meaning::RateLimited | Meaning::Overloaded | Meaning::Unavailable, Some(false)) => {
                RetryAction::RetryLater { after }
            }
            (Meaning::RateLimited | Meaning::Overloaded, None | Some(true)) => RetryAction::RateLimited { after },
            (Meaning::Unavailable, None) | (_, Some(true)) => RetryAction::RetryNow { after },
        }
    }

    /// What this shows of an outage.
    pub(crate) fn outage_sign(&self) -> Option<OutageSign> {
        match self.meaning() {
            Meaning::Unauthorized => Some(OutageSign::CredentialRejected),
            Meaning::OutOfCredit | Meaning::Region => Some(OutageSign::Certain),
            Meaning::Overloaded => Some(OutageSign::Possible),
            Meaning::Unavailable if self.http_status >= 500 || self.is_page => Some(OutageSign::Possible),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use retry::{
        Failure, OutageSign,
        OutageSign::{Certain, Possible},
        Reason, RetryAction,
    };
    use serde_json::{Value, json};

    use super::{OpenAiApiError, WAIT_FOR_A_PERSON};
    use crate::OpenAiError;

    fn error(http_status: u16, body: &str) -> OpenAiError {
        OpenAiError::Api(Box::new(OpenAiApiError { http_status, ..OpenAiApiError::read(body.as_bytes()) }))
    }

    /// The error answer with these fields.
    fn answered(http_status: u16, fields: &Value) -> OpenAiError {
        error(http_status, &json!({ "error": fields }).to_string())
    }

    const NOW: RetryAction = RetryAction::RetryNow { after: None };
    const WAIT: RetryAction = RetryAction::RateLimited { after: None };
    const PERSON: RetryAction = RetryAction::RetryLater { after: Some(WAIT_FOR_A_PERSON) };

    fn assert_means(error: &OpenAiError, reason: Reason, retry_action: RetryAction, sign: Option<OutageSign>) {
        let outage = error.outage().map(|outage| outage.sign);
        assert_eq!((error.reason(), error.retry_action(), outage), (reason, retry_action, sign), "{error}");
    }

    #[test]
    fn an_account_without_money_pauses_everything_whatever_the_error_is_called() {
        for (status, fields) in [
            (429, json!({"type": "insufficient_quota", "code": "insufficient_quota"})),
            (429, json!({"type": "insufficient_quota", "code": "credit_balance_exhausted", "message": null})),
            (429, json!({"type": "insufficient_quota", "code": 429})),
            (429, json!({"type": "billing_not_active", "code": "billing_not_active"})),
            (403, json!({"code": "billing_not_active"})),
            (400, json!({"code": "billing_hard_limit_reached"})),
            (402, json!({"message": "Payment required"})),
        ] {
            assert_means(&answered(status, &fields), Reason::InsufficientQuota, PERSON, Some(Certain));
        }
        assert_means(&error(402, ""), Reason::InsufficientQuota, PERSON, Some(Certain));
    }

    #[test]
    fn what_is_too_long_is_never_asked_again_as_it_is() {
        for (status, fields) in [
            (400, json!({"code": "context_length_exceeded", "param": "messages"})),
            (400, json!({"code": "string_above_max_length", "param": "messages[1].content"})),
            (413, json!({"type": "tokens", "code": "rate_limit_exceeded"})),
            (400, json!({"type": "request_too_large"})),
        ] {
            assert_means(&answered(status, &fields), Reason::ContextTooLong, RetryAction::Park, None);
        }
        assert_means(&error(413, "<html>"), Reason::ContextTooLong, RetryAction::Park, None);
        let limited = json!({"type": "tokens", "code": "rate_limit_exceeded"});
        assert_means(&answered(429, &limited), Reason::OpenAiRateLimited, WAIT, None);
        let never = OpenAiApiError { http_status: 429, never_fits: true, ..OpenAiApiError::default() };
        assert_means(&OpenAiError::Api(Box::new(never)), Reason::ContextTooLong, RetryAction::Park, None);
    }

    #[test]
    fn a_prompt_that_the_filter_refuses_is_filtered() {
        let azure = json!({"code": "content_filter", "param": "prompt", "status": 400, "type": null});
        let inner = json!({"code": null, "innererror": {"code": "ResponsibleAIPolicyViolation"}});
        for fields in [azure, inner, json!({"code": "invalid_prompt", "type": "invalid_request_error"})] {
            assert_means(&answered(400, &fields), Reason::ContentFiltered, RetryAction::Park, None);
        }
    }

    #[test]
    fn a_country_is_the_whole_organisations_and_another_403_is_not() {
        let region = json!({"code": "unsupported_country_region_territory", "type": "request_forbidden"});
        assert_means(&answered(403, &region), Reason::OpenAiRegion, PERSON, Some(Certain));
        assert_means(&answered(403, &json!({"code": null})), Reason::OpenAiForbidden, RetryAction::Park, None);
    }

    #[test]
    fn a_page_of_a_proxy_passes_and_an_overload_is_waited_for() {
        for (status, body) in
            [(520, "<html>"), (522, " <!DOCTYPE html>"), (524, "<html>"), (403, "\u{feff}<html>"), (502, "")]
        {
            assert_means(&error(status, body), Reason::OpenAiUnavailable, NOW, Some(Possible));
        }
        let overloaded = answered(503, &json!({"type": "server_error", "code": "server_is_overloaded"}));
        assert_means(&overloaded, Reason::OpenAiUnavailable, WAIT, Some(Possible));
        assert_means(&answered(503, &json!({"code": "slow_down"})), Reason::OpenAiUnavailable, WAIT, Some(Possible));
        assert_means(&answered(429, &json!({"code": "slow_down"})), Reason::OpenAiRateLimited, WAIT, None);
        let told = OpenAiApiError { should_retry: Some(false), http_status: 503, ..OpenAiApiError::default() };
        let later = RetryAction::RetryLater { after: None };
        assert_means(&OpenAiError::Api(Box::new(told)), Reason::OpenAiUnavailable, later, Some(Possible));
    }

    #[test]
    fn an_answer_at_fault_is_no_outage_and_is_not_asked_for_without_end() {
        let parks = |error: OpenAiError| assert_means(&error, Reason::OpenAiUnreadable, RetryAction::Park, None);
        parks(OpenAiError::Unreadable("it has no choices".to_owned()));
        parks(OpenAiError::EventStream);
        assert!(!OpenAiError::EventStream.is_worth_one_more() && OpenAiError::EventStream.may_be_billed());
        let later = RetryAction::RetryLater { after: None };
        assert_means(&OpenAiError::NotJson, Reason::OpenAiUnreadable, later, Some(Possible));
        assert_means(&OpenAiError::TimedOut(Duration::ZERO), Reason::OpenAiTimeout, NOW, Some(Possible));
    }

    #[test]
    fn what_a_gateway_says_when_it_gives_up_may_be_billed_and_what_openai_says_of_itself_is_not() {
        let may_be_billed = |status, kind: Option<&str>| answered(status, &json!({ "type": kind })).may_be_billed();
        for (status, kind) in [
            (408, None),
            (500, None),
            (500, Some("internal_error")),
            (502, None),
            (503, None),
            (504, Some("server_error")),
            (524, None),
        ] {
            assert!(may_be_billed(status, kind), "{status} {kind:?}");
        }
        for (status, kind) in [
            (400, Some("invalid_request_error")),
            (401, None),
            (409, None),
            (429, Some("requests")),
            (500, Some("server_error")),
            (503, Some("server_is_overloaded")),
        ] {
            assert!(!may_be_billed(status, kind), "{status} {kind:?}");
        }
    }
}
