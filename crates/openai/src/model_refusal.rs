//! Tells what a model refuses of any request from what is wrong with one.

use retry::Reason;

use crate::{OpenAiApiError, OpenAiError};

/// Why a model takes no request of this kind, whatever it is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ModelRefusal {
    /// There is no such model (any more): 404, or the code `model_not_found`. OpenAI does not document what a model answers that
    /// was shut down; users have seen this (models.dev#3707).
    Gone,
    /// The API key's project may not use it: 403.
    Forbidden,
    /// It does not take this parameter, or not with this value: 400 with a `param` of the request's options.
    Parameter(String),
}

impl OpenAiError {
    /// Whether the model would refuse any other request with the same options, too; `None` if the data may be to blame.
    pub fn model_refusal(&self) -> Option<ModelRefusal> {
        let Self::Api(error) = self else { return None };
        match error.reason() {
            Reason::ModelNotFound => Some(ModelRefusal::Gone),
            Reason::OpenAiInvalidRequest if error.has_code(&["model_not_found"]) => Some(ModelRefusal::Gone),
            // A gateway may block a text; it does not answer in OpenAI's form.
            Reason::OpenAiForbidden if error.kind.is_some() || error.code.is_some() => Some(ModelRefusal::Forbidden),
            Reason::OpenAiInvalidRequest => error.refused_parameter().map(ModelRefusal::Parameter),
            _ => None,
        }
    }

    /// Whether OpenAI itself says that the API key has no such model. The 404 of a compatible server may only mean that it
    /// describes no models.
    pub fn denies_model(&self) -> bool {
        let is_named = matches!(self, Self::Api(error) if error.has_code(&["model_not_found"]));
        is_named || self.model_refusal() == Some(ModelRefusal::Forbidden)
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

    fn model_refusal(http_status: u16, body: &str) -> Option<ModelRefusal> {
        let error = OpenAiApiError { http_status, ..OpenAiApiError::read(body.as_bytes()) };
        OpenAiError::Api(Box::new(error)).model_refusal()
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
