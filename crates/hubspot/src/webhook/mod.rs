//! Webhook bodies: an array of 1–100 events. Each event is parsed and checked on its own.

mod body;
mod fields;
mod subject;

pub use body::{BodyBounds, CUT, WebhookBody};
pub use subject::merged_ids;

use domain::{Event, EventKey, PortalId, event::EventKind};
use retry::Reason;
use serde_json::{Value, value::RawValue};
use time::OffsetDateTime;

use fields::{Flaw, flaw, integer, required, text};
use subject::kind_and_subject;

/// The most events of one request (HubSpot's documentation of webhooks).
pub const MAX_EVENTS: usize = 100;

/// The longest element that is accepted, in bytes, after its long strings were cut. HubSpot's have a few hundred beside the
/// property's value.
const MAX_ELEMENT_BYTES: usize = 65_536;

/// Why a whole body is refused.
#[derive(Debug, thiserror::Error)]
pub enum WebhookBodyError {
    /// Not JSON, or not an array.
    #[error("the body is not a JSON array of events: {0}")]
    NotAnArray(serde_json::Error),
    /// Not 1–100 elements.
    #[error("the body holds {0} events; HubSpot sends 1 to {MAX_EVENTS}")]
    WrongCount(usize),
    /// More bytes arrived than allowed; how many are.
    #[error("the body is longer than {0} bytes")]
    TooLong(usize),
    /// More bytes would be kept than allowed; how many are.
    #[error("the body has more than {0} bytes beside its long texts")]
    TooMuchKept(usize),
}

/// Why one element of the array is not a valid event.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("events[{index}]{place}: {message}")]
pub struct EventError {
    /// Its place in the array, from 0.
    pub index: usize,
    /// The field at fault, with a leading dot; empty for the element itself.
    pub place: String,
    /// What is wrong; does not quote values, which may be personal data.
    pub message: String,
    /// `unknown_event_type` or `event_invalid`.
    pub reason: Reason,
}

/// One element of the array: its text and the event it describes.
#[derive(Debug)]
pub struct WebhookElement {
    /// The text that HubSpot sent, with its long strings cut.
    pub raw: String,
    /// The event, or why the text is not a valid one.
    pub event: Result<Event, EventError>,
}

/// Splits a webhook's body into its events, within the default bounds: a long string is cut, and what no text can hold is
/// replaced. See [`WebhookBody`] for a body that has yet to arrive.
///
/// # Errors
/// Only when the body is too long, or not an array of 1–100 elements. An invalid element is part of the result, so that the
/// valid ones beside it are still processed.
pub fn parse(body: &[u8]) -> Result<Vec<WebhookElement>, WebhookBodyError> {
    let mut whole = WebhookBody::new(BodyBounds::default());
    whole.push(body)?;
    whole.elements()
}

/// Splits an array whose strings are cut.
fn elements(body: &[u8]) -> Result<Vec<WebhookElement>, WebhookBodyError> {
    let elements: Vec<&RawValue> = serde_json::from_slice(body).map_err(WebhookBodyError::NotAnArray)?;
    if elements.is_empty() || elements.len() > MAX_EVENTS {
        return Err(WebhookBodyError::WrongCount(elements.len()));
    }
    Ok(elements.into_iter().enumerate().map(|(index, raw)| element(index, raw.get())).collect())
}

fn element(index: usize, raw: &str) -> WebhookElement {
    let event = within_bounds(raw)
        .and_then(|raw| serde_json::from_str(raw).map_err(|error| flaw("", error.to_string())))
        .and_then(event_from)
        .map_err(|flaw| EventError {
            index,
            place: if flaw.place.is_empty() { String::new() } else { format!(".{}", flaw.place) },
            message: flaw.message,
            reason: flaw.reason,
        });
    WebhookElement { raw: raw[..raw.floor_char_boundary(MAX_ELEMENT_BYTES)].to_owned(), event }
}

fn within_bounds(raw: &str) -> Result<&str, Flaw> {
    let length = raw.len();
    if length > MAX_ELEMENT_BYTES {
        return Err(flaw(
            "",
            format!("has {length} bytes beside its long texts; at most {MAX_ELEMENT_BYTES} are read"),
        ));
    }
    Ok(raw)
}

