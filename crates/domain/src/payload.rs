//! What HubSpot sent of an event, as text.

use std::fmt;

use serde::{
    Deserialize, Serialize,
    de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor},
};
use serde_json::{Value, value::RawValue};

/// The element of a webhook's array. Kept as text: thousands of events wait for the model at once, and as a tree of values it takes six times
/// the memory; few of its fields are read, and seldom.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Payload(Box<RawValue>);

impl Payload {
    /// The text.
    pub fn as_str(&self) -> &str {
        self.0.get()
    }

    /// The value of a field; of one that is there twice, the last, as everywhere else where the text is read.
    pub fn get(&self, field: &str) -> Option<Value> {
        FieldNamed(field).deserialize(&mut serde_json::Deserializer::from_str(self.as_str())).ok()?
    }
}

impl From<&RawValue> for Payload {
    fn from(text: &RawValue) -> Self {
        Self(text.to_owned())
    }
}

impl From<Value> for Payload {
    fn from(value: Value) -> Self {
        // The text of a value is JSON.
        Self(RawValue::from_string(value.to_string()).unwrap_or_else(|_| RawValue::NULL.to_owned()))
    }
}

impl PartialEq for Payload {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

/// Reads the value of the field with this name, and skips all others.
struct FieldNamed<'a>(&'a str);

impl<'de> DeserializeSeed<'de> for FieldNamed<'_> {
    type Value = Option<Value>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for FieldNamed<'_> {
    type Value = Option<Value>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Self::Value, A::Error> {
        let mut found = None;
        while let Some(is_named) = fields.next_key_seed(IsNamed(self.0))? {
            if is_named {
                found = Some(fields.next_value()?);
            } else {
                fields.next_value::<IgnoredAny>()?;
            }
        }
        Ok(found)
    }
}

/// Whether a field has this name.
struct IsNamed<'a>(&'a str);

impl<'de> DeserializeSeed<'de> for IsNamed<'_> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for IsNamed<'_> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_str<E>(self, name: &str) -> Result<bool, E> {
        Ok(name == self.0)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json, value::RawValue};

    use super::Payload;

    fn payload(text: &str) -> Payload {
        Payload::from(&*RawValue::from_string(text.to_owned()).expect("JSON"))
    }

    #[test]
    fn a_field_is_found_wherever_it_stands_and_however_its_name_is_written() {
        let payload = payload(r#"{"a": {"value": 1}, "v\u0061lue": [2, {"value": 3}], "b": "value", "n": null}"#);
        assert_eq!(payload.get("value"), Some(json!([2, {"value": 3}])));
        assert_eq!((payload.get("n"), payload.get("c")), (Some(Value::Null), None));
    }

    #[test]
    fn of_a_field_that_is_there_twice_the_last_counts_as_for_who_reads_the_whole_text() {
        let text = r#"{"value": 1, "value": 2}"#;
        let whole: Value = serde_json::from_str(text).expect("JSON");
        assert_eq!(payload(text).get("value").as_ref(), whole.get("value"));
    }

    #[test]
    fn what_is_no_object_has_no_fields() {
        for text in ["null", "[1]", "\"value\"", "1"] {
            assert_eq!(payload(text).get("value"), None, "{text}");
        }
    }

    #[test]
    fn it_is_the_same_text_after_a_message() {
        let sent = payload(r#"{"n": 12345678901234567890123, "f": 1.50, "text": "ü\n"}"#);
        let message = serde_json::to_vec(&json!({"other": 1})).expect("JSON");
        assert!(serde_json::from_slice::<Payload>(&message).is_ok());
        let text = serde_json::to_string(&sent).expect("JSON");
        assert_eq!(serde_json::from_str::<Payload>(&text).expect("a payload"), sent);
        assert_eq!(text, sent.as_str());
    }
}
