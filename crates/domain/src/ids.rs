//! Ids as separate types, so that the compiler rejects a portal's id where a record's id is expected.

use std::fmt;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

macro_rules! hubspot_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub i64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

hubspot_id!(
    /// The id of a HubSpot account, which HubSpot also calls the hub id.
    PortalId
);
hubspot_id!(
    /// The id of a CRM object, unique among the objects of its type. HubSpot uses 64-bit integers.
    ObjectId
);
hubspot_id!(
    /// The id of a HubSpot app.
    AppId
);

macro_rules! own_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub Uuid);

        impl $name {
            /// A new id: a UUIDv7, so that ids sort by the time at which they were created.
            pub fn new() -> Self {
                Self(Uuid::now_v7())
            }
        }

        impl Default for $name {
            fn default() -> Self {
                Self::new()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

own_id!(
    /// The ledger's id of an event.
    EventId
);
own_id!(
    /// The ledger's id of an undo.
    UndoId
);
own_id!(
    /// The ledger's id of an inference.
    InferenceId
);
own_id!(
    /// The ledger's id of a charge, and the id that its request carries.
    ChargeId
);
own_id!(
    /// The ledger's id of a write command.
    WriteCommandId
);
own_id!(
    /// The ledger's id of an action. The marker in the task or note that the action creates contains it. See [`ActionId::of`].
    ActionId
);

/// The type of a CRM object.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub enum ObjectType {
    /// `0-1`
    Contact,
    /// `0-2`
    Company,
    /// `0-3`
    Deal,
    /// `0-5`
    Ticket,
    /// `0-27`
    Task,
    /// `0-46`
    Note,
    /// `0-47`
    Meeting,
    /// `0-48`
    Call,
    /// `0-49`
    Email,
    /// `0-18`: a message by WhatsApp, SMS or LinkedIn.
    Communication,
    /// Any other object, by its type id (`2-…` for custom objects) or by its name.
    Other(String),
}

/// The type, HubSpot's object type id, the singular name (in subscription types) and the plural name (in paths).
///
/// Source: HubSpot's list of object type ids, <https://developers.hubspot.com/docs/guides/crm/understanding-the-crm>.
const OBJECT_TYPES: [(ObjectType, &str, &str, &str); 10] = [
    (ObjectType::Contact, "0-1", "contact", "contacts"),
    (ObjectType::Company, "0-2", "company", "companies"),
    (ObjectType::Deal, "0-3", "deal", "deals"),
    (ObjectType::Ticket, "0-5", "ticket", "tickets"),
    (ObjectType::Task, "0-27", "task", "tasks"),
    (ObjectType::Note, "0-46", "note", "notes"),
    (ObjectType::Meeting, "0-47", "meeting", "meetings"),
    (ObjectType::Call, "0-48", "call", "calls"),
    (ObjectType::Email, "0-49", "email", "emails"),
    (ObjectType::Communication, "0-18", "communication", "communications"),
];

/// A text that names no object type which a playbook may use.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown object type `{0}`")]
pub struct UnknownObjectType(pub String);

impl ObjectType {
    /// The object type with this name, plural name or type id.
    ///
    /// # Errors
    /// When it is neither in the list above nor the type id of a custom object (`2-…`). Webhooks may contain other
    /// names, so [`ObjectType::from`] accepts them; a playbook that contains one is most likely misspelt.
    pub fn parse_supported(text: &str) -> Result<Self, UnknownObjectType> {
        match Self::from(text) {
            Self::Other(name) if !Self::Other(name.clone()).is_custom() => Err(UnknownObjectType(name)),
            supported => Ok(supported),
        }
    }

    fn row(&self) -> Option<&'static (Self, &'static str, &'static str, &'static str)> {
        OBJECT_TYPES.iter().find(|row| row.0 == *self)
    }

    /// HubSpot's object type id (`0-1` for contacts); for [`ObjectType::Other`] its text.
    pub fn type_id(&self) -> &str {
        match self {
            Self::Other(name) => name,
            known => known.row().map_or("", |row| row.1),
        }
    }

    /// The singular name, as in `contact.creation`.
    pub fn name(&self) -> &str {
        match self {
            Self::Other(name) => name,
            known => known.row().map_or("", |row| row.2),
        }
    }

    /// Whether it is an engagement (a note, call, email, meeting, task or message) rather than a record.
    pub fn is_engagement(&self) -> bool {
        matches!(self, Self::Note | Self::Call | Self::Email | Self::Meeting | Self::Task | Self::Communication)
    }

    /// Whether it is a custom object: HubSpot numbers their types `2-…`.
    pub fn is_custom(&self) -> bool {
        matches!(self, Self::Other(name) if name.starts_with("2-"))
    }

    /// The object that webhook subscriptions name, as in `contact.creation` or `object.creation`: engagements and custom
    /// objects have generic subscriptions only.
    pub fn subscription_object(&self) -> &str {
        match self {
            Self::Other(_) => "object",
            engagement if engagement.is_engagement() => "object",
            record => record.name(),
        }
    }

    /// The name in HubSpot's paths, as in `/crm/v3/objects/contacts`.
    pub fn path(&self) -> &str {
        match self {
            Self::Other(name) => name,
            known => known.row().map_or("", |row| row.3),
        }
    }
}

impl From<&str> for ObjectType {
    /// Accepts a type id, a singular name or a plural name; any other text becomes [`ObjectType::Other`].
    fn from(text: &str) -> Self {
        OBJECT_TYPES
            .iter()
            .find(|row| [row.1, row.2, row.3].contains(&text))
            .map_or_else(|| Self::Other(text.to_owned()), |row| row.0.clone())
    }
}

impl From<String> for ObjectType {
    fn from(text: String) -> Self {
        Self::from(text.as_str())
    }
}

impl From<ObjectType> for String {
    fn from(object_type: ObjectType) -> Self {
        object_type.type_id().to_owned()
    }
}

impl fmt::Display for ObjectType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
