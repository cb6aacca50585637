//! Reads what HubSpot holds in the properties that a batch is about to write, in few calls.
//!
//! HubSpot gives the values of a hundred records in a call, and the histories of fifty. A history tells who set a value and when.
//! It is not needed where the value is the one that the fleet wrote last, nor where there was never a value, and that is nearly
//! everywhere. So a large batch is read without histories, and then the histories of the values that others have set.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use batcher::bisect;
use domain::{
    ObjectId, ObjectType, RecordRef,
    write_command::{ActionSpec, PropertyChange, WritePolicy},
};
use futures_util::future::join_all;
use hubspot::{
    HubSpotClient, HubSpotError,
    client::{CrmObject, MAX_HISTORY_BATCH},
};
use ledger::LatestWrites;

use crate::{
    current_values::{CurrentValue, CurrentValues, History, NullValues},
    missing::{Found, MAX_READ_ALONE, Unwritten, look_up},
    plan::{self, CommandPart, RecordUpdate},
};

/// Why the values of some records are not known.
pub type Unread = HashMap<RecordRef, Unwritten>;

/// What is read of a record whose properties do not matter: whether it is there.
const ID: &str = "hs_object_id";

/// Reads the current values of a batch.
pub struct ValueReader<'a> {
    /// Reads records.
    pub hubspot: &'a HubSpotClient,
    /// What the fleet wrote last.
    pub latest: &'a LatestWrites,
    /// Whether `null` means that a property was never set.
    pub null_values: &'a NullValues,
}

/// What was read so far.
#[derive(Default)]
struct Progress {
    values: CurrentValues,
    unread: Unread,
    /// Records that a batch call did not find.
    missing: Vec<RecordRef>,
}

impl ValueReader<'_> {
    /// Reads the values of the properties that `updates` change, and finds out whether the records of their actions are there.
    /// A record that is read is in the first result, and one that is not in the second.
    pub async fn read(&self, updates: &[RecordUpdate]) -> (CurrentValues, Unread) {
        let mut progress = Progress::default();
        for (object_type, updates) in plan::by_object_type(updates.iter().filter(|update| needs_record(update))) {
            let changes = || updates.iter().flat_map(|update| &update.changes);
            let mut names: HashSet<_> = changes().map(|change| change.property.clone()).collect();
            if names.is_empty() {
                names.insert(ID.to_owned());
            }
            // So few records cost one call with their histories, too.
            let with_history = updates.len() <= MAX_HISTORY_BATCH
                && (updates.iter().any(|update| was_tried(update))
                    || changes().any(|change| asks_for_author(change.policy)));
            let read = Read { object_type, names: &names.into_iter().collect::<Vec<_>>(), with_history };
            // What is held may be about the same record as what is written.
            let mut records: Vec<_> = updates.iter().map(|update| &update.record).collect();
            records.sort();
            records.dedup();
            self.read_batch(read, records, &mut progress).await;
        }
        self.read_histories(updates, &mut progress).await;
        self.look_up_missing(updates, &mut progress).await;
        (progress.values, progress.unread)
    }

    /// Reads the histories that were left out and are needed.
    async fn read_histories(&self, updates: &[RecordUpdate], progress: &mut Progress) {
        for (object_type, updates) in plan::by_object_type(updates) {
            let (mut names, mut records) = (HashSet::new(), Vec::new());
            for update in updates {
                let Some(values) = progress.values.get(&update.record) else { continue };
                let is_needed = |change: &&PropertyChange| {
                    values.get(&change.property).is_some_and(|current| self.needs_history(update, change, current))
                };
                let needed: Vec<_> =
                    update.changes.iter().filter(is_needed).map(|change| change.property.clone()).collect();
                if !needed.is_empty() {
                    if !records.contains(&&update.record) {
                        records.push(&update.record);
                    }
                    names.extend(needed);
                }
            }
            let read = Read { object_type, names: &names.into_iter().collect::<Vec<_>>(), with_history: true };
            self.read_batch(read, records, progress).await;
        }
    }

    fn needs_history(&self, update: &RecordUpdate, change: &PropertyChange, current: &CurrentValue) -> bool {
        if current.history != History::NotNeeded {
            return false;
        }
        let has = |part: &CommandPart| part.changes.contains(change);
        // What an attempt has written since the approval is in the history alone, whatever a person has made of it.
        if update.parts.iter().any(|part| part.taken.command.terms.approved.is_some() && has(part)) {
            return true;
        }
        // An earlier attempt may have written the value, and then the one before it is in the history.
        if current.equals(&change.value) && update.parts.iter().any(|part| part.taken.attempt > 1 && has(part)) {
            return true;
        }
        let is_asked_for = match change.policy {
            WritePolicy::IfEmpty => current.value.is_some(),
            policy => asks_for_author(policy),
        };
        // Another value in place of one that was written may be a person's correction.
        let ours = self.latest.value(&update.record, &change.property);
        let is_known = match ours {
            Some(ours) => current.equals(ours),
            None => current.is_null && self.null_values.mean_never_set(),
        };
        // A person's value, or one that a recovered ledger has forgotten.
        let may_be_forgotten = || update.parts.iter().any(|part| part.taken.predates_recovery().is_some() && has(part));
        // A value that the ledger does not know may be the late one of a writer that lost its lease.
        !is_known && (is_asked_for || ours.is_some() || current.value.is_some() || may_be_forgotten())
    }

    async fn read_batch(&self, read: Read<'_>, records: Vec<&RecordRef>, progress: &mut Progress) {
        read.each(self.hubspot, records, |record, result| {
            // What was read before may be older.
            let earlier = progress.values.remove(record).unwrap_or_default();
            match result {
                Ok(Some(object)) => {
                    let values = earlier.into_iter().chain(self.values_of(record, object, read)).collect();
                    progress.values.insert(record.clone(), values);
                }
                Ok(None) => progress.missing.push(record.clone()),
                Err(error) => drop(progress.unread.insert(record.clone(), Unwritten::Failed(error))),
            }
        })
        .await;
    }

    /// Reads the records alone that the batch calls did not find.
    async fn look_up_missing(&self, updates: &[RecordUpdate], progress: &mut Progress) {
        let missing = std::mem::take(&mut progress.missing);
        let (alone, others) = missing.split_at(missing.len().min(MAX_READ_ALONE));
        let names_of = |record: &RecordRef| -> Vec<String> {
            let changes = updates.iter().filter(|update| update.record == *record).flat_map(|update| &update.changes);
            let names: HashSet<_> = changes.map(|change| change.property.clone()).collect();
            names.into_iter().collect()
        };
        let reads = alone.iter().map(|record| {
            let names = names_of(record);
            async move { (record, look_up(self.hubspot, record, &names).await, names) }
        });
        for (record, found, names) in join_all(reads).await {
            let unwritten = match found {
                Ok(Found::There(object)) => {
                    let read = Read { object_type: &record.object_type, names: &names, with_history: true };
                    progress.values.insert(record.clone(), self.values_of(record, object, read).collect());
                    continue;
                }
                Ok(Found::Merged(merged)) => Unwritten::Merged(Arc::new(merged)),
                Err(error) => Unwritten::Failed(Arc::new(error)),
            };
            progress.unread.insert(record.clone(), unwritten);
        }
        progress.unread.extend(others.iter().map(|record| (record.clone(), Unwritten::NotLookedUp)));
    }

    /// The values of the properties that were asked for.
    fn values_of<'r>(
        &'r self,
        record: &'r RecordRef,
        mut object: CrmObject,
        read: Read<'r>,
    ) -> impl Iterator<Item = (String, CurrentValue)> + 'r {
        read.names.iter().map(move |name| {
            let held = object.properties.remove(name);
            let history = object.history.remove(name).unwrap_or_default();
            let was_set = !history.is_empty() || self.latest.value(record, name).is_some_and(|ours| !ours.is_empty());
            // A name that HubSpot does not know is left out.
            if held == Some(None) && was_set {
                self.null_values.refute(record, name);
            }
            let held = held.flatten();
            let is_null = held.is_none();
            let history = if read.with_history { History::Read(history) } else { History::NotNeeded };
            (name.clone(), CurrentValue { value: held.filter(|value| !value.is_empty()), is_null, history })
        })
    }
}

