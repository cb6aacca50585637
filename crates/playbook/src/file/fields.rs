//! The fields of an answer, as a playbook file has them.

use std::collections::HashSet;

use super::{checker::Checker, tables::FieldTable};
use crate::{Field, FieldKind};

pub(super) fn read(checker: &mut Checker, tables: &[FieldTable]) -> Vec<Field> {
    if tables.is_empty() {
        checker.add_line(1, "no fields: the model would have nothing to answer");
    }
    let mut names = HashSet::new();
    let mut fields = Vec::new();
    for table in tables {
        checker.property_name(&table.name);
        let name = table.name.get_ref();
        if !names.insert(name) {
            checker.add(table.name.span(), format!("field `{name}` is there twice"));
        }
        if names.contains(name) && name.ends_with("_quote") {
            checker.add(table.name.span(), format!("field `{name}`: names in `_quote` belong to evidence"));
        }
        match kind_of(checker, table) {
            Ok(kind) => {
                if let Some(flaw) = kind.flaw() {
                    checker.add(table.name.span(), format!("field `{name}`: {flaw}"));
                }
                if table.evidence && matches!(kind, FieldKind::List { .. }) {
                    checker.add(table.name.span(), format!("field `{name}`: `evidence` goes with single values"));
                }
                fields.push(Field {
                    name: name.clone(),
                    description: table.description.clone(),
                    kind,
                    optional: table.optional,
                    evidence: table.evidence,
                });
            }
            Err(message) => checker.add(table.kind.span(), format!("field `{name}`: {message}")),
        }
    }
    fields
}

fn kind_of(checker: &mut Checker, table: &FieldTable) -> Result<FieldKind, String> {
    let bounds = (table.minimum.as_ref(), table.maximum.as_ref());
    let (kind, uses): (_, &[&str]) = match table.kind.get_ref().as_str() {
        "integer" => {
            let whole = |bound: Option<&toml::Value>| bound.and_then(toml::Value::as_integer);
            let (Some(minimum), Some(maximum)) = (whole(bounds.0), whole(bounds.1)) else {
                return Err("an integer needs whole numbers `minimum` and `maximum`".to_owned());
            };
            (FieldKind::Integer { minimum, maximum }, &["minimum", "maximum"])
        }
        "number" => {
            #[expect(clippy::cast_precision_loss, reason = "bounds people write are far below 2^53")]
            let number = |bound: Option<&toml::Value>| {
                bound.and_then(|value| value.as_float().or_else(|| value.as_integer().map(|whole| whole as f64)))
            };
            let (Some(minimum), Some(maximum)) = (number(bounds.0), number(bounds.1)) else {
                return Err("a number needs `minimum` and `maximum`".to_owned());
            };
            (FieldKind::Number { minimum, maximum }, &["minimum", "maximum"])
        }
        "text" => match table.max_length {
            Some(max_length) => (FieldKind::Text { max_length }, &["max_length"]),
            None => return Err("a text needs `max_length`, in characters".to_owned()),
        },
        "date" => (FieldKind::Date, &[]),
        "boolean" => (FieldKind::Boolean, &[]),
        "choice" => match &table.options {
            Some(options) => (FieldKind::Choice { options: options.clone() }, &["options"]),
            None => return Err("a choice needs `options`".to_owned()),
        },
        "list" => match (&table.items, table.max_items) {
            (Some(items), Some(max_items)) => {
                if let Some(inner) = items.iter().find(|item| item.kind.get_ref() == "list") {
                    checker.add(inner.kind.span(), "a list of lists has no place in a CRM");
                }
                (FieldKind::List { items: read(checker, items), max_items }, &["items", "max_items"])
            }
            _ => return Err("a list needs `max_items` and `[[fields.items]]`".to_owned()),
        },
        other => return Err(format!("type `{other}` is none of integer, number, text, date, boolean, choice, list")),
    };
    let given = [
        ("minimum", table.minimum.is_some()),
        ("maximum", table.maximum.is_some()),
        ("max_length", table.max_length.is_some()),
        ("options", table.options.is_some()),
        ("max_items", table.max_items.is_some()),
        ("items", table.items.is_some()),
    ];
    match given.iter().find(|(name, is_given)| *is_given && !uses.contains(name)) {
        Some((name, _)) => Err(format!("`{name}` means nothing for type `{}`", table.kind.get_ref())),
        None => Ok(kind),
    }
}
