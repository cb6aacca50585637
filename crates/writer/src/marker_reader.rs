//! Reads the markers in the tasks and notes of many records together: after a recovery nearly every action is looked for, and
//! HubSpot's association endpoints have a low limit of their own.

use std::{collections::HashMap, sync::Arc, time::Duration};

use batcher::{Batcher, BatcherError, BatcherSettings};
use domain::{ActionId, ObjectId, ObjectType, RecordRef, write_command::marker_in};
use hubspot::{
    HubSpotClient, HubSpotError,
    client::{CrmObject, MAX_BATCH},
};
use time::OffsetDateTime;

use crate::engagements::body_of;

/// How long a batch waits for more records. The actions of one batch of write commands begin within milliseconds of each other.
const LINGER: Duration = Duration::from_millis(10);

/// Batches under way at once.
const MAX_IN_FLIGHT: usize = 4;

/// How many of a record's newest tasks or notes are read.
const MAX_SEARCHED: usize = 300;

/// How many associations of a record are read to find its newest tasks or notes.
const MAX_ASSOCIATIONS: usize = 5_000;

/// A task or note that carries the marker of an action.
#[derive(Debug, Clone, Copy)]
pub struct Marked {
    /// The action.
    pub action: ActionId,
    /// The task or note.
    pub id: ObjectId,
    /// When it was created, as far as HubSpot says.
    pub created_at: Option<OffsetDateTime>,
}

/// The tasks or the notes of a record.
#[derive(Debug, Clone)]
struct EngagementsOf {
    record: RecordRef,
    kind: ObjectType,
}

/// Reads markers.
pub struct MarkerReader(Batcher<EngagementsOf, Vec<Marked>, HubSpotError>);

impl MarkerReader {
    /// Starts the batches in which `hubspot` reads.
    pub fn start(hubspot: &HubSpotClient) -> Self {
        let limits = BatcherSettings {
            name: "read markers",
            max: MAX_BATCH,
            linger: LINGER,
            extra_linger: None,
            max_in_flight: MAX_IN_FLIGHT,
            long: None,
        };
        let hubspot = hubspot.clone();
        let read = move |wanted: Arc<Vec<EngagementsOf>>| {
            let hubspot = hubspot.clone();
            async move { read_many(&hubspot, &wanted).await }
        };
        Self(Batcher::start(limits, read, HubSpotError::may_be_one_item))
    }

    /// The tasks or notes (`kind`) of a record that carry markers. HubSpot's search lags by seconds, so its associations are read.
    ///
    /// # Errors
    /// A call fails.
    pub async fn of(&self, record: &RecordRef, kind: &ObjectType) -> Result<Vec<Marked>, BatcherError<HubSpotError>> {
        self.0.submit(EngagementsOf { record: record.clone(), kind: kind.clone() }).await
    }
}

async fn read_many(hubspot: &HubSpotClient, wanted: &[EngagementsOf]) -> Result<Vec<Vec<Marked>>, HubSpotError> {
    let mut groups: HashMap<(&ObjectType, &ObjectType), Vec<usize>> = HashMap::new();
    for (index, of) in wanted.iter().enumerate() {
        groups.entry((&of.record.object_type, &of.kind)).or_default().push(index);
    }
    let mut marked = vec![Vec::new(); wanted.len()];
    for ((from, kind), members) in groups {
        let mut records: Vec<_> = members.iter().map(|index| wanted[*index].record.object_id).collect();
        records.sort_unstable();
        records.dedup();
        let newest = newest_of(hubspot, from, &records, kind).await?;
        let mut ids: Vec<_> = newest.values().flatten().copied().collect();
        ids.sort_unstable();
        ids.dedup();
        let with_markers = markers(hubspot, kind, &ids).await?;
        for index in members {
            let ids = newest.get(&wanted[index].record.object_id).into_iter().flatten();
            marked[index] = ids.filter_map(|id| with_markers.get(id)).copied().collect();
        }
    }
    Ok(marked)
}

/// The newest tasks or notes of each record.
async fn newest_of(
    hubspot: &HubSpotClient,
    from: &ObjectType,
    records: &[ObjectId],
    kind: &ObjectType,
) -> Result<HashMap<ObjectId, Vec<ObjectId>>, HubSpotError> {
    let associated = hubspot.associated(from, records, kind, MAX_ASSOCIATIONS).await?;
    let newest = associated.into_iter().map(|(record, associated)| {
        let mut ids: Vec<_> = associated.into_iter().map(|associate| associate.id).collect();
        // HubSpot's ids grow with time.
        ids.sort_unstable_by(|a, b| b.cmp(a));
        ids.truncate(MAX_SEARCHED);
        (record, ids)
    });
    Ok(newest.collect())
}

async fn markers(
    hubspot: &HubSpotClient,
    kind: &ObjectType,
    ids: &[ObjectId],
) -> Result<HashMap<ObjectId, Marked>, HubSpotError> {
    let body = body_of(kind);
    let marked = |object: CrmObject| {
        let text = object.properties.get(body).and_then(Option::as_deref).unwrap_or_default();
        let marked = Marked { action: marker_in(text)?, id: object.id, created_at: object.created_at };
        Some((object.id, marked))
    };
    let mut found = HashMap::new();
    for ids in ids.chunks(MAX_BATCH) {
        found.extend(hubspot.read_many(kind, ids, &[body.to_owned()]).await?.into_iter().filter_map(marked));
    }
    Ok(found)
}
