//! An event: one element of a HubSpot webhook's array.

use std::fmt;

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::ids::{AppId, ObjectId, ObjectType, PortalId};

/// One element of a HubSpot webhook's array, understood and checked.
///
/// This is also the body of a message in `leadline.events`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// What makes it the same event when HubSpot delivers it again.
    pub key: EventKey,
    /// The portal it happened in.
    pub portal_id: PortalId,
    /// What happened.
    pub kind: EventKind,
    /// What it happened to.
    pub subject: Subject,
    /// The changed property, for `propertyChange`.
    pub property_name: Option<String>,
    /// When it happened, by HubSpot's clock; millisecond precision.
    #[serde(with = "time::serde::timestamp::milliseconds")]
    pub occurred_at: OffsetDateTime,
    /// Who changed it (`CRM_UI`, `INTEGRATION`, …).
    pub change_source: Option<String>,
    /// The changer's id; for `INTEGRATION` the app id, as text.
    pub source_id: Option<String>,
    /// The element as HubSpot sent it.
    pub payload: serde_json::Value,
}

impl Event {
    /// The type as HubSpot writes it, for example `contact.propertyChange`.
    pub fn subscription_type(&self) -> String {
        format!("{}.{}", self.subject.object_type().name(), self.kind)
    }

    /// The record that the event is about, unless it is about an association.
    pub fn record(&self) -> Option<RecordRef> {
        match &self.subject {
            Subject::Record { object_type, object_id } => {
                Some(RecordRef { portal_id: self.portal_id, object_type: object_type.clone(), object_id: *object_id })
            }
            Subject::Association { .. } => None,
        }
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

/// What makes an event the same event when HubSpot delivers it again; never its `attemptNumber`.
///
/// `portal:type:objectTypeId:object:property:occurredAt:eventId`, readable on purpose: operators meet it in the
/// management UI and in the ledger. HubSpot's `eventId` alone is not unique.
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

    /// A key that was built before, for example as read from the ledger.
    pub fn from_text(text: impl Into<String>) -> Self {
        Self(text.into())
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
    /// Two records became one.
    Merge,
    /// A deleted record came back.
    Restore,
    /// Two records were associated together or parted.
    AssociationChange,
    /// A conversation got a message.
    NewMessage,
    /// No change: an operator wants a playbook run. HubSpot never says this.
    Manual,
}

impl EventKind {
    const ALL: [(Self, &str); 9] = [
        (Self::Creation, "creation"),
        (Self::Deletion, "deletion"),
        (Self::PrivacyDeletion, "privacyDeletion"),
        (Self::PropertyChange, "propertyChange"),
        (Self::Merge, "merge"),
        (Self::Restore, "restore"),
        (Self::AssociationChange, "associationChange"),
        (Self::NewMessage, "newMessage"),
        (Self::Manual, "manual"),
    ];

    /// The kind with HubSpot's name, the part of a subscription type after the dot.
    pub fn parse(name: &str) -> Option<Self> {
        let known = Self::ALL.iter().find(|(_, known)| *known == name).map(|(kind, _)| *kind);
        known.filter(|kind| *kind != Self::Manual)
    }
}

impl fmt::Display for EventKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(Self::ALL.iter().find(|(kind, _)| kind == self).map_or("", |(_, name)| name))
    }
}

/// What an event is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Subject {
    /// One record.
    Record {
        /// Its kind.
        object_type: ObjectType,
        /// Its id.
        object_id: ObjectId,
    },
    /// A associate between two records.
    Association {
        /// The kind of the record that the subscription is for.
        object_type: ObjectType,
        /// The associate's one end.
        from: ObjectId,
        /// The associate's other end.
        to: ObjectId,
        /// HubSpot's name of the associate with what became of it, for example `CONTACT_TO_COMPANY+`.
        association: String,
    },
}

impl Subject {
    /// The kind of record that the subscription is for.
    pub fn object_type(&self) -> &ObjectType {
        match self {
            Self::Record { object_type, .. } | Self::Association { object_type, .. } => object_type,
        }
    }
}

/// One record of one portal.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct RecordRef {
    /// The portal it lives in.
    pub portal_id: PortalId,
    /// Its kind.
    pub object_type: ObjectType,
    /// Its id.
    pub object_id: ObjectId,
}

impl fmt::Display for RecordRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.object_type, self.object_id)
    }
}
