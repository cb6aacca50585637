//! What became of a record that a batch call does not find: it is gone, it was merged into another one, or it is there all the
//! same. Only a read of this record alone tells.

use std::{collections::BTreeSet, sync::Arc};

use domain::{ObjectId, RecordRef};
use hubspot::{
    HubSpotClient, HubSpotError,
    client::{CrmObject, MERGED_IDS},
};
use ledger::RecordMerge;

/// The most records of a batch that are read alone. When more are missing, the commands of the others come back later: somebody
/// deletes records by the thousand, and each would cost a call.
pub const MAX_READ_ALONE: usize = 20;

/// A record that was read alone.
#[derive(Debug)]
pub enum Found {
    /// It is there; the batch call left it out.
    There(CrmObject),
    /// HubSpot answers with the record that it was merged into.
    Merged(Merged),
}

/// A record that was merged into another one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Merged {
    /// The id of the record that survives.
    pub survivor: ObjectId,
    /// All that HubSpot says was merged into it.
    pub merges: Vec<RecordMerge>,
}

impl Merged {
    /// `record` was merged into the record `survivor`, and so were the records with the ids `others`.
    pub fn into(record: &RecordRef, survivor: ObjectId, others: Vec<ObjectId>) -> Self {
        tracing::info!(%record, %survivor, "the record was merged into another one");
        metrics::counter!("leadline_merged_records_total").increment(1);
        let ids: BTreeSet<_> = others.into_iter().chain([record.object_id]).collect();
        let merge = |old| RecordMerge { old: RecordRef { object_id: old, ..record.clone() }, survivor };
        Self { survivor, merges: ids.into_iter().map(merge).collect() }
    }
}

/// Why nothing was written to a record.
#[derive(Debug, Clone)]
pub enum Unwritten {
    /// HubSpot rejected a call, did not answer, or does not have the record any more.
    Failed(Arc<HubSpotError>),
    /// It was merged into another one.
    Merged(Arc<Merged>),
    /// A batch call did not find it, and it was not read alone, because too many were missing.
    NotLookedUp,
    /// It is there, and the answer to an update of it alone leaves it out.
    LeftOut,
}

/// Reads a record that a batch call did not find, with the properties `names` and their histories.
///
/// # Errors
/// HubSpot does not have it (404), or the call fails.
pub async fn look_up(hubspot: &HubSpotClient, record: &RecordRef, names: &[String]) -> Result<Found, HubSpotError> {
    let properties: Vec<_> = names.iter().cloned().chain([MERGED_IDS.to_owned()]).collect();
    let object = hubspot.read_with_history(&record.object_type, record.object_id, &properties, names).await?;
    if object.id == record.object_id {
        return Ok(Found::There(object));
    }
    Ok(Found::Merged(Merged::into(record, object.id, object.merged_ids())))
}
