//! Moves a deal to another stage of its pipeline, but never out of a closed stage.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use domain::{
    ObjectType, Reason, RecordRef,
    write_command::{PropertyChange, WritePolicy},
};
use hubspot::{
    HubSpotClient, HubSpotError,
    client::{ObjectUpdate, Pipeline, PipelineStage},
};
use ledger::WrittenProperty;
use tokio::sync::Mutex;

/// The property that holds a deal's stage.
pub const STAGE: &str = "dealstage";

/// The property that holds a deal's pipeline.
const PIPELINE: &str = "pipeline";

/// The result of a move.
pub enum DealMove {
    /// The deal is in the stage, by this write or by an earlier attempt of the same action.
    Moved(WrittenProperty),
    /// The deal was not moved, for this reason.
    NotMoved(Reason),
    /// The deal's pipeline has no such stage.
    NoSuchStage {
        /// The pipeline's label; its id when the portal has no such pipeline.
        pipeline: String,
    },
}

/// The portal's deal pipelines, cached.
pub struct Pipelines {
    cache: Mutex<Option<(Instant, Arc<Vec<Pipeline>>)>>,
    ttl: Duration,
}

impl Pipelines {
    /// Reads the pipelines again when they are older than `ttl`.
    pub fn new(ttl: Duration) -> Self {
        Self { cache: Mutex::new(None), ttl }
    }

    async fn get(&self, hubspot: &HubSpotClient) -> Result<Arc<Vec<Pipeline>>, HubSpotError> {
        let mut cache = self.cache.lock().await;
        if let Some((read_at, pipelines)) = cache.as_ref()
            && read_at.elapsed() < self.ttl
        {
            return Ok(pipelines.clone());
        }
        let pipelines = Arc::new(hubspot.pipelines(&ObjectType::Deal).await?);
        *cache = Some((Instant::now(), pipelines.clone()));
        Ok(pipelines)
    }

    /// Moves `deal` to the stage with this label or id. `in_doubt` says that an earlier attempt may have moved it; the
    /// value before then comes from the history.
    pub async fn move_deal(
        &self,
        hubspot: &HubSpotClient,
        deal: &RecordRef,
        stage: &str,
        in_doubt: bool,
    ) -> Result<DealMove, HubSpotError> {
        let names = [STAGE.to_owned(), PIPELINE.to_owned()];
        let read = hubspot.read_history(&ObjectType::Deal, &[deal.object_id], &names).await?;
        let Some(mut object) = read.into_iter().next() else { return Ok(DealMove::NotMoved(Reason::RecordGone)) };
        let current = object.properties.remove(STAGE).flatten();
        let pipelines = self.get(hubspot).await?;
        let pipeline_id = object.properties.remove(PIPELINE).flatten();
        let Some(pipeline) = pipelines.iter().find(|pipeline| Some(&pipeline.id) == pipeline_id.as_ref()) else {
            return Ok(DealMove::NoSuchStage { pipeline: pipeline_id.unwrap_or_default() });
        };
        let Some(target) = pipeline.stage(stage) else {
            return Ok(DealMove::NoSuchStage { pipeline: pipeline.label.clone() });
        };
        if current.as_ref() == Some(&target.id) {
            let before = object.history.get(STAGE).and_then(|history| history.get(1)).map(|past| past.value.clone());
            return Ok(if in_doubt {
                DealMove::Moved(written(before, &target.id))
            } else {
                DealMove::NotMoved(Reason::AlreadyThere)
            });
        }
        if current.as_deref().and_then(|id| pipeline.stage(id)).is_some_and(PipelineStage::is_closed) {
            return Ok(DealMove::NotMoved(Reason::DealClosed));
        }
        let change =
            PropertyChange { property: STAGE.to_owned(), value: target.id.clone(), policy: WritePolicy::Always };
        let update = ObjectUpdate { id: deal.object_id, changes: std::slice::from_ref(&change) };
        hubspot.update(&ObjectType::Deal, &update).await?;
        Ok(DealMove::Moved(written(current, &target.id)))
    }
}

fn written(before: Option<String>, after: &str) -> WrittenProperty {
    WrittenProperty { property: STAGE.to_owned(), before, after: after.to_owned() }
}
