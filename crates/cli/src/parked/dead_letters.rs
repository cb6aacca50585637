//! The parking lots and the ledger, side by side: each knows things that the other does not.

use std::collections::HashMap;

use broker::{ParkedMessage, ParkingLot, Stage};
use ledger::ParkedEntry;
use time::OffsetDateTime;

use super::filter::Wanted;
use crate::operator::Operator;

/// Something that is parked.
pub struct Item {
    /// Where it failed.
    pub stage: Stage,
    /// The event's key, the write command's id, or what the message calls itself.
    pub id: String,
    /// Why, in `snake_case`; the ledger's word counts.
    pub reason: String,
    /// Why, in words.
    pub detail: Option<String>,
    /// The playbook, where one is to blame.
    pub playbook: Option<String>,
    /// Since when.
    pub parked_at: Option<OffsetDateTime>,
    /// The message; none when the parking lot does not hold it (somebody purged it).
    pub message: Option<ParkedMessage>,
    /// What the ledger has parked; none when it never knew it, or has gone on with it.
    pub entry: Option<ParkedEntry>,
}

impl Item {
    /// `events`, `backfill`, `writes`
    pub fn stage_name(&self) -> &'static str {
        self.stage.queue().trim_start_matches("leadline.")
    }

    fn new(stage: Stage, message: Option<ParkedMessage>, entry: Option<ParkedEntry>) -> Self {
        let said = message.as_ref().map(|parked| &parked.message);
        let id = match (&entry, said) {
            (Some(entry), _) => entry.write_command_id.map_or(entry.event_key.clone(), |id| id.to_string()),
            (None, Some(message)) => message.id.clone(),
            (None, None) => String::new(),
        };
        let reason = entry.as_ref().and_then(|entry| entry.reason).map(|reason| reason.to_string());
        let reason = reason.or_else(|| said?.reason.clone()).unwrap_or_else(|| "unknown".to_owned());
        let detail = entry.as_ref().and_then(|entry| entry.detail.clone()).or_else(|| said?.detail.clone());
        let published = message.as_ref().and_then(|parked| i64::try_from(parked.parked_at).ok());
        let published = published.and_then(|seconds| OffsetDateTime::from_unix_timestamp(seconds).ok());
        Self {
            stage,
            id,
            reason,
            detail: detail.filter(|detail| !detail.is_empty()),
            playbook: entry.as_ref().and_then(|entry| entry.playbook.clone()),
            parked_at: entry.as_ref().and_then(|entry| entry.parked_at).or(published),
            message,
            entry,
        }
    }
}

/// What was found, and the open parking lots that hold the messages meanwhile.
pub struct DeadLetters {
    pub items: Vec<Item>,
    lots: Vec<(Stage, ParkingLot)>,
}

impl DeadLetters {
    /// The open parking lot of a stage.
    pub fn of(&self, stage: Stage) -> Option<&ParkingLot> {
        self.lots.iter().find(|(known, _)| *known == stage).map(|(_, lot)| lot)
    }

    /// Puts everything back that was not taken.
    pub async fn close(self) {
        for (_, lot) in self.lots {
            lot.close().await;
        }
    }
}

/// Looks through the parking lots and the ledger for what is wanted, oldest first.
pub async fn scan(operator: &Operator, wanted: &Wanted) -> anyhow::Result<DeadLetters> {
    let key = |entry: &ParkedEntry| entry.write_command_id.map_or(entry.event_key.clone(), |id| id.to_string());
    let entries = operator.ledger.parked().await?;
    let mut known: HashMap<String, ParkedEntry> = entries.into_iter().map(|entry| (key(&entry), entry)).collect();
    let (mut items, mut lots) = (Vec::new(), Vec::new());
    for stage in Stage::ALL {
        let lot = ParkingLot::open(&operator.link, stage).await?;
        while let Some(parked) = lot.next().await? {
            // Twice in the lot: the first one has the entry, and the other one will be found to have gone on.
            let entry = known.remove(&parked.message.id);
            items.push(Item::new(stage, Some(parked), entry));
        }
        lots.push((stage, lot));
    }
    let lost = known.into_values().map(|entry| {
        let stage = if entry.write_command_id.is_some() { Stage::Writes } else { Stage::Events };
        Item::new(stage, None, Some(entry))
    });
    items.extend(lost);
    items.retain(|item| wanted.is_met_by(item));
    items.sort_by(|a, b| (a.parked_at, &a.id).cmp(&(b.parked_at, &b.id)));
    Ok(DeadLetters { items, lots })
}
