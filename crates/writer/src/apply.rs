//! Putting updates into HubSpot: PATCH for one, batch update for many, and one bad record never costs its neighbours
//! their write.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use domain::{ObjectId, ObjectType, RecordRef};
use hubspot::{
    Client, Error,
    client::{MAX_BATCH, Update},
};

use crate::plan::RecordUpdate;

/// What became of each record's update.
pub type Applied = HashMap<RecordRef, Result<(), Arc<Error>>>;

/// What records held before, by property. A record that is missing was not found.
pub type Before = HashMap<RecordRef, HashMap<String, Option<String>>>;

/// Reads what the updates are about to overwrite.
pub async fn read_before(hubspot: &Client, updates: &[RecordUpdate]) -> Result<Before, Error> {
    let mut before = Before::new();
    for (object_type, updates) in by_type(updates) {
        let ids: Vec<_> = updates.iter().map(|update| update.record.object_id).collect();
        let names: HashSet<_> = updates.iter().flat_map(|update| &update.changes).map(|c| c.property.clone()).collect();
        let names: Vec<_> = names.into_iter().collect();
        let found = hubspot.read_many(object_type, &ids, &names).await?.found;
        let found: HashMap<ObjectId, _> = found.into_iter().map(|object| (object.id, object.properties)).collect();
        for update in updates {
            if let Some(properties) = found.get(&update.record.object_id) {
                before.insert(update.record.clone(), properties.clone().into_iter().collect());
            }
        }
    }
    Ok(before)
}

/// Applies the updates and says for each record what became of it.
pub async fn apply(hubspot: &Client, updates: &[RecordUpdate]) -> Applied {
    let mut applied = Applied::new();
    for (object_type, updates) in by_type(updates) {
        for part in updates.chunks(MAX_BATCH) {
            apply_some(hubspot, object_type, part, &mut applied).await;
        }
    }
    applied
}

fn by_type(updates: &[RecordUpdate]) -> HashMap<&ObjectType, Vec<&RecordUpdate>> {
    let mut groups: HashMap<&ObjectType, Vec<&RecordUpdate>> = HashMap::new();
    for update in updates {
        groups.entry(&update.record.object_type).or_default().push(update);
    }
    groups
}

async fn apply_some(hubspot: &Client, object_type: &ObjectType, updates: &[&RecordUpdate], applied: &mut Applied) {
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
                        metrics::counter!("leadline_batch_left_out_total").increment(1);
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

fn one_may_be_to_blame(error: &Error) -> bool {
    // 413: the batch as a whole may be too long.
    matches!(error, Error::Api(error) if error.is_validation() || error.http_status == 413)
}

fn wire(update: &RecordUpdate) -> Update<'_> {
    Update { id: update.record.object_id, changes: &update.changes }
}
