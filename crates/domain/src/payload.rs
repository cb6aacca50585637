//! What HubSpot sent of an event, as text.

use std::collections::HashMap;

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{
    Value,
    value::{RawValue, to_raw_value},
};

/// The element of a webhook's array. Kept as text: thousands of events wait for the model at once, a tree of values takes several times the
/// memory, and few of its fields are read.
///
/// It is always the text of a [`Value`], also when it is read from a message: Postgres refuses numbers that are JSON, such as `1e-20000`, and
/// this program others that Postgres takes.
#[derive(Debug, Clone, Serialize)]
#[serde(transparent)]
pub struct Payload(Box<RawValue>);

impl Payload {
    /// It in JSON.
    pub fn json(&self) -> &str {
        self.0.get()
    }

    /// The value of a field; of one that is there twice, the last, as everywhere else where the text is read.
    pub fn get(&self, field: &str) -> Option<Value> {
        // Only the value of this field is made.
        let fields: HashMap<String, &RawValue> = serde_json::from_str(self.json()).ok()?;
        serde_json::from_str(fields.get(field)?.get()).ok()
    }
}

impl From<Value> for Payload {
    fn from(value: Value) -> Self {
        // Every value can be written as JSON.
        Self(to_raw_value(&value).unwrap_or_else(|_| RawValue::NULL.to_owned()))
    }
}

impl<'de> Deserialize<'de> for Payload {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Value::deserialize(deserializer).map(Self::from)
    }
}

/// By text: in another order, the same fields are another payload.
impl PartialEq for Payload {
    fn eq(&self, other: &Self) -> bool {
        self.json() == other.json()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::Payload;

    fn payload(text: &str) -> Payload {
        serde_json::from_str(text).expect("a payload")
    }

    #[test]
    fn a_field_is_found_wherever_it_stands_and_however_its_name_is_written() {
        let payload =
            payload(r#"{"a": {"value": 1}, "v\u0061lue": [2, {"value": 3}], "b": "\"value\"", "\"n\"": null}"#);
        assert_eq!(payload.get("value"), Some(json!([2, {"value": 3}])));
        assert_eq!((payload.get("\"n\""), payload.get("n"), payload.get("c")), (Some(Value::Null), None, None));
    }

    #[test]
    fn of_a_field_that_is_there_twice_the_last_counts() {
        assert_eq!(payload(r#"{"value": 1, "value": 2}"#).get("value"), Some(json!(2)));
    }

    #[test]
    fn what_is_no_object_has_no_fields() {
        for text in ["null", "[1]", "\"value\"", "1"] {
            assert_eq!(payload(text).get("value"), None, "{text}");
        }
    }

    #[test]
    fn it_is_the_same_after_a_message() {
        let sent = Payload::from(json!({"objectId": 7, "propertyValue": "ü\n\"", "ratio": 1.5, "none": null}));
        let message = serde_json::to_vec(&json!({"payload": sent})).expect("JSON");
        let mut received: std::collections::HashMap<String, Payload> =
            serde_json::from_slice(&message).expect("payloads");
        assert_eq!(received.remove("payload"), Some(sent));
    }

    #[test]
    fn what_is_read_is_written_as_a_value_whatever_the_message_has() {
        let read = payload(r#"{ "tiny": 1e-20000, "zero": 0e99999999999, "five": 5e0 }"#);
        assert_eq!(read.json(), r#"{"tiny":0.0,"zero":0.0,"five":5.0}"#);
        let deep = format!("{{\"a\": {}1{}}}", "[".repeat(200), "]".repeat(200));
        for refused in [r#"{"a": 1e400}"#, r#"{"a": "\ud83d"}"#, &deep] {
            assert!(serde_json::from_str::<Payload>(refused).is_err(), "{refused}: nothing could read it again");
        }
    }
}
