//! A write command: the property changes that an inference asks for.

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::{
    event::{EventKey, RecordRef},
    ids::{EventId, InferenceId, WriteCommandId},
};

/// The property changes that an inference asks for; the body of a message in `leadline.writes`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WriteCommand {
    /// Its id in the ledger.
    pub id: WriteCommandId,
    /// The event it follows from.
    pub event_id: EventId,
    /// That event's key.
    pub event_key: EventKey,
    /// The inference it follows from.
    pub inference_id: InferenceId,
    /// When the event happened; with the key, the order of writes to one record.
    #[serde(with = "time::serde::timestamp::milliseconds")]
    pub occurred_at: OffsetDateTime,
    /// The record to change.
    pub record: RecordRef,
    /// What to set. A value is text, as HubSpot takes it.
    pub properties: Vec<PropertyChange>,
}

impl WriteCommand {
    /// Later events win; the key breaks ties, the same way on every replica.
    pub fn order(&self) -> (OffsetDateTime, &EventKey) {
        (self.occurred_at, &self.event_key)
    }
}

/// One property and the value it is to have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PropertyChange {
    /// The property's internal name.
    pub property: String,
    /// The new value as HubSpot takes it: numbers as decimal text, times as ISO 8601 UTC.
    pub value: String,
}