fn event_from(payload: Value) -> Result<Event, Flaw> {
    let Value::Object(fields) = &payload else {
        return Err(flaw("", "is not a JSON object"));
    };
    let portal_id = PortalId(required(fields, "portalId")?);
    let (kind, subject) = kind_and_subject(fields)?;
    let property_name = text(fields, "propertyName")?;
    if kind == EventKind::PropertyChange && property_name.is_none() {
        return Err(flaw("propertyName", "is missing, and a propertyChange needs it"));
    }
    let occurred_at_ms = required(fields, "occurredAt")?;
    let occurred_at = OffsetDateTime::from_unix_timestamp_nanos(i128::from(occurred_at_ms) * 1_000_000)
        .ok()
        .filter(|_| occurred_at_ms >= 0)
        .ok_or_else(|| flaw("occurredAt", format!("{occurred_at_ms} ms is not a time within the years 1970–9999")))?;
    // Documented as an integer, but a string in some examples. Only its text counts: it is a part of the key.
    let event_id = match text(fields, "eventId") {
        Ok(Some(id)) => id,
        _ => required(fields, "eventId")?.to_string(),
    };
    let key = EventKey::new(portal_id, kind, &subject, property_name.as_deref(), occurred_at_ms, &event_id);
    Ok(Event {
        key,
        portal_id,
        kind,
        subject,
        property_name,
        occurred_at,
        change_source: text(fields, "changeSource")?,
        source_id: match text(fields, "sourceId") {
            Ok(id) => id,
            Err(_) => integer(fields, "sourceId")?.map(|id| id.to_string()),
        },
        payload: payload.into(),
    })
}

#[cfg(test)]
mod tests {
    use domain::{AppId, ObjectId};
    use retry::Reason;
    use serde_json::{Value, json};

    use super::{BodyBounds, CUT, EventError, WebhookBodyError, merged_ids, parse};
    use domain::Event;

    fn one(payload: &Value) -> Result<Event, EventError> {
        let body = json!([payload]).to_string();
        parse(body.as_bytes()).expect("an array").pop().expect("one element").event
    }

    /// The example of the guide: the `eventId` is a string, and there is no object type id.
    fn guide() -> Value {
        json!({"eventId": "100239485", "subscriptionId": 12345, "portalId": 9_876_543, "occurredAt": 1_672_531_200_000_i64,
            "subscriptionType": "contact.propertyChange", "propertyName": "notes_last_updated", "objectId": 54321,
            "propertyValue": "2023-10-27T10:00:00Z"})
    }

    fn with(name: &str, value: Value) -> Value {
        let mut payload = guide();
        payload[name] = value;
        payload
    }

    #[test]
    fn the_event_key_of_the_guides_payload_is_readable() {
        let event = one(&guide()).expect("understood");
        let key = "9876543:contact.propertyChange:0-1:54321:notes_last_updated:1672531200000:100239485";
        assert_eq!(event.key.as_str(), key);
        assert_eq!(event.subscription_type(), "contact.propertyChange");
    }

    #[test]
    fn a_redelivery_has_the_same_key_whatever_its_attempt_number_and_form() {
        let key = one(&guide()).expect("understood").key;
        for (name, value) in [
            ("attemptNumber", json!(3)),
            ("eventId", json!(100_239_485)),
            ("objectTypeId", json!("0-1")),
            ("objectId", json!("54321")),
            ("somethingNew", json!({"a": [1]})),
        ] {
            assert_eq!(one(&with(name, value)).expect("understood").key, key, "{name}");
        }
        for (name, value) in
            [("eventId", json!(1)), ("occurredAt", json!(1)), ("objectId", json!(1)), ("propertyName", json!("x"))]
        {
            assert_ne!(one(&with(name, value)).expect("understood").key, key, "{name}");
        }
    }

