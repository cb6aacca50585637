//! Moving a deal to another stage of its pipeline, never back from a closed one.

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
    client::{ObjectUpdate, Pipeline},
};
use ledger::WrittenProperty;
use tokio::sync::Mutex;

/// The property that holds a deal's stage.
pub const STAGE: &str = "dealstage";

/// What became of a move.
pub enum Moved {
    /// The deal is where it should be, by this write.
    Done(WrittenProperty),
    /// It stays, for this reason.
    Stays(Reason),
    /// Its pipeline has no such stage.
    NoSuchStage {
        /// The pipeline's label.
        pipeline: String,
    },
}

/// The portal's deal pipelines, asked for now and then.
pub struct Pipelines {
    known: Mutex<Option<(Instant, Arc<Vec<Pipeline>>)>>,
    fresh_for: Duration,
}

impl Pipelines {
    pub fn new(fresh_for: Duration) -> Self {
        Self { known: Mutex::new(None), fresh_for }
    }

    async fn get(&self, hubspot: &HubSpotClient) -> Result<Arc<Vec<Pipeline>>, HubSpotError> {
        let mut known = self.known.lock().await;
        if let Some((at, pipelines)) = known.as_ref()
            && at.elapsed() < self.fresh_for
        {
            return Ok(pipelines.clone());
        }
        let pipelines = Arc::new(hubspot.pipelines(&ObjectType::Deal).await?);
        *known = Some((Instant::now(), pipelines.clone()));
        Ok(pipelines)
    }

    /// Moves `deal` to the stage with this label or id. `in_doubt` says that it may have been moved already.
    pub async fn move_deal(
        &self,
        hubspot: &HubSpotClient,
        deal: &RecordRef,
        stage: &str,
        in_doubt: bool,
    ) -> Result<Moved, HubSpotError> {
        let names = [STAGE.to_owned(), "pipeline".to_owned()];
        let read = hubspot.read_history(&ObjectType::Deal, &[deal.object_id], &names).await?;
        let Some(mut object) = read.found.into_iter().next() else { return Ok(Moved::Stays(Reason::RecordGone)) };
        let current = object.properties.remove(STAGE).flatten();
        let pipelines = self.get(hubspot).await?;
        let own = object.properties.remove("pipeline").flatten();
        let Some(pipeline) = pipelines.iter().find(|pipeline| Some(&pipeline.id) == own.as_ref()) else {
            return Ok(Moved::NoSuchStage { pipeline: own.unwrap_or_default() });
        };
        let Some(target) = pipeline.stage(stage) else {
            return Ok(Moved::NoSuchStage { pipeline: pipeline.label.clone() });
        };
        if current.as_ref() == Some(&target.id) {
            let before = object.history.get(STAGE).and_then(|history| history.get(1)).map(|past| past.value.clone());
            return Ok(if in_doubt {
                Moved::Done(written(before, &target.id))
            } else {
                Moved::Stays(Reason::AlreadyThere)
            });
        }
        if current.as_deref().and_then(|id| pipeline.stage(id)).is_some_and(hubspot::client::PipelineStage::is_closed) {
            return Ok(Moved::Stays(Reason::DealClosed));
        }
        let change =
            PropertyChange { property: STAGE.to_owned(), value: target.id.clone(), policy: WritePolicy::Always };
        let update = ObjectUpdate { id: deal.object_id, changes: std::slice::from_ref(&change) };
        hubspot.update(&ObjectType::Deal, &update).await?;
        Ok(Moved::Done(written(current, &target.id)))
    }
}

fn written(before: Option<String>, after: &str) -> WrittenProperty {
    WrittenProperty { property: STAGE.to_owned(), before, after: after.to_owned() }
}
