//! A correction: a person set a property that the fleet had written to another value.

use time::OffsetDateTime;

use crate::{event::RecordRef, names::closed_set};

/// What a person set a property to, as HubSpot says. The ledger knows whether the fleet had written it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Correction {
    /// The record.
    pub record: RecordRef,
    /// The property's internal name.
    pub property: String,
    /// The person's value; `None` when the property was cleared.
    pub value: Option<String>,
    /// When the person set it, by HubSpot's clock.
    pub changed_at: OffsetDateTime,
}

closed_set! {
    /// By what a correction was seen first.
    pub enum CorrectionSource {
        Webhook = "webhook", "HubSpot reported the change.";
        Read = "read", "A writer read the property before it wrote again.";
    }
}
