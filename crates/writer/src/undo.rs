//! Takes back what actions did: deletes a task or note that nobody has changed since it was made, and counts the properties that were
//! put back.

use std::{collections::HashMap, sync::Arc, time::Duration};

use batcher::{Batcher, BatcherError, BatcherSettings};
use domain::{ObjectId, ObjectType};
use hubspot::{
    HubSpotClient, HubSpotError,
    client::{CrmObject, MAX_HISTORY_BATCH, Operation, origin},
};
use ledger::{SkippedWrite, WrittenProperty};

use crate::engagements::body_of;

/// How long a batch waits for more tasks or notes. The actions of one batch of write commands begin within milliseconds of each
/// other.
const LINGER: Duration = Duration::from_millis(10);

/// Calls under way at once, for each object type.
const MAX_IN_FLIGHT: usize = 2;

/// What became of a task or note that was to be deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Removal {
    /// It is deleted, now or before.
    Gone,
    /// It stays: a person has changed it, or may have.
    ChangedByPerson,
}

/// Deletes tasks and notes, in batches.
#[derive(Clone)]
pub struct EngagementRemover {
    tasks: Batcher<ObjectId, Removal, HubSpotError>,
    notes: Batcher<ObjectId, Removal, HubSpotError>,
}

impl EngagementRemover {
    /// Starts the batches in which `hubspot` reads and deletes.
    pub fn start(hubspot: &HubSpotClient) -> Self {
        Self { tasks: batches(hubspot, ObjectType::Task), notes: batches(hubspot, ObjectType::Note) }
    }

    /// Deletes a task or note unless a person has changed it. HubSpot keeps it in the recycling bin. To do it again does no harm.
    pub async fn remove(&self, kind: &ObjectType, id: ObjectId) -> Result<Removal, BatcherError<HubSpotError>> {
        let batches = if *kind == ObjectType::Task { &self.tasks } else { &self.notes };
        batches.submit(id).await
    }
}

fn batches(hubspot: &HubSpotClient, kind: ObjectType) -> Batcher<ObjectId, Removal, HubSpotError> {
    let limits = BatcherSettings {
        name: "delete engagements",
        max: MAX_HISTORY_BATCH,
        linger: LINGER,
        extra_linger: Some(hubspot.extra_linger(Operation::BatchArchiveObjects)),
        max_in_flight: MAX_IN_FLIGHT,
        long: None,
    };
    let hubspot = hubspot.clone();
    let remove = move |ids: Arc<Vec<ObjectId>>| {
        let (hubspot, kind) = (hubspot.clone(), kind.clone());
        async move { remove_many(&hubspot, &kind, &ids).await }
    };
    Batcher::start(limits, remove, HubSpotError::may_be_one_item)
}

async fn remove_many(
    hubspot: &HubSpotClient,
    kind: &ObjectType,
    ids: &[ObjectId],
) -> Result<Vec<Removal>, HubSpotError> {
    let removals = look(hubspot, kind, ids).await?;
    let deletable = |id: &ObjectId| removals.get(id) == Some(&Removal::Gone);
    let mut to_delete: Vec<_> = ids.iter().copied().filter(deletable).collect();
    to_delete.sort_unstable();
    to_delete.dedup();
    if !to_delete.is_empty() {
        hubspot.archive_many(kind, &to_delete).await?;
    }
    Ok(ids.iter().map(|id| removals.get(id).copied().unwrap_or(Removal::Gone)).collect())
}

/// What a deletion of tasks or notes would come to. One that is not there (any more) is left out.
///
/// # Errors
/// A call fails.
pub async fn look(
    hubspot: &HubSpotClient,
    kind: &ObjectType,
    ids: &[ObjectId],
) -> Result<HashMap<ObjectId, Removal>, HubSpotError> {
    let names: Vec<_> = what_people_change(kind).iter().map(|name| (*name).to_owned()).collect();
    let mut ids = ids.to_vec();
    ids.sort_unstable();
    ids.dedup();
    let found = hubspot.read_history(kind, &ids, &names).await?;
    let removal = |object: &CrmObject| {
        if may_be_changed(kind, object) { Removal::ChangedByPerson } else { Removal::Gone }
    };
    Ok(found.iter().map(|object| (object.id, removal(object))).collect())
}

fn what_people_change(kind: &ObjectType) -> &'static [&'static str] {
    if *kind == ObjectType::Task {
        &[
            "hs_task_body",
            "hs_task_subject",
            "hs_task_status",
            "hs_task_priority",
            "hs_task_type",
            "hs_timestamp",
            "hubspot_owner_id",
        ]
    } else {
        &["hs_note_body", "hs_timestamp", "hubspot_owner_id"]
    }
}

/// Whether a person stands behind any of its values, or may. Of the text the fleet is the first author, so that one without a
/// history may be anybody's.
fn may_be_changed(kind: &ObjectType, object: &CrmObject) -> bool {
    let is_persons = |name: &&str| {
        let history = object.history.get(*name).map_or(&[][..], Vec::as_slice);
        match origin(history) {
            Some(set) => set.author().may_be_person(),
            None => *name == body_of(kind),
        }
    };
    what_people_change(kind).iter().any(is_persons)
}

/// Counts the properties of a command that takes back what an earlier one wrote.
pub fn count_properties(written: &[WrittenProperty], skipped: &[SkippedWrite]) {
    let count = |outcome: &'static str, properties: usize| {
        metrics::counter!("leadline_undone_properties_total", "outcome" => outcome)
            .increment(u64::try_from(properties).unwrap_or(u64::MAX));
    };
    if !written.is_empty() {
        count("restored", written.len());
    }
    for write in skipped {
        count(write.reason.as_str(), 1);
    }
}
