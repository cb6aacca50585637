//! Tells what a model refuses of any request from what is wrong with one.

use retry::{OutageSign, Reason};

use crate::{OpenAiApiError, OpenAiError};

/// Why a model takes no request of this kind, whatever it is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ModelRefusal {
    /// There is no such model (any more): 404 or 410, or the code `model_not_found`. OpenAI does not document what a model answers that
    /// was shut down; users have seen this (models.dev#3707).
    Gone,
    /// The API key's project may not use it: 403.
    Forbidden,
    /// It does not take this parameter, or not with this value: 400 with a `param` of the request's options.
    Parameter(String),
    /// A 403 in another form than OpenAI's: a gateway may forbid the model, or have blocked one text.
    Unexplained,
}

impl OpenAiError {
    /// Whether the model would refuse any other request with the same options, too; `None` if the data may be to blame.
    pub fn model_refusal(&self) -> Option<ModelRefusal> {
        let Self::Api(error) = self else { return None };
        match error.reason() {
            Reason::ModelNotFound => Some(ModelRefusal::Gone),
            Reason::OpenAiInvalidRequest if error.has_code(&["model_not_found"]) => Some(ModelRefusal::Gone),
            Reason::OpenAiForbidden if error.kind.is_some() || error.code.is_some() => Some(ModelRefusal::Forbidden),
            Reason::OpenAiForbidden => Some(ModelRefusal::Unexplained),
            Reason::OpenAiInvalidRequest => error.refused_parameter().map(ModelRefusal::Parameter),
            _ => None,
        }
    }

    /// Whether OpenAI itself says that the API key has no such model. Another 404 may only mean that a compatible server describes
    /// no models, and another 403 that the key may not read descriptions.
    pub fn denies_model(&self) -> bool {
        matches!(self, Self::Api(error) if error.has_code(&["model_not_found"]))
    }

    /// Whether a call was answered as OpenAI answers a restricted key that lacks the right to this call, and may have that to others:
    /// with 401, the type `invalid_request_error`, and not the code of a wrong key. A 401 that says nothing is one of a wrong key.
    pub fn leaves_key_valid(&self) -> bool {
        let Self::Api(error) = self else { return false };
        let is_rejected = error.outage_sign() == Some(OutageSign::CredentialRejected);
        let is_of_request = error.has_code(&["invalid_request_error"]);
        is_rejected && is_of_request && !error.has_code(&["invalid_api_key", "authentication_error"])
    }
}

impl OpenAiApiError {
    /// The option of the request that a 400 names. What is wrong with the messages may be a stranger's text, unless OpenAI
    /// says that the model does not support it.
    fn refused_parameter(&self) -> Option<String> {
        let is_unsupported = self.has_code(&["unsupported_value", "unsupported_parameter"]);
        let names_option = |param: &&String| {
            let is_data = ["messages", "input", "prompt"].iter().any(|data| names(param, data));
            is_unsupported || (self.has_code(&["invalid_request_error"]) && !is_data)
        };
        self.param.as_ref().filter(names_option).cloned()
    }
}

/// Whether `param` is `option` or a part of it: `messages[1].content`.
fn names(param: &str, option: &str) -> bool {
    param.strip_prefix(option).is_some_and(|rest| rest.is_empty() || rest.starts_with(['[', '.']))
}

#[cfg(test)]
mod tests {
    use super::ModelRefusal;
    use crate::{OpenAiApiError, OpenAiError};

    fn error(http_status: u16, body: &str) -> OpenAiError {
        OpenAiError::Api(Box::new(OpenAiApiError { http_status, ..OpenAiApiError::read(body.as_bytes()) }))
    }

    fn model_refusal(http_status: u16, body: &str) -> Option<ModelRefusal> {
        error(http_status, body).model_refusal()
    }

    #[test]
    fn only_the_code_denies_that_there_is_a_model() {
        for status in [403, 404] {
            assert!(error(status, r#"{"error":{"code":"model_not_found"}}"#).denies_model());
            for other in ["", r#"{"error":{"type":"permission_error","code":"insufficient_permissions"}}"#] {
                assert!(!error(status, other).denies_model(), "{status} {other}");
            }
        }
    }

    #[test]
    fn a_401_says_that_the_key_is_wrong_by_its_code_or_type_alone() {
        let of_scope =
            r#"{"error":{"message":"Missing scopes: api.model.read","type":"invalid_request_error","code":null}}"#;
        assert!(error(401, of_scope).leaves_key_valid());
        for wrong in [
            "",
            r#"{"error":{"message":"Missing scopes: api.model.read"}}"#,
            r#"{"error":{"type":"invalid_request_error","code":"invalid_api_key"}}"#,
            r#"{"error":{"type":"authentication_error","code":null}}"#,
        ] {
            assert!(!error(401, wrong).leaves_key_valid(), "{wrong}");
        }
        assert!(!error(503, "").leaves_key_valid() && !error(403, of_scope).leaves_key_valid());
    }

    #[test]
    fn what_a_model_refuses_of_any_request_is_told_from_what_is_wrong_with_one() {
        let parameter = |name: &str| Some(ModelRefusal::Parameter(name.to_owned()));
        for (status, body, expected) in [
            (404, r#"{"error":{"type":"invalid_request_error","code":"model_not_found"}}"#, Some(ModelRefusal::Gone)),
            (
                400,
                r#"{"error":{"type":"invalid_request_error","param":"model","code":"model_not_found"}}"#,
                Some(ModelRefusal::Gone),
            ),
            (404, "<html>no such route</html>", Some(ModelRefusal::Gone)),
            (
                403,
                r#"{"error":{"type":"invalid_request_error","code":"model_not_found"}}"#,
                Some(ModelRefusal::Forbidden),
            ),
            (
                403,
                r#"{"error":{"type":"request_forbidden","code":"unsupported_country_region_territory"}}"#,
                // It is about every model.
                None,
            ),
            (403, "<html>Blocked by a firewall because of a text</html>", None),
            (403, "", Some(ModelRefusal::Unexplained)),
            (403, r#"{"message":"Forbidden"}"#, Some(ModelRefusal::Unexplained)),
            (403, r#"{"error":{"type":"permission_error"}}"#, Some(ModelRefusal::Forbidden)),
            (410, r#"{"error":{"message":"This model was shut down."}}"#, Some(ModelRefusal::Gone)),
            (410, "", Some(ModelRefusal::Gone)),
            (
                400,
                r#"{"error":{"type":"invalid_request_error","param":"temperature","code":"unsupported_value"}}"#,
                parameter("temperature"),
            ),
            (
                400,
                r#"{"error":{"type":"invalid_request_error","param":"response_format"}}"#,
                parameter("response_format"),
            ),
            (
                400,
                r#"{"error":{"code":"unsupported_value","param":"messages[0].role"}}"#,
                parameter("messages[0].role"),
            ),
            (
                400,
                r#"{"error":{"type":"invalid_request_error","param":"messages[1].content","code":"string_above_max_length"}}"#,
                None,
            ),
            (
                400,
                r#"{"error":{"type":"invalid_request_error","param":"messages","code":"context_length_exceeded"}}"#,
                None,
            ),
            (400, r#"{"error":{"type":"invalid_request_error","param":null}}"#, None),
            (429, r#"{"error":{"type":"requests","param":"temperature"}}"#, None),
            (500, "", None),
        ] {
            assert_eq!(model_refusal(status, body), expected, "{status} {body}");
        }
    }
}
