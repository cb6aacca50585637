//! The fields of an answer. One list of fields gives the schema that is sent, the check of the answer, and the values
//! that are written.

use std::sync::Arc;

use jsonschema::{Validator, error::ValidationErrorKind};
use serde_json::{
    Map, Value, json,
    value::{RawValue, to_raw_value},
};

use crate::text::MAX_HUBSPOT_TEXT;

/// The maximum number of items in a list field.
pub(crate) const MAX_LIST_ITEMS: usize = 100;

/// The fields of an answer and the schemas that follow from them.
#[derive(Debug)]
pub struct AnswerFields {
    list: Vec<AnswerField>,
    /// The schema with all bounds, against which answers are checked.
    validator: Validator,
    /// The schema that is sent.
    strict_schema: Arc<RawValue>,
}

/// One field of an answer.
#[derive(Debug, Clone, PartialEq)]
pub struct AnswerField {
    /// The field's name in the answer.
    pub name: String,
    /// What the model should answer here.
    pub description: String,
    /// The field's type and bounds.
    pub kind: FieldKind,
    /// Whether the model may answer null. A null is never written.
    pub optional: bool,
    /// Whether the model has to quote the words from which the value follows.
    pub evidence: bool,
}

/// A field's type and bounds. Bounds are inclusive.
#[derive(Debug, Clone, PartialEq)]
pub enum FieldKind {
    /// A whole number.
    Integer {
        /// Lower bound.
        minimum: i64,
        /// Upper bound.
        maximum: i64,
    },
    /// A number.
    Number {
        /// Lower bound.
        minimum: f64,
        /// Upper bound.
        maximum: f64,
    },
    /// Text.
    Text {
        /// The maximum length in characters.
        max_length: usize,
    },
    /// A day, ISO 8601 (`2026-01-31`).
    Date,
    /// Yes or no.
    Boolean,
    /// One of several options.
    Choice {
        /// The options.
        options: Vec<String>,
    },
    /// A list of objects.
    List {
        /// The fields of each object.
        items: Vec<AnswerField>,
        /// The maximum number of objects.
        max_items: usize,
    },
}

/// Why an answer does not fit the fields. Each text names a field; none contains text of the answer, which may be
/// personal data.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.join("; "))]
pub struct AnswerMismatch(pub Vec<String>);

/// The schema of the fields cannot be compiled.
#[derive(Debug, thiserror::Error)]
#[error("the JSON schema of the fields cannot be compiled: {0}")]
pub(crate) struct SchemaError(String);

/// Why the bounds of a field are not valid.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub(crate) enum BoundsError {
    #[error("minimum {minimum} is above maximum {maximum}")]
    Integer { minimum: i64, maximum: i64 },
    #[error("minimum {minimum} is above maximum {maximum}")]
    Number { minimum: f64, maximum: f64 },
    #[error("max_length {0} is not within 1–{MAX_HUBSPOT_TEXT}, HubSpot's limit")]
    TextLength(usize),
    #[error("options are empty")]
    NoOptions,
    #[error("max_items {0} is not within 1–{MAX_LIST_ITEMS}")]
    ListLength(usize),
}

/// The name of the field in the answer that contains the quotation for the field `name`.
pub fn quote_name(name: &str) -> String {
    format!("{name}{QUOTE_SUFFIX}")
}

/// The end of the name of a field with a quotation. No field of a playbook may have such a name.
pub(crate) const QUOTE_SUFFIX: &str = "_quote";

impl AnswerFields {
    /// Compiles the schemas.
    pub(crate) fn new(fields: Vec<AnswerField>) -> Result<Self, SchemaError> {
        let schema = object_schema(&fields, |field| field.kind.bounded_schema());
        // Days have a format: no pattern knows how long a month is.
        let options = jsonschema::options().should_validate_formats(true);
        let validator = options.build(&schema).map_err(|error| SchemaError(error.to_string()))?;
        let strict_schema = object_schema(&fields, AnswerField::strict_schema);
        let strict_schema = to_raw_value(&strict_schema).map_err(|error| SchemaError(error.to_string()))?.into();
        Ok(Self { list: fields, validator, strict_schema })
    }

