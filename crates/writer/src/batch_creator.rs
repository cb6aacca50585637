//! Creates tasks and notes in batches: one call, up to 100 objects, counts once against HubSpot's rate limit.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use batcher::{Batcher, BatcherError, BatcherSettings};
use domain::{ActionId, ObjectId, ObjectType, write_command::marker_in};
use hubspot::{
    HubSpotClient, HubSpotError,
    client::{MAX_BATCH, NewObject, Operation},
};

/// How long a batch waits for more objects. The actions of one batch of write commands begin within milliseconds of each
/// other.
const LINGER: Duration = Duration::from_millis(10);

/// Calls under way at once, for each object type.
const MAX_IN_FLIGHT: usize = 2;

/// One object to create.
#[derive(Debug, Clone)]
struct CreateRequest {
    id: ActionId,
    object: NewObject,
    not_after: Instant,
}

/// Creates objects of one type.
#[derive(Clone)]
pub struct BatchCreator(Batcher<CreateRequest, Option<ObjectId>, HubSpotError>);

impl BatchCreator {
    /// Creates objects of `kind`, whose property `body` contains the action's marker.
    pub fn start(hubspot: &HubSpotClient, kind: ObjectType, body: &'static str) -> Self {
        let limits = BatcherSettings {
            name: "create engagements",
            max: MAX_BATCH,
            linger: LINGER,
            extra_linger: Some(hubspot.extra_linger(Operation::BatchCreateObjects)),
            max_in_flight: MAX_IN_FLIGHT,
            long: None,
        };
        let hubspot = hubspot.clone();
        let create = move |requests: Arc<Vec<CreateRequest>>| {
            let (hubspot, kind) = (hubspot.clone(), kind.clone());
            async move { create_many(&hubspot, &kind, body, &requests).await }
        };
        Self(Batcher::start(limits, create, HubSpotError::may_be_one_item))
    }

    /// Creates one object and returns its id. It is not sent after `not_after`. Returns `None` when HubSpot's answer does not
    /// contain the object: it may or may not exist.
    pub async fn create(
        &self,
        id: ActionId,
        object: NewObject,
        not_after: Instant,
    ) -> Result<Option<ObjectId>, BatcherError<HubSpotError>> {
        self.0.submit(CreateRequest { id, object, not_after }).await
    }
}

async fn create_many(
    hubspot: &HubSpotClient,
    kind: &ObjectType,
    body: &str,
    requests: &[CreateRequest],
) -> Result<Vec<Option<ObjectId>>, HubSpotError> {
    let objects: Vec<_> = requests.iter().map(|request| &request.object).collect();
    let not_after = requests.iter().map(|request| request.not_after).min().unwrap_or_else(Instant::now);
    let created = hubspot.create_many(kind, &objects, not_after).await?;
    // HubSpot's answer is in no particular order, so the markers say which object belongs to which request.
    let marked = created.into_iter().filter_map(|object| {
        let text = object.properties.get(body).and_then(Option::as_deref)?;
        Some((marker_in(text)?, object.id))
    });
    let ids: HashMap<_, _> = marked.collect();
    Ok(requests.iter().map(|request| ids.get(&request.id).copied()).collect())
}
