//! Reading from HubSpot for many events at once: what each asks for alone is asked for together, a hundred records or a
//! thousand associations in a call.

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
    client::{Associated, CrmObject, HubSpotApiError, MAX_BATCH},
};
use retry::SharedRateLimiter;

use crate::StepError;

/// No record's associations are followed beyond this many; who has more notes is no longer one lead.
const MAX_TIES: usize = 2_000;

/// Records that associations are asked for in one go; the answer grows with it.
const TIES_AT_ONCE: usize = 300;

/// Records by kind and properties, and associations by both their ends: each has a line of its own.
type Lines<K, O> = Arc<Mutex<HashMap<K, Batcher<Vec<ObjectId>, O, HubSpotError>>>>;

/// Reads records and their associations. Cheap to clone; clones share what they gather.
#[derive(Clone)]
pub struct CrmReader {
    hubspot: HubSpotClient,
    window: Duration,
    parallel: usize,
    records: Lines<(ObjectType, Vec<String>), Vec<CrmObject>>,
    associations: Lines<(ObjectType, ObjectType), Vec<Associated>>,
}

impl CrmReader {
    /// Reads with `hubspot`, and gathers as the settings say.
    pub fn new(hubspot: HubSpotClient, settings: &settings::HubSpotSection) -> Self {
        Self {
            hubspot,
            window: Duration::from_millis(settings.batch_linger_ms),
            parallel: settings.parallel_reads,
            records: Arc::default(),
            associations: Arc::default(),
        }
    }

    /// A crm reader of its own that gathers alike, whose calls need another one's leave.
    #[must_use]
    pub fn with_rate_limiter(&self, rate_limiter: SharedRateLimiter) -> Self {
        Self {
            hubspot: self.hubspot.with_rate_limiter(rate_limiter),
            records: Arc::default(),
            associations: Arc::default(),
            ..self.clone()
        }
    }

    /// Reads one record with the named properties. A record that is gone is an error with [`retry::RetryAction::Discard`].
    pub async fn one(&self, kind: &ObjectType, id: ObjectId, properties: &[String]) -> Result<CrmObject, StepError> {
        if let Some(object) = self.many(kind, vec![id], properties).await?.pop() {
            return Ok(object);
        }
        // Missing in a batch: asked for alone, HubSpot says why, or gives the record that it was merged into.
        Ok(Box::pin(self.hubspot.read(kind, id, properties)).await?)
    }

    /// Reads records with the named properties, in the order of `ids`; missing ones are left out.
    pub async fn many(
        &self,
        kind: &ObjectType,
        ids: Vec<ObjectId>,
        properties: &[String],
    ) -> Result<Vec<CrmObject>, StepError> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let key = (kind.clone(), properties.to_vec());
        let line = self.line(&self.records, key, MAX_BATCH, |hubspot, (kind, properties), asked| async move {
            read(&hubspot, &kind, &properties, &asked).await
        });
        Ok(line.submit(ids).await?)
    }

    /// The `to` records that any of `ids` is associated to.
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
        let line = self.line(
            &self.associations,
            key,
            TIES_AT_ONCE,
            |hubspot, (from, to), asked: Arc<Vec<Vec<ObjectId>>>| async move {
                let ids: Vec<_> = distinct(&asked);
                let associated = hubspot.associated(&from, &ids, &to, MAX_TIES).await?;
                let of =
                    |ids: &Vec<ObjectId>| ids.iter().filter_map(|id| associated.get(id)).flatten().copied().collect();
                Ok(asked.iter().map(of).collect())
            },
        );
        Ok(line.submit(ids).await?)
    }

    /// The line for a key; a new one at its first use. Playbooks name a handful of them.
    fn line<K, O, F, Fut>(
        &self,
        lines: &Lines<K, O>,
        key: K,
        max: usize,
        ask: F,
    ) -> Batcher<Vec<ObjectId>, O, HubSpotError>
    where
        K: Clone + Eq + Hash + Send + Sync + 'static,
        O: Send + 'static,
        F: Fn(HubSpotClient, K, Arc<Vec<Vec<ObjectId>>>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Vec<O>, HubSpotError>> + Send + 'static,
    {
        let mut lines = lines.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(line) = lines.get(&key) {
            return line.clone();
        }
        let limits = BatcherSettings {
            max,
            linger: self.window,
            extra_linger: Some(self.hubspot.extra_linger()),
            max_in_flight: self.parallel,
        };
        let (hubspot, of) = (self.hubspot.clone(), key.clone());
        let one_may_be_to_blame = |error: &HubSpotError| error.api().is_some_and(HubSpotApiError::is_validation);
        // A call has room for so many ids, whoever asks for them.
        let weigh = |ids: &Vec<ObjectId>| ids.len();
        let ask = move |asked| ask(hubspot.clone(), of.clone(), asked);
        let line = Batcher::start_weighted(limits, weigh, ask, one_may_be_to_blame);
        lines.insert(key, line.clone());
        line
    }
}

async fn read(
    hubspot: &HubSpotClient,
    kind: &ObjectType,
    properties: &[String],
    asked: &[Vec<ObjectId>],
) -> Result<Vec<Vec<CrmObject>>, HubSpotError> {
    let ids = distinct(asked);
    let reads = try_join_all(ids.chunks(MAX_BATCH).map(|ids| hubspot.read_many(kind, ids, properties))).await?;
    let found: HashMap<_, _> =
        reads.into_iter().flat_map(|read| read.found).map(|object| (object.id, object)).collect();
    let of = |ids: &Vec<ObjectId>| ids.iter().filter_map(|id| found.get(id)).cloned().collect();
    Ok(asked.iter().map(of).collect())
}

fn distinct(asked: &[Vec<ObjectId>]) -> Vec<ObjectId> {
    let ids: HashSet<_> = asked.iter().flatten().copied().collect();
    ids.into_iter().collect()
}
