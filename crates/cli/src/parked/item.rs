//! One parked event or write command, as the parking lot and the ledger know it.

use broker::{ParkedMessage, Stage};
use ledger::ParkedEntry;
use time::OffsetDateTime;

use crate::print::{Table, column};

/// A parked event or write command.
pub struct ParkedItem {
    /// The stage in which it failed.
    pub stage: Stage,
    /// The event's key or the write command's id. For a message that the ledger does not know, the message's own id.
    pub id: String,
    /// Why it is parked: the name of a reason. The ledger's reason takes precedence over the message's.
    pub reason: String,
    /// Why it is parked, in words.
    pub detail: Option<String>,
    /// The playbook that failed, if one did.
    pub playbook: Option<String>,
    /// When it was parked.
    pub parked_at: Option<OffsetDateTime>,
    /// The message; `None` when the parking lot does not hold it, for example after a purge.
    pub message: Option<ParkedMessage>,
    /// The ledger's entry; `None` when the ledger never had it or no longer has it parked.
    pub entry: Option<ParkedEntry>,
}

impl ParkedItem {
    /// Joins what the parking lot and the ledger know. At least one of them has to know the item.
    pub fn new(stage: Stage, message: Option<ParkedMessage>, entry: Option<ParkedEntry>) -> Self {
        let of_message = message.as_ref().map(|parked| &parked.message);
        let id = entry.as_ref().map(entry_id).or_else(|| of_message.map(|message| message.id.clone()));
        let reason = entry.as_ref().and_then(|entry| entry.reason).map(|reason| reason.to_string());
        let reason = reason.or_else(|| of_message?.reason.clone()).unwrap_or_else(|| "unknown".to_owned());
        let detail = entry.as_ref().and_then(|entry| entry.detail.clone()).or_else(|| of_message?.detail.clone());
        let published = message.as_ref().and_then(|parked| i64::try_from(parked.parked_at).ok());
        let published = published.and_then(|seconds| OffsetDateTime::from_unix_timestamp(seconds).ok());
        Self {
            stage,
            id: id.unwrap_or_default(),
            reason,
            detail: detail.filter(|detail| !detail.is_empty()),
            playbook: entry.as_ref().and_then(|entry| entry.playbook.clone()),
            parked_at: entry.as_ref().and_then(|entry| entry.parked_at).or(published),
            message,
            entry,
        }
    }
}

/// The id under which the message of a ledger's entry is parked.
pub fn entry_id(entry: &ParkedEntry) -> String {
    entry.write_command_id.map_or_else(|| entry.event_key.clone(), |id| id.to_string())
}

/// A stage's name as operators give it: `events`, `backfill` or `writes`.
pub fn stage_name(stage: Stage) -> &'static str {
    stage.queue().trim_start_matches("leadline.")
}

/// A row for each item.
pub fn items_table(items: &[ParkedItem]) -> Table {
    let mut rows = Table::new([
        column("parked", "parked_at"),
        column("stage", "stage"),
        column("reason", "reason"),
        column("playbook", "playbook"),
        column("id", "id").whole(),
        column("detail", "detail"),
    ]);
    for item in items {
        rows.add([
            item.parked_at.into(),
            stage_name(item.stage).into(),
            item.reason.clone().into(),
            item.playbook.clone().into(),
            item.id.clone().into(),
            item.detail.clone().into(),
        ]);
    }
    rows
}
