//! Which records an element of a webhook names: by this, what is about an erased person is found wherever it waits.

use crate::{
    event::{Event, RecordRef, Subject},
    ids::{ObjectId, ObjectType},
};

/// A record that an element of a webhook names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedRecord {
    /// Its type; `None` where the element does not tell it.
    pub object_type: Option<ObjectType>,
    /// Its id.
    pub object_id: ObjectId,
}

/// A field with a record's id, and the field with the type of that record.
const ID_FIELDS: [(&str, &str); 6] = [
    ("objectId", "objectTypeId"),
    ("primaryObjectId", "objectTypeId"),
    ("newObjectId", "objectTypeId"),
    ("mergedObjectIds", "objectTypeId"),
    ("fromObjectId", "fromObjectTypeId"),
    ("toObjectId", "toObjectTypeId"),
];

impl NamedRecord {
    /// Whether it is `record`, as far as can be told: a record of unknown type is any with the same id.
    pub fn may_be(&self, record: &RecordRef) -> bool {
        self.object_id == record.object_id
            && self.object_type.as_ref().is_none_or(|object_type| *object_type == record.object_type)
    }
}

impl Event {
    /// The records that the event is about: one, or both ends of an association.
    pub fn named_records(&self) -> Vec<NamedRecord> {
        match &self.subject {
            Subject::Record { object_type, object_id } => {
                vec![NamedRecord { object_type: Some(object_type.clone()), object_id: *object_id }]
            }
            Subject::Association { object_type, from, to, association, .. } => {
                let type_in = |field: &str| Some(ObjectType::from(self.payload.get(field)?.as_str()?));
                let (from_type, to_type) = association_types(association);
                vec![
                    NamedRecord {
                        object_type: type_in("fromObjectTypeId").or(from_type).or_else(|| Some(object_type.clone())),
                        object_id: *from,
                    },
                    NamedRecord { object_type: type_in("toObjectTypeId").or(to_type), object_id: *to },
                ]
            }
        }
    }
}

/// The records that the text of an element names which is no valid event. It may be cut, so it is not read as JSON.
pub fn named_in_text(element: &str) -> Vec<NamedRecord> {
    let (from_type, to_type) = association_types(field(element, "associationType").unwrap_or_default());
    let subscription = field(element, "subscriptionType").or_else(|| field(element, "eventType")).unwrap_or_default();
    let subscribed = subscription.split_once('.').and_then(|(object, _)| known(object));
    let type_of = |type_field: &str| {
        let given = field(element, type_field).map(ObjectType::from);
        given.or_else(|| match type_field {
            "fromObjectTypeId" => from_type.clone().or_else(|| subscribed.clone()),
            "toObjectTypeId" => to_type.clone(),
            _ => subscribed.clone(),
        })
    };
    let mut named = Vec::new();
    for (id_field, type_field) in ID_FIELDS {
        let ids = field(element, id_field).unwrap_or_default().split(',');
        named.extend(ids.filter_map(|id| {
            let object_id = ObjectId(id.trim().trim_matches('"').parse().ok()?);
            Some(NamedRecord { object_type: type_of(type_field), object_id })
        }));
    }
    named
}

/// The types in an association's name, like `CONTACT_TO_DEAL`. HubSpot's guide to webhooks has these names.
fn association_types(name: &str) -> (Option<ObjectType>, Option<ObjectType>) {
    let Some((from, to)) = name.trim_end_matches(['+', '-']).split_once("_TO_") else { return (None, None) };
    (known(&from.to_lowercase()), known(&to.to_lowercase()))
}

fn known(name: &str) -> Option<ObjectType> {
    Some(ObjectType::from(name)).filter(|object_type| !matches!(object_type, ObjectType::Other(_)))
}

/// What stands behind the name of a field: the inside of a text or a list, or a number.
fn field<'a>(element: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = element.split_once(&format!("\"{name}\""))?;
    let value = rest.trim_start().strip_prefix(':')?.trim_start();
    let inside = |open: char, close: char| value.strip_prefix(open)?.split(close).next();
    inside('"', '"').or_else(|| inside('[', ']')).or_else(|| value.split([',', '}']).next().map(str::trim_end))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::PortalId;

    fn contact(id: i64) -> RecordRef {
        RecordRef { portal_id: PortalId(1), object_type: ObjectType::Contact, object_id: ObjectId(id) }
    }

    fn names(element: &str, id: i64) -> bool {
        named_in_text(element).iter().any(|named| named.may_be(&contact(id)))
    }

    #[test]
    fn a_record_is_found_in_whatever_field_it_stands() {
        for element in [
            r#"{"objectId":54321,"subscriptionType":"contact.teleported"}"#,
            r#"{"objectId": "54321", "subscriptionType": "contact.propertyChange", "occurredAt": -1}"#,
            r#"{"primaryObjectId":7,"mergedObjectIds":[5, 54321],"subscriptionType":"contact.merge"}"#,
            r#"{"subscriptionType":"contact.associationChange","associationType":"DEAL_TO_CONTACT","toObjectId":54321}"#,
            r#"{"subscriptionType":"object.associationChange","toObjectTypeId":"0-1","toObjectId":54321}"#,
            // No object type, and cut.
            r#"{"objectId":54321,"subscriptionType":"object.creation","propertyValue":"what was c"#,
        ] {
            assert!(names(element, 54321), "{element}");
        }
    }

    #[test]
    fn another_record_is_not_taken_for_it() {
        for element in [
            r#"{"objectId":543210,"subscriptionType":"contact.teleported"}"#,
            r#"{"objectId":54321,"subscriptionType":"deal.teleported"}"#,
            r#"{"objectId":54321,"objectTypeId":"0-3","subscriptionType":"object.creation"}"#,
            r#"{"objectId":7,"eventId":54321,"subscriptionType":"contact.teleported"}"#,
            r#"{"objectId":7,"propertyValue":"{\"objectId\":54321}","subscriptionType":"contact.teleported"}"#,
            r#"{"subscriptionType":"contact.associationChange","associationType":"CONTACT_TO_DEAL","toObjectId":54321}"#,
            "54321",
            "",
        ] {
            assert!(!names(element, 54321), "{element}");
        }
    }
}
