//! What placeholders stand for is put back into an answer.

use serde_json::{Map, Value};

use super::Masks;
use crate::fields::{AnswerField, FieldKind};

impl Masks {
    /// Puts back what the placeholders in all texts of an answer stand for. A text that fits its bound as the model wrote it, and
    /// not with what is put back, is cut: the model could not know.
    pub(crate) fn put_back_in(&self, fields: &[AnswerField], answer: &mut Value) {
        match answer {
            _ if self.is_empty() => {}
            Value::Object(answer) => self.put_back_in_fields(fields, answer),
            other => self.put_back_in_any(other),
        }
    }

    fn put_back_in_fields(&self, fields: &[AnswerField], answer: &mut Map<String, Value>) {
        for (name, value) in answer {
            let kind = fields.iter().find(|field| field.name == *name).map(|field| &field.kind);
            match (value, kind) {
                (Value::String(text), Some(FieldKind::Text { max_length })) => {
                    *text = within(text, self.put_back(text), *max_length);
                }
                (Value::Array(items), Some(FieldKind::List { items: fields, .. })) => {
                    items.iter_mut().for_each(|item| self.put_back_in(fields, item));
                }
                (value, _) => self.put_back_in_any(value),
            }
        }
    }

    fn put_back_in_any(&self, value: &mut Value) {
        match value {
            Value::String(text) => *text = self.put_back(text),
            Value::Array(items) => items.iter_mut().for_each(|item| self.put_back_in_any(item)),
            Value::Object(fields) => fields.values_mut().for_each(|value| self.put_back_in_any(value)),
            _ => {}
        }
    }
}

/// The `whole` text, cut at a space where there is one nearby, if it has become longer than `max_length` characters.
fn within(masked: &str, whole: String, max_length: usize) -> String {
    let is_longer = |text: &str| text.chars().nth(max_length).is_some();
    if is_longer(masked) || !is_longer(&whole) {
        return whole;
    }
    let kept: String = whole.chars().take(max_length.saturating_sub(1)).collect();
    let at_space = kept.rfind(char::is_whitespace).filter(|space| *space > kept.len() / 2).unwrap_or(kept.len());
    format!("{}…", &kept[..at_space])
}
