//! Writes updates to HubSpot: a PATCH for one record, a batch update for several. A bad value of one record never keeps the
//! other records of a batch from being written.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use batcher::bisect;
use domain::{ObjectType, RecordRef, WriteCommandId};
use hubspot::{
    HubSpotClient, HubSpotError,
    client::{MAX_BATCH, ObjectUpdate},
};

use crate::plan::{self, CommandPart, RecordUpdate};

/// The result of each command's part of the updates.
pub type CommandResults = HashMap<WriteCommandId, Result<(), Arc<HubSpotError>>>;

/// The result of each record's update.
type RecordResults = HashMap<RecordRef, Result<(), Arc<HubSpotError>>>;

/// Writes the updates and returns the result for each command.
///
/// When several commands make one record's update and HubSpot rejects a value in it, each command is written on its own:
/// the bad value of one playbook keeps no other from being written.
pub async fn apply(hubspot: &HubSpotClient, updates: &[RecordUpdate]) -> CommandResults {
    let mut written = write_records(hubspot, updates).await;
    let mut results = CommandResults::new();
    for update in updates {
        let Some(result) = written.remove(&update.record) else { continue };
        let is_rejected = result.as_ref().is_err_and(|error| error.may_be_one_item());
        for part in &update.parts {
            let result = if is_rejected && update.parts.len() > 1 {
                write_part(hubspot, update, part).await
            } else {
                result.clone()
            };
            results.insert(part.taken.command.id, result);
        }
    }
    results
}

/// Writes one command's part of a record's update.
async fn write_part(
    hubspot: &HubSpotClient,
    update: &RecordUpdate,
    part: &CommandPart,
) -> Result<(), Arc<HubSpotError>> {
    if part.changes.is_empty() {
        return Ok(());
    }
    let body = ObjectUpdate { id: update.record.object_id, changes: &part.changes };
    hubspot.update(&update.record.object_type, &body).await.map_err(Arc::new)
}

async fn write_records(hubspot: &HubSpotClient, updates: &[RecordUpdate]) -> RecordResults {
    let mut results = RecordResults::new();
    // Nothing to set: the commands hold only actions, or every value is there already or is left by its policy.
    let (unchanged, changed): (Vec<_>, Vec<_>) = updates.iter().partition(|update| update.changes.is_empty());
    results.extend(unchanged.into_iter().map(|update| (update.record.clone(), Ok(()))));
    for (object_type, updates) in plan::by_object_type(changed) {
        for batch in updates.chunks(MAX_BATCH) {
            write_batch(hubspot, object_type, batch, &mut results).await;
        }
    }
    results
}

/// Writes up to [`MAX_BATCH`] records of one type. HubSpot rejects a whole batch because of one bad value, so a rejected
/// batch is halved until the bad record is alone.
async fn write_batch(
    hubspot: &HubSpotClient,
    object_type: &ObjectType,
    updates: &[&RecordUpdate],
    results: &mut RecordResults,
) {
    let mut missing = Vec::new();
    let finish = |index: usize, result| {
        let update: &RecordUpdate = updates[index];
        match result {
            Ok(true) => drop(results.insert(update.record.clone(), Ok(()))),
            Ok(false) => missing.push(update),
            Err(error) => drop(results.insert(update.record.clone(), Err(error))),
        }
    };
    bisect(updates.to_vec(), |batch| write_once(hubspot, object_type, batch), HubSpotError::may_be_one_item, finish)
        .await;
    // A record that is not among the results was not written, whatever the status code says. A call for this record alone
    // returns HubSpot's reason.
    for update in missing {
        metrics::counter!("leadline_batch_missing_results_total").increment(1);
        let result = hubspot.update(object_type, &object_update(update)).await.map_err(Arc::new);
        results.insert(update.record.clone(), result);
    }
}

/// Makes one call. Returns for each record whether it is among the results.
async fn write_once(
    hubspot: &HubSpotClient,
    object_type: &ObjectType,
    updates: Arc<Vec<&RecordUpdate>>,
) -> Result<Vec<bool>, HubSpotError> {
    if let [single] = updates[..] {
        hubspot.update(object_type, &object_update(single)).await?;
        return Ok(vec![true]);
    }
    let bodies: Vec<_> = updates.iter().map(|update| object_update(update)).collect();
    let written = hubspot.update_many(object_type, &bodies).await.inspect_err(|error| {
        if error.may_be_one_item() {
            metrics::counter!("leadline_batch_bisected_total").increment(1);
        }
    })?;
    let written: HashSet<_> = written.into_iter().collect();
    Ok(updates.iter().map(|update| written.contains(&update.record.object_id)).collect())
}

fn object_update(update: &RecordUpdate) -> ObjectUpdate<'_> {
    ObjectUpdate { id: update.record.object_id, changes: &update.changes }
}
