//! Which events start a playbook.

use crate::{
    event::{Event, EventKind, Subject},
    ids::ObjectType,
};

/// One kind of event that starts a playbook.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trigger {
    /// The kind of record.
    pub object_type: ObjectType,
    /// What happens to it.
    pub kind: EventKind,
    /// The properties, for `propertyChange`.
    pub properties: Vec<String>,
}

impl Trigger {
    /// Reads `contact.propertyChange` and checks that properties are given exactly where they make sense.
    pub(super) fn parse(event: &str, properties: Vec<String>) -> Result<Self, String> {
        let (object, kind) = event
            .split_once('.')
            .ok_or_else(|| format!("`{event}` is not OBJECT.KIND, for example `contact.propertyChange`"))?;
        let object_type = match ObjectType::from(object) {
            ObjectType::Other(name) if !name.starts_with("2-") => {
                return Err(format!("`{name}` is no object type that Leadline knows"));
            }
            known => known,
        };
        let Some(kind @ (EventKind::Creation | EventKind::PropertyChange)) = EventKind::parse(kind) else {
            return Err(format!("`{kind}` starts no playbook; use `creation` or `propertyChange`"));
        };
        match (kind, properties.is_empty()) {
            (EventKind::PropertyChange, true) => Err("a propertyChange needs `properties`: which ones?".to_owned()),
            (EventKind::Creation, false) => Err("a creation has no `properties`".to_owned()),
            _ => Ok(Self { object_type, kind, properties }),
        }
    }

    /// Whether `event` is of this kind.
    pub fn matches(&self, event: &Event) -> bool {
        matches!(&event.subject, Subject::Record { object_type, .. } if *object_type == self.object_type)
            && event.kind == self.kind
            && (self.kind != EventKind::PropertyChange
                || event.property_name.as_ref().is_some_and(|name| self.properties.contains(name)))
    }
}
