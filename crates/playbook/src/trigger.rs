//! Which events start a playbook.

use domain::{
    ObjectType,
    event::{Event, EventKind},
    ids::UnknownObjectType,
};

use crate::templates::Condition;

/// One kind of event that starts a playbook.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trigger {
    /// The type of the record or engagement.
    pub object_type: ObjectType,
    /// What happens to it.
    pub kind: EventKind,
    /// The properties whose change starts the playbook; empty unless `kind` is `propertyChange`.
    pub properties: Vec<String>,
    /// A further condition on the event or the record.
    pub when: Option<Condition>,
}

/// Why a trigger of a playbook file is not valid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TriggerError {
    #[error("`{0}` is not OBJECT.KIND, for example `contact.propertyChange`")]
    NoKind(String),
    #[error("`{0}` needs `object_type`, for example \"0-48\" for calls")]
    MissingObjectType(String),
    #[error("`object_type` belongs to `object.…`, not to `{0}.…`")]
    SurplusObjectType(String),
    #[error("`{0}` is no engagement")]
    NoEngagement(ObjectType),
    #[error(transparent)]
    UnknownObjectType(#[from] UnknownObjectType),
    #[error("`{0}` starts no playbook; use `creation`, `propertyChange`, `associationChange` or `merge`")]
    UnsupportedKind(String),
    #[error("a propertyChange needs `properties`")]
    MissingProperties,
    #[error("`properties` belongs to `propertyChange`, not to `{0}`")]
    SurplusProperties(EventKind),
}

/// Parses an event such as `contact.propertyChange` and checks that properties are given where they are needed.
///
/// The event of an engagement is named by its type (`note.creation`), or in the generic form of HubSpot's subscriptions
/// with its type id: `object.creation` with `object_type = "0-46"`. Parts of HubSpot's documentation write
/// `engagement.creation` for the same.
pub(crate) fn parse(
    event: &str,
    object_type: Option<&str>,
    properties: &[String],
) -> Result<(ObjectType, EventKind), TriggerError> {
    let (object, kind) = event.split_once('.').ok_or_else(|| TriggerError::NoKind(event.to_owned()))?;
    let object_type = match (object, object_type) {
        ("object" | "engagement", Some(id)) => ObjectType::parse_supported(id)?,
        ("object" | "engagement", None) => return Err(TriggerError::MissingObjectType(event.to_owned())),
        (named, None) => ObjectType::parse_supported(named)?,
        (named, Some(_)) => return Err(TriggerError::SurplusObjectType(named.to_owned())),
    };
    if object == "engagement" && !object_type.is_engagement() {
        return Err(TriggerError::NoEngagement(object_type));
    }
    use EventKind::{AssociationChange, Creation, Merge, PropertyChange};
    let known = EventKind::from_subscription(kind);
    let Some(kind @ (Creation | PropertyChange | AssociationChange | Merge)) = known else {
        return Err(TriggerError::UnsupportedKind(kind.to_owned()));
    };
    match (kind, properties.is_empty()) {
        (EventKind::PropertyChange, true) => Err(TriggerError::MissingProperties),
        (EventKind::PropertyChange, false) | (_, true) => Ok((object_type, kind)),
        (kind, false) => Err(TriggerError::SurplusProperties(kind)),
    }
}

impl Trigger {
    /// Whether the event is of this kind. The condition `when` is not evaluated. An association that was removed starts
    /// nothing: there is nothing new to read.
    pub fn matches(&self, event: &Event) -> bool {
        *event.subject.object_type() == self.object_type
            && event.kind == self.kind
            && !event.subject.is_removed_association()
            && (self.kind != EventKind::PropertyChange
                || event.property_name.as_ref().is_some_and(|name| self.properties.contains(name)))
    }
}