    /// The fields, in the file's order.
    pub fn iter(&self) -> impl Iterator<Item = &AnswerField> {
        self.list.iter()
    }

    pub(crate) fn as_slice(&self) -> &[AnswerField] {
        &self.list
    }

    /// The schema to send, within the subset that OpenAI accepts for strict schemas: every key is required, no other key
    /// is allowed, and an optional field is a union with null. Bounds are only in the descriptions, because older models
    /// reject the keywords for bounds; [`AnswerFields::check`] checks them in any case. Source: OpenAI's guide to
    /// structured outputs, <https://platform.openai.com/docs/guides/structured-outputs>.
    pub fn strict_schema(&self) -> &Arc<RawValue> {
        &self.strict_schema
    }

    /// Parses an answer and checks it against every type and bound.
    ///
    /// # Errors
    /// Everything that does not fit.
    pub fn check(&self, answer: &str) -> Result<Map<String, Value>, AnswerMismatch> {
        self.check_value(parse(answer)?)
    }

    /// Checks an answer against every type and bound.
    pub(crate) fn check_value(&self, value: Value) -> Result<Map<String, Value>, AnswerMismatch> {
        let mismatches: Vec<_> = self
            .validator
            .iter_errors(&value)
            .map(|error| match error.instance_path().as_str() {
                // The library's message would quote the names, which come from the model.
                "" if matches!(error.kind(), ValidationErrorKind::AdditionalProperties { .. }) => {
                    "fields that the schema does not have".to_owned()
                }
                "" => error.masked_with("the answer").to_string(),
                path => format!("{}: {}", path.trim_start_matches('/'), error.masked_with("the value")),
            })
            .collect();
        match value {
            Value::Object(fields) if mismatches.is_empty() => Ok(fields),
            _ => Err(AnswerMismatch(mismatches)),
        }
    }

    /// The field with this name.
    pub fn get(&self, name: &str) -> Option<&AnswerField> {
        self.list.iter().find(|field| field.name == name)
    }
}

/// The JSON of an answer.
pub(crate) fn parse(answer: &str) -> Result<Value, AnswerMismatch> {
    serde_json::from_str(answer)
        .map_err(|error| AnswerMismatch(vec![format!("not JSON: line {}, column {}", error.line(), error.column())]))
}

/// The value of a field in the form in which HubSpot takes it. `None` for null, and for lists, which only a text can
/// contain.
pub(crate) fn property_value(value: &Value) -> Option<String> {
    match value {
        Value::Null | Value::Array(_) | Value::Object(_) => None,
        // Postgres rejects U+0000, and most programs cannot show it.
        Value::String(text) => Some(text.replace('\0', "")),
        // A whole number has no decimal point: 1.0 becomes `1`.
        #[expect(clippy::cast_possible_truncation, reason = "whole and within the bounds of the check")]
        Value::Number(number) => match number.as_f64() {
            Some(whole) if whole.fract() == 0.0 && whole.abs() < 1e15 => Some((whole as i64).to_string()),
            _ => Some(number.to_string()),
        },
        // HubSpot takes `true` and `false`.
        Value::Bool(value) => Some(value.to_string()),
    }
}

/// The schema of an object with these fields, where `schema_of` gives the schema of each.
fn object_schema(fields: &[AnswerField], schema_of: fn(&AnswerField) -> Map<String, Value>) -> Value {
    let mut properties = Map::new();
    for field in fields {
        let mut schema = schema_of(field);
        if field.optional {
            if let Some(kind) = schema.get_mut("type") {
                *kind = json!([kind.take(), "null"]);
            }
            if let Some(Value::Array(options)) = schema.get_mut("enum") {
                options.push(Value::Null);
            }
        }
        properties.insert(field.name.clone(), Value::Object(schema));
        if field.evidence {
            let name = &field.name;
            let description = format!("The exact words in the data that `{name}` rests on; null if there are none.");
            properties.insert(quote_name(name), json!({"type": ["string", "null"], "description": description}));
        }
    }
    json!({
        "type": "object",
        "required": properties.keys().collect::<Vec<_>>(),
        "properties": properties,
        "additionalProperties": false,
    })
}

