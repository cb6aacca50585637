//! What HubSpot holds now in the properties that a batch is about to write: one batch read per object type, with the
//! history where it is needed.

use std::collections::{HashMap, HashSet};

use domain::{
    ObjectId, RecordRef, WriteCommand,
    write_command::{PropertyChange, WritePolicy},
};
use hubspot::{
    HubSpotClient, HubSpotError,
    client::{ChangeAuthor, PastValue, origin},
};

use crate::plan::{self, RecordUpdate};

/// The most by which HubSpot's clock and ours may differ.
const CLOCK_SKEW: time::Duration = time::Duration::seconds(2);

/// The current values of records, by record and property. A record that HubSpot does not have is absent.
pub type CurrentValues = HashMap<RecordRef, HashMap<String, CurrentValue>>;

/// The current value of one property.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CurrentValue {
    /// `None` when the property is empty.
    pub value: Option<String>,
    /// The value's history, newest first. Empty when it was not read.
    pub history: Vec<PastValue>,
}

impl CurrentValue {
    /// The newest entry of the history.
    pub fn last_set(&self) -> Option<&PastValue> {
        self.history.first()
    }

    /// The entry of the history whose author stands behind the value: behind a value that a merge or a restore carried over
    /// stands who set it before.
    pub fn origin(&self) -> Option<&PastValue> {
        origin(&self.history)
    }

    /// Whether the value is the property's default, which nobody chose for this record.
    pub fn is_default(&self) -> bool {
        self.origin().is_some_and(|set| set.author() == ChangeAuthor::Default)
    }

    /// Whether the property has exactly this value. HubSpot makes no difference between an empty and a missing value.
    pub fn equals(&self, value: &str) -> bool {
        self.value.as_deref().unwrap_or_default() == value
    }

    /// The value before `command` wrote `proposed`, which is what an undo restores.
    ///
    /// A writer may die after HubSpot has the value and before the ledger has it, once or several times. From its second
    /// attempt on, a command therefore looks behind the history's newest entries that it wrote itself.
    pub fn before(&self, command: &WriteCommand, attempt: i32, proposed: &str) -> Option<String> {
        if attempt == 1 {
            return self.value.clone();
        }
        let is_own = |set: &PastValue| {
            set.author() == ChangeAuthor::Machine
                && set.value == proposed
                && set.timestamp >= command.recorded_at() - CLOCK_SKEW
        };
        if !self.last_set().is_some_and(is_own) {
            return self.value.clone();
        }
        let earlier = self.history.iter().find(|set| !is_own(set));
        earlier.map(|set| set.value.clone()).filter(|value| !value.is_empty())
    }
}

/// Reads the current values of the properties that `updates` change.
///
/// # Errors
///
/// When HubSpot does not answer one of the reads.
pub async fn read(hubspot: &HubSpotClient, updates: &[RecordUpdate]) -> Result<CurrentValues, HubSpotError> {
    let mut current = CurrentValues::new();
    for (object_type, updates) in plan::by_object_type(updates) {
        let changes = || updates.iter().flat_map(|update| &update.changes);
        let ids: Vec<_> = updates.iter().map(|update| update.record.object_id).collect();
        let names: HashSet<_> = changes().map(|change| change.property.clone()).collect();
        let names: Vec<_> = names.into_iter().collect();
        if names.is_empty() {
            continue;
        }
        let read = if updates.iter().any(|update| needs_history(update)) {
            hubspot.read_history(object_type, &ids, &names).await?
        } else {
            hubspot.read_many(object_type, &ids, &names).await?
        };
        let mut found: HashMap<ObjectId, _> = read.into_iter().map(|object| (object.id, object)).collect();
        for update in updates {
            let Some(mut object) = found.remove(&update.record.object_id) else { continue };
            let value_of = |name: &String| {
                let value = object.properties.remove(name).flatten().filter(|value| !value.is_empty());
                let history = object.history.remove(name).unwrap_or_default();
                (name.clone(), CurrentValue { value, history })
            };
            current.insert(update.record.clone(), names.iter().map(value_of).collect());
        }
    }
    read_defaults(hubspot, updates, &mut current).await?;
    Ok(current)
}