/// What is read of records of one type.
#[derive(Clone, Copy)]
struct Read<'a> {
    object_type: &'a ObjectType,
    names: &'a [String],
    with_history: bool,
}

impl Read<'_> {
    /// Reads records in one call, and tells the result of each: `None` when the call did not find it. A call that one record may
    /// have spoilt is halved until that record is alone.
    async fn each(
        self,
        hubspot: &HubSpotClient,
        records: Vec<&RecordRef>,
        mut tell: impl FnMut(&RecordRef, Result<Option<CrmObject>, Arc<HubSpotError>>),
    ) {
        if records.is_empty() {
            return;
        }
        let finish = |index: usize, result| tell(records[index], result);
        bisect(records.clone(), |records| self.once(hubspot, records), HubSpotError::may_be_one_item, finish).await;
    }

    async fn once(
        self,
        hubspot: &HubSpotClient,
        records: Arc<Vec<&RecordRef>>,
    ) -> Result<Vec<Option<CrmObject>>, HubSpotError> {
        let ids: Vec<_> = records.iter().map(|record| record.object_id).collect();
        drop(records);
        let read = if self.with_history {
            hubspot.read_history(self.object_type, &ids, self.names).await?
        } else {
            hubspot.read_many(self.object_type, &ids, self.names).await?
        };
        let mut found: HashMap<ObjectId, _> = read.into_iter().map(|object| (object.id, object)).collect();
        Ok(ids.iter().map(|id| found.remove(id)).collect())
    }
}

/// Whether a policy depends on who set the value.
fn asks_for_author(policy: WritePolicy) -> bool {
    match policy {
        WritePolicy::UnlessHuman | WritePolicy::IfNewer | WritePolicy::IfEmpty => true,
        WritePolicy::Always | WritePolicy::IfHigher => false,
    }
}

/// Whether an earlier attempt may have written some of the update.
fn was_tried(update: &RecordUpdate) -> bool {
    update.parts.iter().any(|part| part.taken.attempt > 1)
}

/// Whether anything is done to the record itself. A message to a channel is about it and needs no record, and neither
/// does the deletion of a task or note.
fn needs_record(update: &RecordUpdate) -> bool {
    let mut actions = update.parts.iter().flat_map(|part| &part.taken.command.actions);
    !update.changes.is_empty()
        || actions.any(|action| !matches!(action.spec, ActionSpec::Notify { .. } | ActionSpec::DeleteEngagement { .. }))
}
