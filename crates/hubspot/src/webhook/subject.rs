//! What an event is about: a record, the record that survives a merge, or the two ends of an association.

use std::collections::BTreeSet;

use domain::{
    Event, ObjectId, ObjectType,
    event::{ADDED, EventKind, REMOVED, Subject},
};
use retry::Reason;
use serde_json::{Map, Value};

use super::fields::{Flaw, flaw, integer, required, text};

/// The kind of an event, and what it is about.
pub(super) fn kind_and_subject(fields: &Map<String, Value>) -> Result<(EventKind, Subject), Flaw> {
    // Some of HubSpot's payloads name this field `eventType`.
    let place = if fields.contains_key("subscriptionType") { "subscriptionType" } else { "eventType" };
    let name = text(fields, place)?.ok_or_else(|| flaw("subscriptionType", "is missing"))?;
    let unknown = || Flaw {
        place,
        message: format!("`{}` is not an event type that Leadline knows", name.escape_debug()),
        reason: Reason::UnknownEventType,
    };
    let (object, kind) = name.split_once('.').ok_or_else(unknown)?;
    let kind = EventKind::from_subscription(kind).ok_or_else(unknown)?;
    let from_type = if kind == EventKind::AssociationChange { from_type(fields)? } else { None };
    let object_type = match (from_type, ObjectType::from(object), text(fields, "objectTypeId")?) {
        (Some(from_type), ..) => from_type,
        // `object.*` is HubSpot's generic form: the type id names the object type.
        (None, ObjectType::Other(_), Some(type_id)) => ObjectType::from(type_id),
        (None, ObjectType::Other(name), None) if ["product", "line_item", "conversation"].contains(&name.as_str()) => {
            ObjectType::Other(name)
        }
        (None, ObjectType::Other(name), None) if name == "object" || name == "engagement" => {
            return Err(flaw("objectTypeId", format!("is missing, and `{name}.*` needs it")));
        }
        (None, ObjectType::Other(_), None) => return Err(unknown()),
        (None, known, _) => known,
    };
    let subject = if kind == EventKind::AssociationChange {
        association(fields, object_type)?
    } else if kind == EventKind::Merge {
        Subject::Record { object_type, object_id: survivor(fields)? }
    } else {
        Subject::Record { object_type, object_id: ObjectId(required(fields, "objectId")?) }
    };
    Ok((kind, subject))
}

/// The type of the record at the beginning of an association, whose id is `fromObjectId`. What `objectTypeId` names beside it is
/// unverified: it may be the other end.
fn from_type(fields: &Map<String, Value>) -> Result<Option<ObjectType>, Flaw> {
    if let Some(type_id) = text(fields, "fromObjectTypeId")? {
        return Ok(Some(ObjectType::from(type_id)));
    }
    let pair = text(fields, "associationType")?;
    let from = pair.as_deref().and_then(|pair| pair.split_once("_TO_"));
    Ok(from.and_then(|(from, _)| ObjectType::parse_supported(&from.to_lowercase()).ok()))
}

/// An event of `contact.*` names the pair (`CONTACT_TO_DEAL`), one of `object.*` the type ids of both ends (HubSpot's guide to
/// webhooks and public clients; no document shows a whole body of the second form).
fn association(fields: &Map<String, Value>, object_type: ObjectType) -> Result<Subject, Flaw> {
    let is_removed = fields.get("associationRemoved").and_then(Value::as_bool).unwrap_or(false);
    let pair = text(fields, "associationType")?;
    let by_pair = pair.as_deref().and_then(|pair| pair.split_once("_TO_"));
    let by_pair = by_pair.and_then(|(_, to)| ObjectType::parse_supported(&to.to_lowercase()).ok());
    let to_type = text(fields, "toObjectTypeId")?.map(ObjectType::from).or(by_pair);
    let type_id = integer(fields, "associationTypeId").ok().flatten().map(|id| id.to_string());
    let name = match (pair, &to_type) {
        (Some(pair), _) => pair,
        (None, Some(to)) => format!("{}.{}", to.type_id(), type_id.unwrap_or_default()),
        (None, None) => type_id.unwrap_or_else(|| "-".to_owned()),
    };
    Ok(Subject::Association {
        object_type,
        from: ObjectId(required(fields, "fromObjectId")?),
        to_type,
        to: ObjectId(required(fields, "toObjectId")?),
        association: format!("{name}{}", if is_removed { REMOVED } else { ADDED }),
    })
}

/// The record with which a merge goes on: a new one, with a new id, as a rule (HubSpot's changelog "Updated merge functionality for
/// contacts and companies"). Every delivery names the same one, so that the event's key stays the same.
fn survivor(fields: &Map<String, Value>) -> Result<ObjectId, Flaw> {
    let survivor =
        integer(fields, "newObjectId")?.map_or_else(|| integer(fields, "primaryObjectId"), |id| Ok(Some(id)))?;
    survivor.map_or_else(|| required(fields, "objectId"), Ok).map(ObjectId)
}

/// The ids under which the records of a merge were known before it, without that of the record with which it goes on. None for
/// other events.
pub fn merged_ids(event: &Event) -> Vec<ObjectId> {
    if event.kind != EventKind::Merge {
        return Vec::new();
    }
    let record = event.record();
    let merged = event.payload.get("mergedObjectIds");
    let merged = merged.as_ref().and_then(Value::as_array).into_iter().flatten();
    let named = ["primaryObjectId", "objectId"].map(|name| event.payload.get(name));
    let id = |value: &Value| value.as_i64().or_else(|| value.as_str()?.parse().ok()).map(ObjectId);
    let ids: BTreeSet<_> =
        merged.chain(named.iter().flatten()).filter_map(id).filter(|id| *id != record.object_id).collect();
    ids.into_iter().take(MAX_MERGED_IDS).collect()
}

/// The most ids of merged records that are taken from one event. HubSpot merges two records at a time.
const MAX_MERGED_IDS: usize = 100;
