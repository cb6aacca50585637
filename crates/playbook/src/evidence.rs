//! Whether the quotations that an answer rests on are in what the model had read.

use serde_json::{Map, Value};

use super::{Field, FieldKind, Fields};
use crate::context::{fold, plain_text};

/// What becomes of a field whose quotation is not found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unverified {
    /// The field counts as null.
    #[default]
    Drop,
    /// A text is written with a mark before it; other fields count as null, having no room for a mark.
    Mark,
    /// The event is parked for a person.
    Park,
}

/// What stands before a text whose quotation was not found.
const MARK: &str = "[unverified] ";

/// A quotation shorter than this proves nothing, in letters and digits.
const SHORTEST: usize = 3;

/// The name of the answer's field that holds the quotation for the field `name`.
pub(super) fn quote_name(name: &str) -> String {
    format!("{name}_quote")
}

impl Fields {
    /// The fields of a checked answer whose quotation is not in `read`. Case, spaces, HTML and typography do not count.
    pub fn unverified(&self, answer: &Map<String, Value>, read: &str) -> Vec<String> {
        let read = fold(read);
        let is_unverified = |field: &&Field| {
            let has_value = answer.get(&field.name).is_some_and(|value| !value.is_null());
            let quote = answer.get(&quote_name(&field.name)).and_then(Value::as_str).unwrap_or_default();
            let quote = fold(&plain_text(quote));
            let quote = quote.trim_matches(|c: char| c == '"' || c == '\'' || c == '.' || c.is_whitespace());
            let is_found = quote.chars().filter(|c| c.is_alphanumeric()).count() >= SHORTEST && read.contains(quote);
            field.evidence && has_value && !is_found
        };
        self.iter().filter(is_unverified).map(|field| field.name.clone()).collect()
    }

    /// What is left of an answer whose fields `unverified` rest on nothing: they become null or get a mark.
    #[must_use]
    pub fn without_evidence(
        &self,
        mut answer: Map<String, Value>,
        unverified: &[String],
        then: Unverified,
    ) -> Map<String, Value> {
        for field in self.iter().filter(|field| unverified.contains(&field.name)) {
            let Some(value) = answer.get_mut(&field.name) else { continue };
            *value = match (&field.kind, then, value.as_str()) {
                (FieldKind::Text { .. }, Unverified::Mark, Some(text)) => Value::String(format!("{MARK}{text}")),
                _ => Value::Null,
            };
        }
        answer
    }
}
