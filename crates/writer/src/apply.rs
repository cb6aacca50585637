//! Writes updates to HubSpot: a PATCH for one record, a batch update for several. A bad value of one record never keeps the
//! other records of a batch from being written.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

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
        let is_rejected = result.as_ref().is_err_and(|error| may_concern_one_record(error));
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
    let mut pending = vec![updates];
    while let Some(updates) = pending.pop() {
        if let [single] = updates {
            let result = hubspot.update(object_type, &object_update(single)).await.map_err(Arc::new);
            results.insert(single.record.clone(), result);
            continue;
        }
        let bodies: Vec<_> = updates.iter().map(|update| object_update(update)).collect();
        match hubspot.update_many(object_type, &bodies).await {
            Ok(answer) => {
                // A record that is not among the results was not written, whatever the status code says. A call for
                // this record alone returns HubSpot's reason.
                let written: HashSet<_> = answer.written.into_iter().collect();
                for update in updates {
                    if written.contains(&update.record.object_id) {
                        results.insert(update.record.clone(), Ok(()));
                    } else {
                        metrics::counter!("leadline_batch_missing_results_total").increment(1);
                        pending.push(std::slice::from_ref(update));
                    }
                }
            }
            Err(error) if may_concern_one_record(&error) => {
                metrics::counter!("leadline_batch_bisected_total").increment(1);
                let (first, second) = updates.split_at(updates.len() / 2);
                pending.extend([second, first]);
            }
            Err(error) => {
                let error = Arc::new(error);
                results.extend(updates.iter().map(|update| (update.record.clone(), Err(error.clone()))));
            }
        }
    }
}

/// Whether one record of a batch may be the cause. After 413 (too large) a smaller batch may be accepted.
fn may_concern_one_record(error: &HubSpotError) -> bool {
    matches!(error, HubSpotError::Api(error) if error.is_validation() || error.http_status == 413)
}

fn object_update(update: &RecordUpdate) -> ObjectUpdate<'_> {
    ObjectUpdate { id: update.record.object_id, changes: &update.changes }
}
