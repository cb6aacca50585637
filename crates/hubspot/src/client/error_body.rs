//! The body of an error answer, read leniently: what has an unexpected form is left out and the rest is kept, because the
//! correlation id and the names at fault matter most when an answer is unusual.

use std::collections::BTreeMap;

use http_client::{MAX_NAME, shortened};
use serde_json::Value;

/// The body of an error answer (HubSpot's documentation, "Handling errors"). Every part may be missing.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct ErrorBody {
    /// The message. It may quote personal data, so it is not part of the error's text.
    pub message: String,
    /// `VALIDATION_ERROR`, `MISSING_SCOPES`, …
    pub category: String,
    /// The id that HubSpot's support asks for.
    pub correlation_id: String,
    /// `TEN_SECONDLY_ROLLING` or `DAILY`, on 429.
    pub policy_name: Option<String>,
    /// The data centre that has the portal, on 488.
    pub correct_hublet: Option<String>,
    /// Details.
    pub errors: Vec<ErrorDetail>,
    /// The ids and names that the error is about.
    pub context: ErrorContext,
}

/// One detail of an error answer.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct ErrorDetail {
    /// `PROPERTY_DOESNT_EXIST`, `INVALID_OPTION`, …
    pub code: Option<String>,
    /// For example `propertyName` or `requiredGranularScopes`.
    pub context: ErrorContext,
}

/// Lists of ids and names, by what they are.
pub type ErrorContext = BTreeMap<String, Vec<String>>;

/// A property that HubSpot does not take.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct RefusedProperty {
    /// Its internal name.
    pub name: String,
    /// HubSpot's code, if it gives one.
    pub code: Option<String>,
}

/// What precedes the list of values in the message of older and of multi-status answers (HubSpot's changelog, "Property
/// Validations Rules will be enforced").
const REFUSED_VALUES: &str = "Property values were not valid: ";

/// The most details, names and ids that are kept of one answer.
const MAX_ITEMS: usize = 100;

/// The longest message that is kept, in bytes: a list of refused values with their messages fits in.
const MAX_MESSAGE: usize = 65_536;

impl ErrorBody {
    /// Reads the body of an answer that is not 2xx. A body that is not JSON, as proxies send it, is an empty one.
    pub fn read(bytes: &[u8]) -> Self {
        let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
        serde_json::from_slice::<Value>(bytes).map(|body| Self::from_value(&body)).unwrap_or_default()
    }

    /// Reads an error that is a part of an answer.
    pub fn from_value(body: &Value) -> Self {
        let name = |key| body.get(key).and_then(short);
        let details = body.get("errors").and_then(Value::as_array).into_iter().flatten();
        Self {
            message: body
                .get("message")
                .and_then(Value::as_str)
                .map(|text| shortened(text, MAX_MESSAGE))
                .unwrap_or_default(),
            category: name("category").unwrap_or_default(),
            correlation_id: name("correlationId").unwrap_or_default(),
            policy_name: name("policyName"),
            correct_hublet: name("correctHublet").filter(|hublet| is_hublet(hublet)),
            errors: details.take(MAX_ITEMS).map(ErrorDetail::read).collect(),
            context: context(body.get("context")),
        }
    }

    /// The properties that HubSpot does not take, from the details and from the message: either may name fewer than the other.
    pub fn refused_properties(&self) -> Vec<RefusedProperty> {
        let mut refused: BTreeMap<String, Option<String>> = BTreeMap::new();
        let mut add = |name: &str, code: Option<&str>| {
            if is_property_name(name) && refused.len() < MAX_ITEMS {
                let known = refused.entry(name.to_owned()).or_default();
                *known = known.take().or_else(|| code.map(|code| shortened(code, MAX_NAME)));
            }
        };
        for detail in &self.errors {
            for name in detail.context.get("propertyName").into_iter().flatten() {
                add(name, detail.code.as_deref());
            }
        }
        for value in self.values_in_message() {
            if let Some(name) = value.get("name").and_then(Value::as_str) {
                add(name, value.get("error").and_then(Value::as_str));
            }
        }
        for name in self.context.get("propertyName").into_iter().flatten() {
            add(name, None);
        }
        refused.into_iter().map(|(name, code)| RefusedProperty { name, code }).collect()
    }

    /// The JSON array at the end of the message, if there is one.
    fn values_in_message(&self) -> Vec<Value> {
        let list = self.message.split_once(REFUSED_VALUES).map(|(_, list)| list);
        // What follows the array is left out.
        let first = list.and_then(|list| serde_json::Deserializer::from_str(list).into_iter::<Vec<Value>>().next());
        first.and_then(Result::ok).unwrap_or_default()
    }
}

impl ErrorDetail {
    fn read(value: &Value) -> Self {
        Self { code: value.get("code").and_then(short), context: context(value.get("context")) }
    }
}

