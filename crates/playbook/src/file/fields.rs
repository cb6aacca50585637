//! The fields of an answer in a playbook file.

use std::collections::HashSet;

use super::{checker::Checker, tables::FieldTable};
use crate::fields::{AnswerField, FieldKind, QUOTE_SUFFIX};

/// Why the type of a field is not valid.
#[derive(Debug, thiserror::Error)]
enum FieldTypeError {
    #[error("type `integer` needs the whole numbers `minimum` and `maximum`")]
    IntegerBounds,
    #[error("type `number` needs `minimum` and `maximum`")]
    NumberBounds,
    #[error("type `text` needs `max_length`, in characters")]
    TextLength,
    #[error("type `choice` needs `options`")]
    ChoiceOptions,
    #[error("type `list` needs `max_items` and `[[fields.items]]`")]
    ListItems,
    #[error("type `{0}` is none of integer, number, text, date, boolean, choice, list")]
    Unknown(String),
    #[error("`{key}` is not a key of type `{field_type}`")]
    SurplusKey { key: &'static str, field_type: String },
}

pub(super) fn read(checker: &mut Checker, tables: &[FieldTable]) -> Vec<AnswerField> {
    if tables.is_empty() {
        checker.add_line(1, "no fields; the model would have nothing to answer");
    }
    let mut names = HashSet::new();
    let mut fields = Vec::new();
    for table in tables {
        checker.internal_name(&table.name);
        let name = table.name.get_ref();
        if !names.insert(name) {
            checker.add(table.name.span(), format!("there are two fields `{name}`"));
        }
        if name.ends_with(QUOTE_SUFFIX) {
            let message = format!("field `{name}`: names that end in `{QUOTE_SUFFIX}` are reserved for quotations");
            checker.add(table.name.span(), message);
        }
        match kind_of(checker, table) {
            Ok(kind) => {
                if let Err(error) = kind.check_bounds() {
                    checker.add(table.name.span(), format!("field `{name}`: {error}"));
                }
                if table.evidence && matches!(kind, FieldKind::List { .. }) {
                    checker.add(table.name.span(), format!("field `{name}`: a list cannot have `evidence`"));
                }
                fields.push(AnswerField {
                    name: name.clone(),
                    description: table.description.clone(),
                    kind,
                    optional: table.optional,
                    evidence: table.evidence,
                });
            }
            Err(error) => checker.add(table.kind.span(), format!("field `{name}`: {error}")),
        }
    }
    fields
}

fn kind_of(checker: &mut Checker, table: &FieldTable) -> Result<FieldKind, FieldTypeError> {
    let bounds = (table.minimum.as_ref(), table.maximum.as_ref());
    let (kind, allowed): (_, &[&str]) = match table.kind.get_ref().as_str() {
        "integer" => {
            let whole = |bound: Option<&toml::Value>| bound.and_then(toml::Value::as_integer);
            let (Some(minimum), Some(maximum)) = (whole(bounds.0), whole(bounds.1)) else {
                return Err(FieldTypeError::IntegerBounds);
            };
            (FieldKind::Integer { minimum, maximum }, &["minimum", "maximum"])
        }
        "number" => {
            #[expect(clippy::cast_precision_loss, reason = "bounds that people write are far below 2^53")]
            let number = |bound: Option<&toml::Value>| {
                bound.and_then(|value| value.as_float().or_else(|| value.as_integer().map(|whole| whole as f64)))
            };
            let (Some(minimum), Some(maximum)) = (number(bounds.0), number(bounds.1)) else {
                return Err(FieldTypeError::NumberBounds);
            };
            (FieldKind::Number { minimum, maximum }, &["minimum", "maximum"])
        }
        "text" => {
            let max_length = table.max_length.ok_or(FieldTypeError::TextLength)?;
            (FieldKind::Text { max_length }, &["max_length"])
        }
        "date" => (FieldKind::Date, &[]),
        "boolean" => (FieldKind::Boolean, &[]),
        "choice" => {
            let options = table.options.clone().ok_or(FieldTypeError::ChoiceOptions)?;
            (FieldKind::Choice { options }, &["options"])
        }
        "list" => {
            let (items, max_items) = table.items.as_ref().zip(table.max_items).ok_or(FieldTypeError::ListItems)?;
            if let Some(inner) = items.iter().find(|item| item.kind.get_ref() == "list") {
                checker.add(inner.kind.span(), "a list cannot contain lists");
            }
            (FieldKind::List { items: read(checker, items), max_items }, &["items", "max_items"])
        }
        other => return Err(FieldTypeError::Unknown(other.to_owned())),
    };
    let keys = [
        ("minimum", table.minimum.is_some()),
        ("maximum", table.maximum.is_some()),
        ("max_length", table.max_length.is_some()),
        ("options", table.options.is_some()),
        ("max_items", table.max_items.is_some()),
        ("items", table.items.is_some()),
    ];
    match keys.iter().find(|(key, is_given)| *is_given && !allowed.contains(key)) {
        Some((key, _)) => Err(FieldTypeError::SurplusKey { key, field_type: table.kind.get_ref().clone() }),
        None => Ok(kind),
    }
}