impl AnswerField {
    fn strict_schema(&self) -> Map<String, Value> {
        let bounds = match &self.kind {
            FieldKind::Integer { minimum, maximum } => format!(" From {minimum} to {maximum}."),
            FieldKind::Number { minimum, maximum } => format!(" From {minimum} to {maximum}."),
            FieldKind::Text { max_length } => format!(" At most {max_length} characters."),
            FieldKind::Date => " A day as YYYY-MM-DD.".to_owned(),
            FieldKind::List { max_items, .. } => format!(" At most {max_items}."),
            FieldKind::Boolean | FieldKind::Choice { .. } => String::new(),
        };
        let mut schema = Map::from_iter([
            ("type".to_owned(), json!(self.kind.json_type())),
            ("description".to_owned(), json!(format!("{}{bounds}", self.description))),
        ]);
        match &self.kind {
            FieldKind::Choice { options } => drop(schema.insert("enum".to_owned(), json!(options))),
            FieldKind::List { items, .. } => {
                schema.insert("items".to_owned(), object_schema(items, Self::strict_schema));
            }
            _ => {}
        }
        schema
    }
}

impl FieldKind {
    /// Checks the bounds themselves, not a value.
    pub(crate) fn check_bounds(&self) -> Result<(), BoundsError> {
        match *self {
            Self::Integer { minimum, maximum } if minimum > maximum => Err(BoundsError::Integer { minimum, maximum }),
            // NaN compares with nothing, so it is rejected, too.
            Self::Number { minimum, maximum }
                if minimum.partial_cmp(&maximum).is_none_or(std::cmp::Ordering::is_gt) =>
            {
                Err(BoundsError::Number { minimum, maximum })
            }
            Self::Text { max_length } if !(1..=MAX_HUBSPOT_TEXT).contains(&max_length) => {
                Err(BoundsError::TextLength(max_length))
            }
            Self::Choice { ref options } if options.is_empty() => Err(BoundsError::NoOptions),
            Self::List { max_items, .. } if !(1..=MAX_LIST_ITEMS).contains(&max_items) => {
                Err(BoundsError::ListLength(max_items))
            }
            _ => Ok(()),
        }
    }

    pub(crate) fn json_type(&self) -> &'static str {
        match self {
            Self::Integer { .. } => "integer",
            Self::Number { .. } => "number",
            Self::Text { .. } | Self::Choice { .. } | Self::Date => "string",
            Self::Boolean => "boolean",
            Self::List { .. } => "array",
        }
    }

    /// The schema with all bounds as keywords.
    fn bounded_schema(&self) -> Map<String, Value> {
        let mut schema = Map::from_iter([("type".to_owned(), json!(self.json_type()))]);
        let mut bound = |keyword: &str, value: Value| schema.insert(keyword.to_owned(), value);
        match self {
            Self::Integer { minimum, maximum } => {
                bound("minimum", json!(minimum));
                bound("maximum", json!(maximum));
            }
            Self::Number { minimum, maximum } => {
                bound("minimum", json!(minimum));
                bound("maximum", json!(maximum));
            }
            Self::Text { max_length } => {
                bound("maxLength", json!(max_length));
            }
            Self::Choice { options } => {
                bound("enum", json!(options));
            }
            Self::Date => {
                bound("format", json!("date"));
            }
            Self::List { items, max_items } => {
                bound("items", object_schema(items, |field| field.kind.bounded_schema()));
                bound("maxItems", json!(max_items));
            }
            Self::Boolean => {}
        }
        schema
    }
}