    #[test]
    fn generic_and_association_events_are_understood() {
        let note = one(&with("subscriptionType", json!("object.propertyChange"))).expect_err("which object?");
        assert_eq!(note.to_string(), "events[0].objectTypeId: is missing, and `object.*` needs it");
        let mut payload = with("subscriptionType", json!("object.creation"));
        payload["objectTypeId"] = json!("0-46");
        assert_eq!(one(&payload).expect("understood").subscription_type(), "note.creation");
        let association = json!({"eventId": 1, "portalId": 2, "occurredAt": 3, "subscriptionType": "contact.associationChange",
            "associationType": "CONTACT_TO_COMPANY", "fromObjectId": 4, "toObjectId": 5, "associationRemoved": true});
        let event = one(&association).expect("understood");
        assert_eq!(event.key.as_str(), "2:contact.associationChange:0-1:4>5/CONTACT_TO_COMPANY-:-:3:1");
        assert_eq!(event.record().to_string(), "contact/4");
        assert!(event.subject.is_removed_association());
        let generic = json!({"eventId": 1, "portalId": 2, "occurredAt": 3, "subscriptionType": "object.associationChange",
            "fromObjectTypeId": "0-46", "toObjectTypeId": "0-1", "associationTypeId": 202,
            "associationCategory": "HUBSPOT_DEFINED", "fromObjectId": 4, "toObjectId": 5, "associationRemoved": false});
        let event = one(&generic).expect("understood");
        assert_eq!(event.key.as_str(), "2:note.associationChange:0-46:4>5/0-1.202+:-:3:1");
        assert_eq!(event.record().to_string(), "note/4");
        assert!(!event.subject.is_removed_association());
    }

    /// The ids of records of different types may be the same.
    #[test]
    fn an_association_event_is_about_the_record_at_its_beginning_whatever_else_it_names() {
        let change = |subscription: &str, more: &Value| {
            let mut payload = json!({"eventId": 1, "portalId": 2, "occurredAt": 3, "subscriptionType": subscription,
                "fromObjectId": 4, "toObjectId": 5, "associationRemoved": false});
            payload.as_object_mut().expect("object").extend(more.as_object().expect("object").clone());
            let event = one(&payload).expect("understood");
            let named = event.named_records();
            let record = event.record();
            assert_eq!(named[0].object_type.as_ref(), Some(&record.object_type), "as an erasure finds it");
            record.to_string()
        };
        let generic = "object.associationChange";
        let types = json!({"fromObjectTypeId": "0-46", "toObjectTypeId": "0-1", "objectTypeId": "0-1"});
        assert_eq!(change(generic, &types), "note/4");
        assert_eq!(change(generic, &json!({"objectTypeId": "0-46", "toObjectTypeId": "0-1"})), "note/4");
        assert_eq!(change("contact.associationChange", &json!({"fromObjectTypeId": "0-3"})), "deal/4");
        let pair = json!({"associationType": "DEAL_TO_CONTACT", "objectTypeId": "0-1"});
        assert_eq!(change("contact.associationChange", &pair), "deal/4");
    }

    #[test]
    fn a_merge_is_about_the_record_that_survives_in_every_delivery() {
        let merge = |more: Value| {
            let mut payload = json!({"eventId": 1, "portalId": 2, "occurredAt": 3, "subscriptionType": "contact.merge",
                "objectId": 4, "attemptNumber": 0});
            payload.as_object_mut().expect("object").extend(more.as_object().expect("object").clone());
            one(&payload)
        };
        let new =
            json!({"primaryObjectId": 4, "mergedObjectIds": [5, "6"], "newObjectId": 7, "numberOfPropertiesMoved": 3});
        let event = merge(new.clone()).expect("understood");
        assert_eq!(event.key.as_str(), "2:contact.merge:0-1:7:-:3:1");
        assert_eq!(merged_ids(&event), [4, 5, 6].map(ObjectId));
        let mut again = new;
        again["attemptNumber"] = json!(3);
        again["newObjectId"] = json!("7");
        assert_eq!(merge(again).expect("understood").key, event.key);

        let event =
            merge(json!({"primaryObjectId": 5, "mergedObjectIds": [4], "newObjectId": null})).expect("understood");
        assert_eq!(event.record().object_id, ObjectId(5), "the primary one goes on");
        assert_eq!(merged_ids(&event), [ObjectId(4)]);
        let event = merge(json!({"mergedObjectIds": "?"})).expect("understood");
        assert_eq!(event.record().object_id, ObjectId(4));
        assert!(merged_ids(&event).is_empty());
        let rejection = merge(json!({"newObjectId": "seven"})).expect_err("no id").to_string();
        assert_eq!(rejection, "events[0].newObjectId: is not a 64-bit integer");
        assert!(merged_ids(&one(&guide()).expect("understood")).is_empty());
    }

