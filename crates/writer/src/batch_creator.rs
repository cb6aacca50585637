//! Tasks and notes, made many at a time: one call of HubSpot's limit for up to a hundred.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use batcher::{Batcher, BatcherError, BatcherSettings};
use domain::{ActionId, ObjectId, ObjectType, write_command::marker_in};
use hubspot::{
    HubSpotClient, HubSpotError,
    client::{MAX_BATCH, NewObject},
};

/// Actions of one batch of write commands begin within moments of each other.
const WINDOW: Duration = Duration::from_millis(10);

/// Calls at once, of each kind.
const PARALLEL: usize = 2;

/// One object to be made.
#[derive(Debug, Clone)]
struct Creation {
    id: ActionId,
    object: NewObject,
    not_after: Instant,
}

/// Makes objects of one kind.
#[derive(Clone)]
pub struct BatchCreator(Batcher<Creation, Option<ObjectId>, HubSpotError>);

impl BatchCreator {
    /// Makes objects of `kind`, whose marker stands in the property `body`.
    pub fn of(hubspot: &HubSpotClient, kind: ObjectType, body: &'static str) -> Self {
        let limits = BatcherSettings {
            max: MAX_BATCH,
            window: WINDOW,
            extra_linger: Some(hubspot.extra_linger()),
            parallel: PARALLEL,
        };
        let hubspot = hubspot.clone();
        let make = move |creations: Arc<Vec<Creation>>| {
            let (hubspot, kind) = (hubspot.clone(), kind.clone());
            async move { make(&hubspot, &kind, body, &creations).await }
        };
        let one_may_be_to_blame =
            |error: &HubSpotError| error.api().is_some_and(hubspot::client::HubSpotApiError::is_validation);
        Self(Batcher::start(limits, make, one_may_be_to_blame))
    }

    /// Makes one, unless `not_after` has passed by the time it could be sent. `None`: HubSpot does not say that it was
    /// made.
    pub async fn make(
        &self,
        id: ActionId,
        object: NewObject,
        not_after: Instant,
    ) -> Result<Option<ObjectId>, BatcherError<HubSpotError>> {
        self.0.ask(Creation { id, object, not_after }).await
    }
}

async fn make(
    hubspot: &HubSpotClient,
    kind: &ObjectType,
    body: &str,
    creations: &[Creation],
) -> Result<Vec<Option<ObjectId>>, HubSpotError> {
    let objects: Vec<_> = creations.iter().map(|creation| &creation.object).collect();
    let not_after = creations.iter().map(|creation| creation.not_after).min().unwrap_or_else(Instant::now);
    let made = hubspot.create_many(kind, &objects, not_after).await?;
    // By their markers: HubSpot answers in an order of its own.
    let marked = made.into_iter().filter_map(|object| {
        let text = object.properties.get(body).and_then(Option::as_deref)?;
        Some((marker_in(text)?, object.id))
    });
    let marked: HashMap<_, _> = marked.collect();
    Ok(creations.iter().map(|creation| marked.get(&creation.id).copied()).collect())
}
