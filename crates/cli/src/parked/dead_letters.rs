//! Reads the parking lots and the ledger side by side: each knows items that the other does not.

use std::collections::HashMap;

use broker::{ParkingLot, Stage};
use domain::EventKey;
use ledger::ParkedEntry;

use super::{
    filter::ParkedFilter,
    item::{ParkedItem, entry_id},
};
use crate::operator::Operator;

/// The items that a scan found, and the open parking lots that hold their messages.
pub struct DeadLetters {
    /// The items that match the filter, oldest first.
    pub items: Vec<ParkedItem>,
    parking_lots: Vec<(Stage, ParkingLot)>,
}

impl DeadLetters {
    /// The open parking lot of a stage.
    pub fn parking_lot(&self, stage: Stage) -> Option<&ParkingLot> {
        self.parking_lots.iter().find(|(of, _)| *of == stage).map(|(_, parking_lot)| parking_lot)
    }

    /// Closes the parking lots, which returns every message that was not taken.
    pub async fn close(self) {
        for (_, parking_lot) in self.parking_lots {
            parking_lot.close().await;
        }
    }
}

/// Finds the items that match the filter. Until the result is closed, no other process sees the messages in the parking
/// lots.
pub async fn scan(operator: &Operator, filter: &ParkedFilter) -> anyhow::Result<DeadLetters> {
    let entries = operator.ledger.parked().await?;
    let mut entries: HashMap<String, ParkedEntry> =
        entries.into_iter().map(|entry| (entry_id(&entry), entry)).collect();
    let (mut items, mut parking_lots) = (Vec::new(), Vec::new());
    for stage in Stage::ALL {
        let parking_lot = ParkingLot::open(&operator.connection, stage).await?;
        while let Some(parked) = parking_lot.next().await? {
            // Of two messages with the same id, the first gets the entry. The second is then found to be no longer parked.
            let entry = entries.remove(&parked.message.id);
            items.push(ParkedItem::new(stage, Some(parked), entry));
        }
        parking_lots.push((stage, parking_lot));
    }
    let without_message = entries.into_values().map(|entry| {
        let stage = match entry.write_command_id {
            Some(_) => Stage::Writes,
            None => Stage::of_event(&EventKey::from_text(entry.event_key.as_str())),
        };
        ParkedItem::new(stage, None, Some(entry))
    });
    items.extend(without_message);
    items.retain(|item| filter.matches(item));
    items.sort_by(|a, b| (a.parked_at, &a.id).cmp(&(b.parked_at, &b.id)));
    Ok(DeadLetters { items, parking_lots })
}