    #[test]
    fn an_invalid_element_is_described_and_does_not_affect_the_others() {
        let body = json!([guide(), with("subscriptionType", json!("contact.teleported")), guide()]).to_string();
        let elements = parse(body.as_bytes()).expect("an array");
        assert!(elements[0].event.is_ok() && elements[2].event.is_ok());
        let rejection = elements[1].event.as_ref().expect_err("unknown");
        assert_eq!(rejection.reason, Reason::UnknownEventType);
        assert!(rejection.to_string().starts_with("events[1].subscriptionType: `contact.teleported`"), "{rejection}");

        for (name, value, expected) in [
            ("objectId", json!(9_223_372_036_854_775_808_u64), ".objectId: is not a 64-bit integer"),
            ("objectId", json!(1.5), ".objectId: is not a 64-bit integer"),
            ("objectId", Value::Null, ".objectId: is missing"),
            ("portalId", json!([1]), ".portalId: is not a 64-bit integer"),
            ("occurredAt", json!(i64::MAX), ".occurredAt: 9223372036854775807 ms is not a time"),
            // Before the first day that Postgres knows.
            ("occurredAt", json!(-250_000_000_000_000_i64), ".occurredAt: -250000000000000 ms is not a time"),
            ("propertyName", Value::Null, ".propertyName: is missing"),
            ("propertyName", json!({}), ".propertyName: is not a string"),
            ("propertyValue", json!(vec![1_234_567; 10_000]), ": has 80"),
        ] {
            let rejection = one(&with(name, value)).expect_err(expected).to_string();
            assert!(rejection.contains(expected), "{expected} in {rejection}");
        }
        assert!(one(&json!("text")).expect_err("not an object").to_string().contains("not a JSON object"));
    }

    #[test]
    fn a_value_that_is_too_long_or_cannot_be_stored_does_not_cost_the_event() {
        let key = one(&guide()).expect("understood").key;
        let value = |value: &str| {
            let event = one(&with("propertyValue", json!(value))).expect("understood");
            assert_eq!(event.key, key);
            event.payload.get("propertyValue").expect("a value").as_str().expect("text").to_owned()
        };
        assert_eq!(value("a\0b"), "a\u{fffd}b");
        assert_eq!(value(&"x".repeat(66_000)), format!("{}{CUT}", "x".repeat(BodyBounds::default().max_string_bytes)));
        let again = value(&value(&"x".repeat(66_000)));
        assert!(again.starts_with("xxx") && again.ends_with(CUT), "read once more, from the ledger");
    }

    #[test]
    fn only_an_array_of_1_to_100_elements_is_accepted() {
        let count = |n: usize| Value::Array(vec![guide(); n]).to_string();
        assert!(matches!(parse(b"{}"), Err(WebhookBodyError::NotAnArray(_))));
        assert!(matches!(parse(b"[{\"a\":\"\xff\"}]"), Err(WebhookBodyError::NotAnArray(_))));
        assert!(matches!(parse(b"[1,"), Err(WebhookBodyError::NotAnArray(_))));
        assert!(matches!(parse(b"[]"), Err(WebhookBodyError::WrongCount(0))));
        assert!(matches!(parse(count(101).as_bytes()), Err(WebhookBodyError::WrongCount(101))));
        assert_eq!(parse(count(100).as_bytes()).expect("a batch").len(), 100);
    }

    #[test]
    fn a_deeply_nested_element_is_rejected_and_crashes_nothing() {
        let body = format!("[{}{}]", "[".repeat(10_000), "]".repeat(10_000));
        match parse(body.as_bytes()) {
            Ok(elements) => assert!(elements[0].event.is_err()),
            Err(error) => assert!(matches!(error, WebhookBodyError::NotAnArray(_))),
        }
    }

    #[test]
    fn an_echo_is_a_change_by_our_own_app_and_by_no_other() {
        let echo = |source: Value, id: Value| {
            let mut payload = with("changeSource", source);
            payload["sourceId"] = id;
            one(&payload).expect("understood").is_echo_of(AppId(777))
        };
        assert!(echo(json!("INTEGRATION"), json!("777")));
        assert!(echo(json!("INTEGRATION"), json!(777)));
        assert!(!echo(json!("INTEGRATION"), json!("778")), "other integrations are real input");
        assert!(!echo(json!("CRM_UI"), json!("777")));
        assert!(
            !one(&with("appId", json!(777))).expect("understood").is_echo_of(AppId(777)),
            "appId is the subscriber's"
        );
    }
}