impl RefusedProperty {
    /// Whether HubSpot takes no value at all for the property until a person changes the portal. Otherwise only
    /// this value is refused. The codes are those of HubSpot's error guide and of captured answers.
    pub fn is_about_every_value(&self) -> bool {
        let code = self.code.as_deref().unwrap_or_default();
        matches!(code, "PROPERTY_DOESNT_EXIST" | "READ_ONLY_VALUE" | "PROPERTY_READ_ONLY" | "READ_ONLY" | "ARCHIVED")
    }
}

/// Hublets have names such as `na1` and `eu1`. The name becomes part of a host name that an operator is told.
fn is_hublet(name: &str) -> bool {
    name.len() <= 8 && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
}

/// HubSpot's rule for internal names of properties: lower case, digits and underscores. Anything else may be a value.
fn is_property_name(name: &str) -> bool {
    (1..=MAX_NAME).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
}

/// Text or a number, cut to [`MAX_NAME`]; `None` for anything else.
fn short(value: &Value) -> Option<String> {
    match value {
        Value::String(text) if !text.is_empty() => Some(shortened(text, MAX_NAME)),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

/// The lists of a context. HubSpot documents arrays of text; single values occur.
fn context(value: Option<&Value>) -> ErrorContext {
    let lists = value.and_then(Value::as_object).into_iter().flatten().take(MAX_ITEMS);
    let list = |value: &Value| match value {
        Value::Array(items) => items.iter().take(MAX_ITEMS).filter_map(short).collect(),
        single => short(single).into_iter().collect::<Vec<_>>(),
    };
    lists.map(|(name, value)| (shortened(name, MAX_NAME), list(value))).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::client::{HubSpotApiError, Operation};

    fn refused(body: &Value) -> Vec<(String, Option<String>)> {
        let body = ErrorBody::read(body.to_string().as_bytes());
        body.refused_properties().into_iter().map(|refused| (refused.name, refused.code)).collect()
    }

    fn named(names: &[(&str, &str)]) -> Vec<(String, Option<String>)> {
        names.iter().map(|(name, code)| ((*name).to_owned(), Some((*code).to_owned()))).collect()
    }

    #[test]
    fn refused_properties_are_named_by_details_and_by_the_message() {
        let details = json!({"category": "VALIDATION_ERROR", "errors": [
            {"code": "INVALID_INTEGER", "context": {"propertyName": ["lead_score"]}}, "odd", null]});
        assert_eq!(refused(&details), named(&[("lead_score", "INVALID_INTEGER")]));
        let older = json!({"message": "Property values were not valid: [{\"isValid\":false,\"message\":\"Property \
            \\\"old\\\" does not exist\",\"error\":\"PROPERTY_DOESNT_EXIST\",\"name\":\"old\"},{\"name\":\"two\",\
            \"error\":\"READ_ONLY_VALUE\"}] and more", "errors": [{"context": {"propertyName": "two"}}]});
        assert_eq!(refused(&older), named(&[("old", "PROPERTY_DOESNT_EXIST"), ("two", "READ_ONLY_VALUE")]));
        assert!(refused(&json!({"message": "Property values were not valid: [{\"name\""})).is_empty());
        assert!(refused(&json!({"context": {"propertyName": ["Ada's <b>name</b>"]}})).is_empty(), "not a name");
    }

    #[test]
    fn the_text_of_an_error_is_bounded_whatever_the_answer_names() {
        let long = "x".repeat(10_000);
        let details = vec![json!({"code": long, "context": {"requiredScopes": vec![long.clone(); 200]}}); 200];
        let body = json!({"category": long, "correlationId": long, "policyName": long, "errors": details});
        let error = HubSpotApiError {
            http_status: 400,
            operation: Operation::BatchUpdateObjects,
            retry_after: None,
            body: ErrorBody::read(body.to_string().as_bytes()),
        };
        let text = error.to_string();
        assert!(text.len() < 2_000 && text.ends_with(&"x".repeat(200)), "{} bytes", text.len());
    }

    #[test]
    fn an_unusual_form_of_one_part_keeps_the_others() {
        let body = json!({"status": "error", "message": null, "correlationId": "c-1", "category": "VALIDATION_ERROR",
            "errors": {"not": "a list"}, "context": {"ids": [1, "2"], "one": "alone", "deep": {"x": 1}}, "policyName": 7});
        let read = ErrorBody::read(&[b"\xef\xbb\xbf", body.to_string().as_bytes()].concat());
        assert_eq!((read.correlation_id.as_str(), read.category.as_str()), ("c-1", "VALIDATION_ERROR"));
        assert_eq!(read.context["ids"], ["1", "2"]);
        assert_eq!(read.context["one"], ["alone"]);
        assert_eq!(ErrorBody::read(b"<html>Bad gateway</html>"), ErrorBody::default());
    }
}
