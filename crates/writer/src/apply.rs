//! Putting updates into HubSpot: PATCH for one, batch update for many, and one bad record never costs its neighbours
//! their write.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use domain::{ObjectId, ObjectType, RecordRef, WriteCommand, WriteCommandId};
use hubspot::{
    HubSpotClient, HubSpotError,
    client::{MAX_BATCH, ObjectUpdate, PastValue},
};

use crate::{
    plan::{CommandPart, RecordUpdate},
    policy,
};

/// What became of each command's part of the updates.
pub type Applied = HashMap<WriteCommandId, Result<(), Arc<HubSpotError>>>;

/// What became of each record's update.
type Updated = HashMap<RecordRef, Result<(), Arc<HubSpotError>>>;

/// What records hold, by property. A record that is missing was not found.
pub type CurrentValues = HashMap<RecordRef, HashMap<String, CurrentValue>>;

/// What a property holds, and who set it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CurrentValue {
    /// `None` when it is empty.
    pub value: Option<String>,
    /// Its history, newest first; empty where nothing asks for it.
    pub history: Vec<PastValue>,
}

impl CurrentValue {
    /// The newest entry of its history.
    pub fn last_set(&self) -> Option<&PastValue> {
        self.history.first()
    }

    /// What the property held before `command` touched it. A writer that died between its call and its record left the
    /// value of this very command behind, as often as it died, and that is not what an undo should bring back.
    pub fn before(&self, command: &WriteCommand, attempt: i32, wanted: &str) -> Option<String> {
        if attempt == 1 {
            return self.value.clone();
        }

        let is_own = |set: &PastValue| {
            !set.is_by_person() && set.value == wanted && set.timestamp >= command.recorded_at() - CLOCKS_DIFFER
        };
        if !self.last_set().is_some_and(is_own) {
            return self.value.clone();
        }
        let earlier = self.history.iter().find(|set| !is_own(set));
        earlier.map(|set| set.value.clone()).filter(|value| !value.is_empty())
    }
}

/// HubSpot's clock and ours are no further apart than this.
const CLOCKS_DIFFER: time::Duration = time::Duration::seconds(2);

/// Reads what the updates are about to overwrite.
pub async fn read_before(hubspot: &HubSpotClient, updates: &[RecordUpdate]) -> Result<CurrentValues, HubSpotError> {
    let mut before = CurrentValues::new();
    for (object_type, updates) in by_type(updates) {
        let changes = || updates.iter().flat_map(|update| &update.changes);
        let ids: Vec<_> = updates.iter().map(|update| update.record.object_id).collect();
        let names: HashSet<_> = changes().map(|change| change.property.clone()).collect();
        let names: Vec<_> = names.into_iter().collect();
        if names.is_empty() {
            continue;
        }
        // A command that is carried out again may meet what it wrote itself.
        let is_again = updates.iter().flat_map(|update| &update.parts).any(|part| part.job.attempt > 1);
        let read = if is_again || changes().any(|change| policy::needs_history(change.policy)) {
            hubspot.read_history(object_type, &ids, &names).await?
        } else {
            hubspot.read_many(object_type, &ids, &names).await?
        };
        let mut found: HashMap<ObjectId, _> = read.found.into_iter().map(|object| (object.id, object)).collect();
        for update in updates {
            let Some(mut object) = found.remove(&update.record.object_id) else { continue };
            let held = |name: &String| {
                let value = object.properties.remove(name).flatten().filter(|value| !value.is_empty());
                let history = object.history.remove(name).unwrap_or_default();
                (name.clone(), CurrentValue { value, history })
            };
            before.insert(update.record.clone(), names.iter().map(held).collect());
        }
    }
    Ok(before)
}

/// Applies the updates and says for each command what became of it. Where several commands make one record's update and
/// HubSpot does not take a value of it, each is tried on its own: one playbook's bad value costs no other its write.
pub async fn apply(hubspot: &HubSpotClient, updates: &[RecordUpdate]) -> Applied {
    let mut updated = update_all(hubspot, updates).await;
    let mut applied = Applied::new();
    for update in updates {
        let Some(result) = updated.remove(&update.record) else { continue };
        let is_refused = result.as_ref().is_err_and(|error| one_may_be_to_blame(error));
        for part in &update.parts {
            let result =
                if is_refused && update.parts.len() > 1 { alone(hubspot, update, part).await } else { result.clone() };
            applied.insert(part.job.command.id, result);
        }
    }
    applied
}

