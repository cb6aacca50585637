//! What the model has to answer. From one list of fields follow the schema that is sent, the check of the answer, and
//! the values that are written.

use std::sync::Arc;

use jsonschema::{Validator, error::ValidationErrorKind};
use serde_json::{Map, Value, json};

use super::evidence::quote_name;

/// HubSpot's longest text value, in characters.
const HUBSPOT_TEXT_LIMIT: usize = 65_536;

/// A day of the Gregorian calendar, as far as a pattern can tell.
const DAY: &str = "^[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])$";

/// The fields of an answer, with everything that follows from them.
#[derive(Debug)]
pub struct Fields {
    list: Vec<Field>,
    validator: Validator,
    strict_schema: Arc<Value>,
}

/// One field of an answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Field {
    /// Its name in the answer.
    pub name: String,
    /// What the model should put there.
    pub description: String,
    /// Its type and bounds.
    pub kind: FieldKind,
    /// Whether the model may answer null, which leaves properties alone.
    pub optional: bool,
    /// Whether the model has to quote the words that the value rests on.
    pub evidence: bool,
}

/// A field's type and bounds, both ends included.
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
        /// In characters.
        max_length: usize,
    },
    /// A day, ISO 8601 (`2026-01-31`).
    Date,
    /// Yes or no.
    Boolean,
    /// One of a list.
    Choice {
        /// The list.
        options: Vec<String>,
    },
    /// Several things of the same form.
    List {
        /// The form of each.
        items: Vec<Field>,
        /// How many at most.
        max_items: usize,
    },
}

/// Why an answer does not fit; each line names the field, none holds the answer's text (it may be personal).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.join("; "))]
pub struct Mismatch(pub Vec<String>);

impl Fields {
    /// Checks the bounds and compiles the schema.
    pub(super) fn new(fields: Vec<Field>) -> Result<Self, String> {
        let schema = object_schema(&fields, FieldKind::full_schema);
        let validator = jsonschema::validator_for(&schema).map_err(|error| error.to_string())?;
        let strict_schema = Arc::new(object_schema(&fields, FieldKind::strict_schema));
        Ok(Self { list: fields, validator, strict_schema })
    }

    /// Every field, in the file's order.
    pub fn iter(&self) -> impl Iterator<Item = &Field> {
        self.list.iter()
    }

    /// The schema to send, within OpenAI's strict subset: all keys required, nothing else allowed, optional as a
    /// union with null. Bounds are in the descriptions: only newer models accept them as keywords, and the answer is
    /// checked here anyway.
    pub fn strict_schema(&self) -> &Arc<Value> {
        &self.strict_schema
    }

    /// Reads an answer and checks it against every type and bound.
    pub fn check(&self, answer: &str) -> Result<Map<String, Value>, Mismatch> {
        let value: Value = serde_json::from_str(answer)
            .map_err(|error| Mismatch(vec![format!("not JSON: line {}, column {}", error.line(), error.column())]))?;
        let mismatches: Vec<_> = self
            .validator
            .iter_errors(&value)
            .map(|error| match error.instance_path().as_str() {
                // The library's own words would quote the names, and those come from the model.
                "" if matches!(error.kind(), ValidationErrorKind::AdditionalProperties { .. }) => {
                    "fields that the schema does not have".to_owned()
                }
                "" => error.masked_with("the answer").to_string(),
                path => format!("{}: {}", path.trim_start_matches('/'), error.masked_with("the value")),
            })
            .collect();
        match value {
            Value::Object(fields) if mismatches.is_empty() => Ok(fields),
            _ => Err(Mismatch(mismatches)),
        }
    }

    /// The field with this name.
    pub fn get(&self, name: &str) -> Option<&Field> {
        self.list.iter().find(|field| field.name == name)
    }

    /// A field's value as HubSpot takes it; `None` where the model had nothing to say.
    pub fn text(value: &Value) -> Option<String> {
        match value {
            Value::Null | Value::Array(_) | Value::Object(_) => None,
            // HubSpot refuses U+0000 nowhere in its documents, Postgres and most screens do.
            Value::String(text) => Some(text.replace('\0', "")),
            // 1.0 is 1 to whoever reads it.
            #[expect(clippy::cast_possible_truncation, reason = "whole and within the bounds of the check")]
            Value::Number(number) => match number.as_f64() {
                Some(whole) if whole.fract() == 0.0 && whole.abs() < 1e15 => Some((whole as i64).to_string()),
                _ => Some(number.to_string()),
            },
            // Booleans: HubSpot takes `true` and `false`, as JSON writes them.
            Value::Bool(yes) => Some(yes.to_string()),
        }
    }
}

fn object_schema(fields: &[Field], of: fn(&FieldKind, &Field) -> Map<String, Value>) -> Value {
    let mut properties = Map::new();
    for field in fields {
        let mut schema = of(&field.kind, field);
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

impl FieldKind {
    /// What is wrong with the bounds themselves.
    pub(super) fn flaw(&self) -> Option<String> {
        match self {
            Self::Integer { minimum, maximum } if minimum > maximum => {
                Some(format!("minimum {minimum} is above maximum {maximum}"))
            }
            Self::Number { minimum, maximum } if minimum.partial_cmp(maximum).is_none_or(std::cmp::Ordering::is_gt) => {
                Some(format!("minimum {minimum} is above maximum {maximum}"))
            }
            Self::Text { max_length } if !(1..=HUBSPOT_TEXT_LIMIT).contains(max_length) => {
                Some(format!("max_length {max_length} is not within 1–{HUBSPOT_TEXT_LIMIT}, HubSpot's limit"))
            }
            Self::Choice { options } if options.is_empty() => Some("options are empty".to_owned()),
            Self::List { max_items, .. } if !(1..=100).contains(max_items) => {
                Some(format!("max_items {max_items} is not within 1–100"))
            }
            _ => None,
        }
    }

    fn type_name(&self) -> &'static str {
        match self {
            Self::Integer { .. } => "integer",
            Self::Number { .. } => "number",
            Self::Text { .. } | Self::Choice { .. } | Self::Date => "string",
            Self::Boolean => "boolean",
            Self::List { .. } => "array",
        }
    }

    fn strict_schema(&self, field: &Field) -> Map<String, Value> {
        let bounds = match self {
            Self::Integer { minimum, maximum } => format!(" From {minimum} to {maximum}."),
            Self::Number { minimum, maximum } => format!(" From {minimum} to {maximum}."),
            Self::Text { max_length } => format!(" At most {max_length} characters."),
            Self::Date => " A day as YYYY-MM-DD.".to_owned(),
            Self::List { max_items, .. } => format!(" At most {max_items}."),
            Self::Boolean | Self::Choice { .. } => String::new(),
        };
        let mut schema = Map::from_iter([
            ("type".to_owned(), json!(self.type_name())),
            ("description".to_owned(), json!(format!("{}{bounds}", field.description))),
        ]);
        match self {
            Self::Choice { options } => drop(schema.insert("enum".to_owned(), json!(options))),
            Self::List { items, .. } => {
                schema.insert("items".to_owned(), object_schema(items, Self::strict_schema));
            }
            _ => {}
        }
        schema
    }

    fn full_schema(&self, _field: &Field) -> Map<String, Value> {
        let mut schema = Map::from_iter([("type".to_owned(), json!(self.type_name()))]);
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
                bound("pattern", json!(DAY));
            }
            Self::List { items, max_items } => {
                bound("items", object_schema(items, Self::full_schema));
                bound("maxItems", json!(max_items));
            }
            Self::Boolean => {}
        }
        schema
    }
}
