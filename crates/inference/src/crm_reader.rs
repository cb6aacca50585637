//! Reads from HubSpot for many events at once: single requests are collected into batch calls of up to a hundred records or a
//! thousand associations.

use std::{
    collections::{HashMap, HashSet},
    hash::Hash,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use batcher::{Batcher, BatcherSettings};
use domain::{ObjectId, ObjectType};
use futures_util::future::try_join_all;
use hubspot::{
    HubSpotClient, HubSpotError,
    client::{Associated, CrmObject, MAX_ASSOCIATION_INPUTS, MAX_BATCH, Operation},
};
use retry::SharedRateLimiter;

use crate::StepError;

/// The most associations of one record that are read. A record with more of them is not one lead but a shared mailbox or a
/// test account.
const MAX_ASSOCIATIONS_PER_RECORD: usize = 2_000;

/// One batcher for each kind of call. Calls of different kinds cannot share a batch.
type Batchers<K, O> = Arc<Mutex<HashMap<K, Batcher<Vec<ObjectId>, O, HubSpotError>>>>;

/// How reads are collected into batch calls.
#[derive(Debug, Clone, Copy)]
pub struct CrmReaderSettings {
    /// How long a batch call waits for more requests.
    pub linger: Duration,
    /// The most batch calls of one kind in flight.
    pub max_in_flight: usize,
}

/// Reads records and their associations. Cheap to clone; clones share their batches.
#[derive(Clone)]
pub struct CrmReader {
    hubspot: HubSpotClient,
    settings: CrmReaderSettings,
    /// By object type and the names of the properties.
    records: Batchers<(ObjectType, Vec<String>), Vec<CrmObject>>,
    /// By the object types of both ends.
    associations: Batchers<(ObjectType, ObjectType), Vec<Associated>>,
}

impl CrmReader {
    /// A reader whose calls `hubspot` makes.
    pub fn new(hubspot: HubSpotClient, settings: CrmReaderSettings) -> Self {
        Self { hubspot, settings, records: Arc::default(), associations: Arc::default() }
    }

    /// A reader with the same settings whose calls another rate limiter admits. It has batches of its own.
    #[must_use]
    pub fn with_rate_limiter(&self, rate_limiter: SharedRateLimiter) -> Self {
        Self::new(self.hubspot.with_rate_limiter(rate_limiter), self.settings)
    }

    /// Reads one record with the named properties.
    ///
    /// # Errors
    /// With [`retry::RetryAction::Discard`] when the record no longer exists.
    pub async fn one(
        &self,
        object_type: &ObjectType,
        id: ObjectId,
        properties: &[String],
    ) -> Result<CrmObject, StepError> {
        if let Some(object) = self.many(object_type, vec![id], properties).await?.pop() {
            return Ok(object);
        }
        // A batch call leaves missing records out. A single read says why, or returns the record that this one was merged into.
        Ok(Box::pin(self.hubspot.read(object_type, id, properties)).await?)
    }

    /// Reads records with the named properties, in the order of `ids`; missing ones are left out.
    pub async fn many(
        &self,
        object_type: &ObjectType,
        ids: Vec<ObjectId>,
        properties: &[String],
    ) -> Result<Vec<CrmObject>, StepError> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let key = (object_type.clone(), properties.to_vec());
        let read = |hubspot, (object_type, properties): (ObjectType, Vec<String>), requests: Arc<Vec<_>>| async move {
            read_records(&hubspot, &object_type, &properties, &requests).await
        };
        Ok(self
            .batcher(&self.records, key, ("read records", MAX_BATCH, Operation::BatchReadObjects), read)
            .submit(ids)
            .await?)
    }

    /// The `to` records that any of `ids` is associated with.
    pub async fn associated(
        &self,
        from: &ObjectType,
        ids: Vec<ObjectId>,
        to: &ObjectType,
    ) -> Result<Vec<Associated>, StepError> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let key = (from.clone(), to.clone());
        let read = |hubspot, (from, to): (ObjectType, ObjectType), requests: Arc<Vec<_>>| async move {
            read_associations(&hubspot, &from, &to, &requests).await
        };
        // As many as HubSpot takes: these calls have a limit of their own, lower than that of all calls. The answer grows with their
        // number, but it is bounded (`hubspot.max_response_bytes`), and a batch whose answer is longer is halved.
        let max = MAX_ASSOCIATION_INPUTS;
        let batcher =
            self.batcher(&self.associations, key, ("read associations", max, Operation::BatchReadAssociations), read);
        Ok(batcher.submit(ids).await?)
    }

    /// The batcher for `key`, which is started at its first use. There are few keys: playbooks name a handful of object
    /// types and lists of properties.
    fn batcher<K, O, F, Fut>(
        &self,
        batchers: &Batchers<K, O>,
        key: K,
        (name, max, operation): (&'static str, usize, Operation),
        read: F,
    ) -> Batcher<Vec<ObjectId>, O, HubSpotError>
    where
        K: Clone + Eq + Hash + Send + Sync + 'static,
        O: Send + 'static,
        F: Fn(HubSpotClient, K, Arc<Vec<Vec<ObjectId>>>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Vec<O>, HubSpotError>> + Send + 'static,
    {
        let mut batchers = batchers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(batcher) = batchers.get(&key) {
            return batcher.clone();
        }
        let limits = BatcherSettings {
            name,
            max,
            linger: self.settings.linger,
            extra_linger: Some(self.hubspot.extra_linger(operation)),
            max_in_flight: self.settings.max_in_flight,
            long: None,
        };
        // The limit of a call is on ids, and a request can contain several.
        let weigh = |ids: &Vec<ObjectId>| ids.len();
        let (hubspot, of) = (self.hubspot.clone(), key.clone());
        let read = move |requests| read(hubspot.clone(), of.clone(), requests);
        let batcher = Batcher::start_weighted(limits, weigh, read, HubSpotError::may_be_one_item);
        batchers.insert(key, batcher.clone());
        batcher
    }
}

/// The found records of each request, in the order of its ids.
async fn read_records(
    hubspot: &HubSpotClient,
    object_type: &ObjectType,
    properties: &[String],
    requests: &[Vec<ObjectId>],
) -> Result<Vec<Vec<CrmObject>>, HubSpotError> {
    let ids = distinct(requests);
    let reads = try_join_all(ids.chunks(MAX_BATCH).map(|ids| hubspot.read_many(object_type, ids, properties))).await?;
    let found: HashMap<_, _> = reads.into_iter().flatten().map(|object| (object.id, object)).collect();
    let of = |ids: &Vec<ObjectId>| ids.iter().filter_map(|id| found.get(id)).cloned().collect();
    Ok(requests.iter().map(of).collect())
}

/// The associations of all records of each request.
async fn read_associations(
    hubspot: &HubSpotClient,
    from: &ObjectType,
    to: &ObjectType,
    requests: &[Vec<ObjectId>],
) -> Result<Vec<Vec<Associated>>, HubSpotError> {
    let ids = distinct(requests);
    let associated = hubspot.associated(from, &ids, to, MAX_ASSOCIATIONS_PER_RECORD).await?;
    let of = |ids: &Vec<ObjectId>| ids.iter().filter_map(|id| associated.get(id)).flatten().copied().collect();
    Ok(requests.iter().map(of).collect())
}

fn distinct(requests: &[Vec<ObjectId>]) -> Vec<ObjectId> {
    let ids: HashSet<_> = requests.iter().flatten().copied().collect();
    ids.into_iter().collect()
}