async fn alone(hubspot: &HubSpotClient, update: &RecordUpdate, part: &CommandPart) -> Result<(), Arc<HubSpotError>> {
    if part.changes.is_empty() {
        return Ok(());
    }
    let wire = ObjectUpdate { id: update.record.object_id, changes: &part.changes };
    hubspot.update(&update.record.object_type, &wire).await.map_err(Arc::new)
}

async fn update_all(hubspot: &HubSpotClient, updates: &[RecordUpdate]) -> Updated {
    let mut applied = Updated::new();
    // Nothing to set (a command of nothing but actions, or everything is kept): that is done at once.
    let (idle, busy): (Vec<_>, Vec<_>) = updates.iter().partition(|update| update.changes.is_empty());
    applied.extend(idle.into_iter().map(|update| (update.record.clone(), Ok(()))));
    for (object_type, updates) in by_type(busy) {
        for part in updates.chunks(MAX_BATCH) {
            apply_some(hubspot, object_type, part, &mut applied).await;
        }
    }
    applied
}

fn by_type<'a>(updates: impl IntoIterator<Item = &'a RecordUpdate>) -> HashMap<&'a ObjectType, Vec<&'a RecordUpdate>> {
    let mut groups: HashMap<&ObjectType, Vec<&RecordUpdate>> = HashMap::new();
    for update in updates {
        groups.entry(&update.record.object_type).or_default().push(update);
    }
    groups
}

async fn apply_some(
    hubspot: &HubSpotClient,
    object_type: &ObjectType,
    updates: &[&RecordUpdate],
    applied: &mut Updated,
) {
    let mut halves = vec![updates];
    while let Some(updates) = halves.pop() {
        if let [single] = updates {
            let result = hubspot.update(object_type, &wire(single)).await.map_err(Arc::new);
            applied.insert(single.record.clone(), result);
            continue;
        }
        let wires: Vec<_> = updates.iter().map(|update| wire(update)).collect();
        match hubspot.update_many(object_type, &wires).await {
            Ok(answer) => {
                // Whatever the status code says: what is not among the results was not written. Asked for alone,
                // HubSpot says why.
                let written: HashSet<_> = answer.written.into_iter().collect();
                for update in updates {
                    if written.contains(&update.record.object_id) {
                        applied.insert(update.record.clone(), Ok(()));
                    } else {
                        metrics::counter!("leadline_batch_missing_results_total").increment(1);
                        halves.push(std::slice::from_ref(update));
                    }
                }
            }
            // One value that HubSpot does not take fails the whole batch: halve it until the one is alone.
            Err(error) if one_may_be_to_blame(&error) => {
                metrics::counter!("leadline_batch_bisected_total").increment(1);
                let (first, second) = updates.split_at(updates.len() / 2);
                halves.extend([second, first]);
            }
            Err(error) => {
                let error = Arc::new(error);
                applied.extend(updates.iter().map(|update| (update.record.clone(), Err(error.clone()))));
            }
        }
    }
}

fn one_may_be_to_blame(error: &HubSpotError) -> bool {
    // 413: the batch as a whole may be too long.
    matches!(error, HubSpotError::Api(error) if error.is_validation() || error.http_status == 413)
}

fn wire(update: &RecordUpdate) -> ObjectUpdate<'_> {
    ObjectUpdate { id: update.record.object_id, changes: &update.changes }
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
    fn what_was_there_before_is_found_behind_every_try_of_the_same_command() {
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
        let held = |history: Vec<PastValue>| CurrentValue { value: Some("85".to_owned()), history };
        let before = |history| held(history).before(&command, 2, "85");
        let tries = || vec![set("85", "INTEGRATION", 9), set("85", "INTEGRATION", 5)];
        assert_eq!(before(tries()), None);
        let with = |earlier| before(tries().into_iter().chain([earlier]).collect());
        assert_eq!(with(set("7", "CRM_UI", -60)).as_deref(), Some("7"));
        assert_eq!(with(set("", "CRM_UI", -60)), None, "cleared before");
        assert_eq!(with(set("85", "INTEGRATION", -60)).as_deref(), Some("85"), "an earlier event wrote the same");
        assert_eq!(before(vec![set("85", "CRM_UI", 5)]).as_deref(), Some("85"), "a person set it");
        let at_first = held(tries()).before(&command, 1, "85");
        assert_eq!(at_first.as_deref(), Some("85"), "nobody has tried this command before: another one wrote the same");
    }
}
