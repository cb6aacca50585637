//! Which events start a playbook.

use domain::{
    ObjectType,
    event::{Event, EventKind, Subject},
};

/// One kind of event that starts a playbook.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trigger {
    /// The kind of record, or of engagement.
    pub object_type: ObjectType,
    /// What happens to it.
    pub kind: EventKind,
    /// The properties, for `propertyChange`.
    pub properties: Vec<String>,
    /// A condition on the event or the record.
    pub when: Option<super::Condition>,
}

/// Reads `contact.propertyChange` and checks that properties are given exactly where they make sense. An engagement
/// is named by its kind (`note.creation`), or as HubSpot has it by its type id (`object.creation` with
/// `object_type = "0-46"`, and `engagement.creation`, which the guide calls it, alike).
pub(super) fn parse(
    event: &str,
    object_type: Option<&str>,
    properties: &[String],
) -> Result<(ObjectType, EventKind), String> {
    let (object, kind) = event
        .split_once('.')
        .ok_or_else(|| format!("`{event}` is not OBJECT.KIND, for example `contact.propertyChange`"))?;
    let object_type = match (object, object_type) {
        ("object" | "engagement", Some(id)) => ObjectType::from(id),
        ("object" | "engagement", None) => {
            return Err(format!("`{event}` needs `object_type`, for example \"0-48\" for calls"));
        }
        (named, None) => ObjectType::from(named),
        (named, Some(_)) => return Err(format!("`object_type` goes with `object.…`, not with `{named}.…`")),
    };
    if object == "engagement" && !object_type.is_engagement() {
        return Err(format!("`{object_type}` is no engagement"));
    }
    if let ObjectType::Other(name) = &object_type
        && !name.starts_with("2-")
    {
        return Err(format!("`{name}` is no object type that Leadline knows"));
    }
    let Some(kind @ (EventKind::Creation | EventKind::PropertyChange)) = EventKind::parse(kind) else {
        return Err(format!("`{kind}` starts no playbook; use `creation` or `propertyChange`"));
    };
    match (kind, properties.is_empty()) {
        (EventKind::PropertyChange, true) => Err("a propertyChange needs `properties`: which ones?".to_owned()),
        (EventKind::Creation, false) => Err("a creation has no `properties`".to_owned()),
        _ => Ok((object_type, kind)),
    }
}

impl Trigger {
    /// Whether `event` is of this kind; its condition is another matter.
    pub fn matches(&self, event: &Event) -> bool {
        matches!(&event.subject, Subject::Record { object_type, .. } if *object_type == self.object_type)
            && event.kind == self.kind
            && (self.kind != EventKind::PropertyChange
                || event.property_name.as_ref().is_some_and(|name| self.properties.contains(name)))
    }
}
