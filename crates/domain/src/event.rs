//! An event: one element of a HubSpot webhook's array.

use std::fmt;

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::{
    ids::{AppId, ObjectId, ObjectType, PortalId},
    names::named_values,
    payload::Payload,
};

/// One element of a HubSpot webhook's array, parsed and checked.
///
/// This is also the body of a message in `leadline.events`. It has one field for each part of the element that the
/// fleet uses, and the element itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// Identifies the event in every delivery.
    pub key: EventKey,
    /// The portal in which it happened.
    pub portal_id: PortalId,
    /// What happened.
    pub kind: EventKind,
    /// The record or association to which it happened.
    pub subject: Subject,
    /// The property that changed; set for `propertyChange`.
    pub property_name: Option<String>,
    /// When it happened, by HubSpot's clock, in milliseconds.
    #[serde(with = "time::serde::timestamp::milliseconds")]
    pub occurred_at: OffsetDateTime,
    /// What kind of client made the change (`CRM_UI`, `INTEGRATION`, …).
    pub change_source: Option<String>,
    /// The id of that client; for `INTEGRATION` the app id, as text.
    pub source_id: Option<String>,
    /// The element as HubSpot sent it; long strings are cut, and what no text can hold is replaced.
    pub payload: Payload,
}

impl Event {
    /// The subscription type in HubSpot's notation, for example `contact.propertyChange`.
    pub fn subscription_type(&self) -> String {
        format!("{}.{}", self.subject.object_type().name(), self.kind)
    }

    /// The record of the event. Of an association, the record at its beginning: HubSpot sends one event for each direction.
    pub fn record(&self) -> RecordRef {
        let (Subject::Record { object_type, object_id } | Subject::Association { object_type, from: object_id, .. }) =
            &self.subject;
        RecordRef { portal_id: self.portal_id, object_type: object_type.clone(), object_id: *object_id }
    }

    /// Whether the change was made with `app`'s own token; see [`AppId::is_source`]. The payload's `appId` does not tell:
    /// it names the owner of the subscription, which is always our app.
    pub fn is_echo_of(&self, app: AppId) -> bool {
        app.is_source(self.change_source.as_deref(), self.source_id.as_deref())
    }
}

impl AppId {
    /// Whether HubSpot names this app as the author of a change: the source is `INTEGRATION` and the source id is the
    /// app's id. Webhooks (`changeSource`, `sourceId`) and property histories (`sourceType`, `sourceId`) agree in this.
    pub fn is_source(self, source: Option<&str>, source_id: Option<&str>) -> bool {
        source == Some("INTEGRATION") && source_id.and_then(|id| id.trim().parse().ok()) == Some(self.0)
    }
}

/// Identifies an event in every delivery of it: equal for a repeated delivery, different for any other event.
///
/// Its form is `portal:type:objectTypeId:object:property:occurredAt:eventId`. It is readable because operators see it
/// in RabbitMQ's management UI and in the ledger. HubSpot's `eventId` alone is not unique, and its `attemptNumber`
/// differs between deliveries, so it is not part of the key.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct EventKey(String);

impl EventKey {
    /// Builds the key from the parts that HubSpot repeats in every delivery of the same event.
    pub fn new(
        portal_id: PortalId,
        kind: EventKind,
        subject: &Subject,
        property_name: Option<&str>,
        occurred_at_ms: i64,
        event_id: &str,
    ) -> Self {
        let object_type = subject.object_type();
        let object = match subject {
            Subject::Record { object_id, .. } => object_id.to_string(),
            Subject::Association { from, to, association, .. } => format!("{from}>{to}/{association}"),
        };
        Self(format!(
            "{portal_id}:{}.{kind}:{}:{object}:{}:{occurred_at_ms}:{event_id}",
            object_type.name(),
            object_type.type_id(),
            property_name.unwrap_or("-"),
        ))
    }

    /// Takes a key that [`EventKey::new`] has built before, for example one read from the ledger.
    pub fn from_text(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// What happened, as far as the key says: that of an erased event says nothing.
    pub fn kind(&self) -> Option<EventKind> {
        let (_, kind) = self.0.split(':').nth(1)?.rsplit_once('.')?;
        EventKind::ALL.iter().copied().find(|known| known.as_str() == kind)
    }

    /// The key as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for EventKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What happened to the subject.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum EventKind {
    /// A record was created.
    Creation,
    /// A record was deleted.
    Deletion,
    /// A contact was deleted for privacy reasons.
    PrivacyDeletion,
    /// A property changed.
    PropertyChange,
    /// Two records were merged into one.
    Merge,
    /// A deleted record was restored.
    Restore,
    /// An association between two records was added or removed.
    AssociationChange,
    /// A conversation received a message.
    NewMessage,
    /// Nothing changed: an operator runs a playbook. HubSpot never sends this kind.
    Manual,
}

named_values!(EventKind {
    Creation => "creation",
    Deletion => "deletion",
    PrivacyDeletion => "privacyDeletion",
    PropertyChange => "propertyChange",
    Merge => "merge",
    Restore => "restore",
    AssociationChange => "associationChange",
    NewMessage => "newMessage",
    Manual => "manual",
} without parse);

impl EventKind {
    /// The kind with HubSpot's name: the part of a subscription type after the dot. `None` for
    /// [`EventKind::Manual`], which no webhook may claim.
    pub fn from_subscription(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|kind| kind.as_str() == name && *kind != Self::Manual)
    }
}

/// Ends the name of an association that was added, and of one that was removed.
pub const ADDED: char = '+';
/// See [`ADDED`].
pub const REMOVED: char = '-';

/// The record or association to which an event happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Subject {
    /// One record.
    Record {
        /// The record's type.
        object_type: ObjectType,
        /// The record's id.
        object_id: ObjectId,
    },
    /// An association between two records.
    Association {
        /// The type of the record at the beginning, for which the app subscribed.
        object_type: ObjectType,
        /// The record at the beginning.
        from: ObjectId,
        /// The type of the record at the end, where HubSpot names it.
        to_type: Option<ObjectType>,
        /// The record at the end.
        to: ObjectId,
        /// HubSpot's name of the association, then `+` if it was added or `-` if it was removed, for example
        /// `CONTACT_TO_COMPANY+`.
        association: String,
    },
}

impl Subject {
    /// The type of record for which the app subscribed.
    pub fn object_type(&self) -> &ObjectType {
        match self {
            Self::Record { object_type, .. } | Self::Association { object_type, .. } => object_type,
        }
    }

    /// Whether an association was removed.
    pub fn is_removed_association(&self) -> bool {
        matches!(self, Self::Association { association, .. } if association.ends_with(REMOVED))
    }
}

/// One record of one portal.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct RecordRef {
    /// The portal that holds the record.
    pub portal_id: PortalId,
    /// The record's type.
    pub object_type: ObjectType,
    /// The record's id, unique among the records of its type.
    pub object_id: ObjectId,
}

impl fmt::Display for RecordRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.object_type, self.object_id)
    }
}
