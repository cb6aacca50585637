//! The fields of an element, each read with what is wrong with it.

use retry::Reason;
use serde_json::{Map, Value};

/// What is wrong with an element.
pub(super) struct Flaw {
    /// The field at fault; empty for the element itself.
    pub(super) place: &'static str,
    pub(super) message: String,
    pub(super) reason: Reason,
}

/// A field that is not as documented.
pub(super) fn flaw(place: &'static str, message: impl Into<String>) -> Flaw {
    Flaw { place, message: message.into(), reason: Reason::EventInvalid }
}

/// A 64-bit integer that has to be there.
pub(super) fn required(fields: &Map<String, Value>, name: &'static str) -> Result<i64, Flaw> {
    integer(fields, name)?.ok_or_else(|| flaw(name, "is missing"))
}

/// A 64-bit integer, also one in the form of a string of digits.
pub(super) fn integer(fields: &Map<String, Value>, name: &'static str) -> Result<Option<i64>, Flaw> {
    let not_an_integer = || flaw(name, "is not a 64-bit integer");
    match fields.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Number(number)) => number.as_i64().map(Some).ok_or_else(not_an_integer),
        Some(Value::String(digits)) => digits.parse().map(Some).map_err(|_| not_an_integer()),
        Some(_) => Err(not_an_integer()),
    }
}

/// The longest name or id that is accepted, in bytes. HubSpot's longest property names have 100 characters.
const MAX_TEXT: usize = 256;

/// A short text.
pub(super) fn text(fields: &Map<String, Value>, name: &'static str) -> Result<Option<String>, Flaw> {
    match fields.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) if text.len() <= MAX_TEXT => Ok(Some(text.clone())),
        Some(Value::String(text)) => {
            Err(flaw(name, format!("has {} bytes; at most {MAX_TEXT} are accepted", text.len())))
        }
        Some(_) => Err(flaw(name, "is not a string")),
    }
}