/// Reads the histories of the properties that `if_empty` would leave alone because they have a value: it may be a default. Few
/// are, so that the first read is without histories, of which HubSpot gives half as many in a call.
async fn read_defaults(
    hubspot: &HubSpotClient,
    updates: &[RecordUpdate],
    current: &mut CurrentValues,
) -> Result<(), HubSpotError> {
    for (object_type, updates) in plan::by_object_type(updates) {
        let mut names = HashSet::new();
        let mut ids = Vec::new();
        for update in updates {
            let Some(values) = current.get(&update.record) else { continue };
            let is_filled = |change: &&PropertyChange| {
                let value = values.get(&change.property);
                change.policy == WritePolicy::IfEmpty
                    && value.is_some_and(|value| value.value.is_some() && value.history.is_empty())
            };
            let filled: Vec<_> =
                update.changes.iter().filter(is_filled).map(|change| change.property.clone()).collect();
            if !filled.is_empty() {
                ids.push((update.record.object_id, &update.record));
                names.extend(filled);
            }
        }
        if ids.is_empty() {
            continue;
        }
        let names: Vec<_> = names.into_iter().collect();
        let asked: Vec<_> = ids.iter().map(|(id, _)| *id).collect();
        for mut object in hubspot.read_history(object_type, &asked, &names).await? {
            let record = ids.iter().find(|(id, _)| *id == object.id).map(|(_, record)| *record);
            let Some(values) = record.and_then(|record| current.get_mut(record)) else { continue };
            for name in &names {
                let Some(value) = values.get_mut(name) else { continue };
                value.value = object.properties.remove(name).flatten().filter(|value| !value.is_empty());
                value.history = object.history.remove(name).unwrap_or_default();
            }
        }
    }
    Ok(())
}

/// Only the history tells who set a value and when, which some policies depend on, and whether the command wrote it in an
/// earlier attempt.
fn needs_history(update: &RecordUpdate) -> bool {
    let depends_on_author =
        |change: &PropertyChange| matches!(change.policy, WritePolicy::UnlessHuman | WritePolicy::IfNewer);
    update.parts.iter().any(|part| part.taken.attempt > 1) || update.changes.iter().any(depends_on_author)
}

#[cfg(test)]
mod tests {
    use domain::{
        EventId, EventKey, InferenceId, ObjectId, ObjectType, PortalId, RecordRef, WriteCommand, WriteCommandId,
    };
    use hubspot::client::PastValue;
    use time::{Duration, OffsetDateTime};

    use super::CurrentValue;

    #[test]
    fn the_value_before_is_found_behind_every_attempt_of_the_same_command() {
        let now = OffsetDateTime::now_utc();
        let command = WriteCommand {
            id: WriteCommandId::new(),
            event_id: EventId::new(),
            event_key: EventKey::from_text("k"),
            inference_id: InferenceId::new(),
            occurred_at: now,
            record: RecordRef { portal_id: PortalId(1), object_type: ObjectType::Contact, object_id: ObjectId(1) },
            properties: Vec::new(),
            actions: Vec::new(),
        };
        let set = |value: &str, source: &str, seconds| PastValue {
            value: value.to_owned(),
            timestamp: now + Duration::seconds(seconds),
            source_type: source.to_owned(),
            source_id: None,
        };
        let current = |history: Vec<PastValue>| CurrentValue { value: Some("85".to_owned()), history };
        let before = |history| current(history).before(&command, 2, "85");
        let attempts = || vec![set("85", "INTEGRATION", 9), set("85", "INTEGRATION", 5)];
        assert_eq!(before(attempts()), None);
        let after = |earlier| before(attempts().into_iter().chain([earlier]).collect());
        assert_eq!(after(set("7", "CRM_UI", -60)).as_deref(), Some("7"));
        assert_eq!(after(set("", "CRM_UI", -60)), None, "it was cleared before");
        assert_eq!(
            after(set("85", "INTEGRATION", -60)).as_deref(),
            Some("85"),
            "an earlier event wrote the same value"
        );
        assert_eq!(before(vec![set("85", "CRM_UI", 5)]).as_deref(), Some("85"), "a person set it");
        let first_attempt = current(attempts()).before(&command, 1, "85");
        assert_eq!(first_attempt.as_deref(), Some("85"), "in the first attempt another command wrote the same value");
    }
}
