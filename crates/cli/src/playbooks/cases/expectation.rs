//! What a case expects of a field.

use serde::Deserialize;
use serde_json::Value;

/// What a field has to be: every given bound has to hold.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Expectation {
    equals: Option<Value>,
    at_least: Option<f64>,
    at_most: Option<f64>,
    contains: Option<String>,
    one_of: Option<Vec<String>>,
    is_null: Option<bool>,
    items_at_least: Option<usize>,
    items_at_most: Option<usize>,
}

impl Expectation {
    /// Whether a value is within every bound.
    pub fn is_met_by(&self, value: &Value) -> bool {
        let number = value.as_f64();
        let items = value.as_array().map(Vec::len);
        let text = value.as_str().unwrap_or_default();
        self.equals.as_ref().is_none_or(|expected| same(expected, value))
            && self.at_least.is_none_or(|bound| number.is_some_and(|number| number >= bound))
            && self.at_most.is_none_or(|bound| number.is_some_and(|number| number <= bound))
            && self.contains.as_ref().is_none_or(|part| value.to_string().to_lowercase().contains(&part.to_lowercase()))
            && self.one_of.as_ref().is_none_or(|options| options.iter().any(|option| option == text))
            && self.is_null.is_none_or(|expected| expected == value.is_null())
            && self.items_at_least.is_none_or(|bound| items.is_some_and(|items| items >= bound))
            && self.items_at_most.is_none_or(|bound| items.is_some_and(|items| items <= bound))
    }
}

/// Whether two values are equal; 5 equals 5.0.
fn same(expected: &Value, value: &Value) -> bool {
    match (expected.as_f64(), value.as_f64()) {
        (Some(expected), Some(value)) => (expected - value).abs() < f64::EPSILON,
        _ => expected == value,
    }
}

impl std::fmt::Display for Expectation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut parts = Vec::new();
        let mut add = |sign: &str, bound: Option<String>| parts.extend(bound.map(|bound| format!("{sign} {bound}")));
        add("=", self.equals.as_ref().map(ToString::to_string));
        add("≥", self.at_least.map(|bound| bound.to_string()));
        add("≤", self.at_most.map(|bound| bound.to_string()));
        add("contains", self.contains.clone());
        add("one of", self.one_of.as_ref().map(|options| options.join(", ")));
        add("null:", self.is_null.map(|expected| expected.to_string()));
        add("items ≥", self.items_at_least.map(|bound| bound.to_string()));
        add("items ≤", self.items_at_most.map(|bound| bound.to_string()));
        f.write_str(&parts.join(", "))
    }
}
