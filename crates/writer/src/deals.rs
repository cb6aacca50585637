//! Moves a deal to another stage of its pipeline, but never out of a closed stage.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use batcher::SharedCall;
use domain::{
    AppId, ObjectType, Reason, RecordRef,
    write_command::{DealStage, PropertyChange, WritePolicy},
};
use hubspot::{
    HubSpotClient, HubSpotError,
    client::{ObjectUpdate, PastValue, Pipeline, PipelineStage},
};
use ledger::{LatestWrites, WrittenProperty};
use retry::Failure;
use time::OffsetDateTime;

use crate::{current_values::UnknownAttempts, failure::ActionError, missing::look_up, recovered::Forgotten};

/// The property that holds a deal's stage.
pub const STAGE: &str = "dealstage";

/// The property that holds a deal's pipeline.
const PIPELINE: &str = "pipeline";

/// The property in which HubSpot says whether a deal is won or lost, whatever its pipeline (`true` or `false`, read-only).
const IS_CLOSED: &str = "hs_is_closed";

/// The result of a move.
pub enum DealMove {
    /// The deal is in the stage, by this write or by an earlier attempt of the same action.
    Moved(WrittenProperty),
    /// The deal was not moved, for this reason.
    NotMoved(Reason),
}

/// What is to be done to a deal, as it is now.
pub enum MovePlan {
    /// It is moved from one stage to another; the ids.
    Move { before: Option<String>, after: String },
    /// Nothing is to be done.
    Settled(DealMove),
}

/// What may have been done to a deal before it is moved.
#[derive(Debug, Clone, Copy)]
pub struct EarlierMoves<'a> {
    /// Since when an earlier attempt may have moved it. Then the history tells, and a person may have moved it on since.
    pub in_doubt_since: Option<OffsetDateTime>,
    /// A recovered ledger may have forgotten these moves. None is made again: a person may have moved the deal on since.
    pub forgotten: Option<Forgotten>,
    /// The moves that the ledger knows.
    pub known: &'a LatestWrites,
    /// Our HubSpot app.
    pub app: AppId,
}

impl EarlierMoves<'_> {
    /// Which of a deal's moves, the newest first, the earlier attempt has made.
    fn made(&self, deal: &RecordRef, moves: &[PastValue], target: &PipelineStage) -> Option<usize> {
        let attempts =
            UnknownAttempts { since: self.in_doubt_since?, app: self.app, recorded: self.known.recorded(deal, STAGE) };
        attempts.written_by(moves).filter(|(_, set)| set.value == target.id).map(|(place, _)| place)
    }

    fn has_forgotten(&self, deal: &RecordRef, set: &PastValue) -> bool {
        self.forgotten.is_some_and(|forgotten| forgotten.includes(set, (deal, STAGE), self.known))
    }
}

/// The portal's deal pipelines, cached.
pub struct Pipelines {
    cache: Mutex<Option<(Instant, Arc<Vec<Pipeline>>)>>,
    read: SharedCall<Arc<Vec<Pipeline>>, HubSpotError>,
    ttl: Duration,
}

impl Pipelines {
    /// Reads the pipelines again when they are older than `ttl`.
    pub fn new(ttl: Duration) -> Self {
        Self { cache: Mutex::new(None), read: SharedCall::default(), ttl }
    }

    fn cache(&self) -> MutexGuard<'_, Option<(Instant, Arc<Vec<Pipeline>>)>> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn get(&self, hubspot: &HubSpotClient) -> Result<Arc<Vec<Pipeline>>, Arc<HubSpotError>> {
        let cached = self.cache().as_ref().filter(|(at, _)| at.elapsed() < self.ttl).map(|(_, read)| read.clone());
        if let Some(pipelines) = cached {
            return Ok(pipelines);
        }
        let hubspot = hubspot.clone();
        let read = async move { hubspot.pipelines(&ObjectType::Deal).await.map(Arc::new) };
        let pipelines = self.read.join(read).await?;
        *self.cache() = Some((Instant::now(), pipelines.clone()));
        Ok(pipelines)
    }

    /// Moves `deal` as [`Self::plan_move`] says.
    pub async fn move_deal(
        &self,
        hubspot: &HubSpotClient,
        deal: &RecordRef,
        to: &DealStage,
        earlier: EarlierMoves<'_>,
    ) -> Result<DealMove, ActionError> {
        match self.plan_move(hubspot, deal, to, earlier).await? {
            MovePlan::Move { before, after } => set_stage(hubspot, deal, before, &after).await,
            MovePlan::Settled(settled) => Ok(settled),
        }
    }

    /// What moving `deal` to `stage` means, a label or an id of its pipeline; with a `pipeline`, a label or an id, only if the deal
    /// is in that one.
    pub async fn plan_move(
        &self,
        hubspot: &HubSpotClient,
        deal: &RecordRef,
        to: &DealStage,
        earlier: EarlierMoves<'_>,
    ) -> Result<MovePlan, ActionError> {
        let not_moved = |reason| Ok(MovePlan::Settled(DealMove::NotMoved(reason)));
        let moved = |before, after: &str| Ok(MovePlan::Settled(DealMove::Moved(written(before, after))));
        let names = [STAGE, PIPELINE, IS_CLOSED].map(ToOwned::to_owned);
        let read = hubspot.read_history(&ObjectType::Deal, &[deal.object_id], &names).await?;
        let Some(mut object) = read.into_iter().find(|object| object.id == deal.object_id) else {
            return not_moved(not_found(hubspot, deal).await?);
        };
        let mut property = |name: &str| object.properties.remove(name).flatten();
        let (current, pipeline_id, is_closed) = (property(STAGE), property(PIPELINE), property(IS_CLOSED));
        let pipelines = self.get(hubspot).await.map_err(ActionError::HubSpot)?;
        let pipeline = pipelines.iter().find(|pipeline| Some(&pipeline.id) == pipeline_id.as_ref());
        let is_wanted = |pipeline: &&Pipeline| to.pipeline.as_deref().is_none_or(|wanted| pipeline.is_called(wanted));
        let target = pipeline.filter(is_wanted).and_then(|pipeline| pipeline.stage(&to.stage));
        let moves = object.history.get(STAGE).map_or(&[][..], Vec::as_slice);
        if let Some(made) = moves.iter().position(|set| earlier.has_forgotten(deal, set)) {
            let is_ours = target.is_some_and(|target| target.id == moves[made].value);
            let before = moves.get(made + 1).map(|past| past.value.clone());
            return if is_ours { moved(before, &moves[made].value) } else { not_moved(Reason::NewerEventWritten) };
        }
        if let Some(target) = target {
            if let Some(made) = earlier.made(deal, moves, target) {
                return moved(moves.get(made + 1).map(|past| past.value.clone()), &target.id);
            }
            if current.as_ref() == Some(&target.id) {
                return not_moved(Reason::AlreadyThere);
            }
        }
        // Before the stage is looked for: a closed deal stays, also in a pipeline that lacks the stage.
        let current_stage =
            pipelines.iter().flat_map(|pipeline| &pipeline.stages).find(|stage| Some(&stage.id) == current.as_ref());
        if is_closed.as_deref() == Some("true") || current_stage.is_some_and(PipelineStage::is_closed) {
            return not_moved(Reason::DealClosed);
        }
        let Some(target) = target else {
            let pipeline = pipeline.map_or_else(|| pipeline_id.unwrap_or_default(), |pipeline| pipeline.label.clone());
            tracing::warn!(%deal, pipeline, stage = to.stage, "the deal stays: its pipeline has no such stage");
            return not_moved(Reason::NoSuchStage);
        };
        Ok(MovePlan::Move { before: current, after: target.id.clone() })
    }
}

/// Moves `deal` from a stage back to the one in which it was before; not when it has moved on. `in_doubt` says that an earlier attempt
/// may have moved it.
pub async fn move_deal_back(
    hubspot: &HubSpotClient,
    deal: &RecordRef,
    (from, to): (&str, &str),
    in_doubt: bool,
) -> Result<DealMove, ActionError> {
    let read = hubspot.read_many(&ObjectType::Deal, &[deal.object_id], &[STAGE.to_owned()]).await?;
    let Some(mut object) = read.into_iter().find(|object| object.id == deal.object_id) else {
        return not_found(hubspot, deal).await.map(DealMove::NotMoved);
    };
    let current = object.properties.remove(STAGE).flatten();
    match current.as_deref() {
        Some(stage) if stage == from => set_stage(hubspot, deal, current, to).await,
        Some(stage) if stage == to && in_doubt => Ok(DealMove::Moved(written(Some(from.to_owned()), to))),
        Some(stage) if stage == to => Ok(DealMove::NotMoved(Reason::AlreadyThere)),
        _ => Ok(DealMove::NotMoved(Reason::ValueChanged)),
    }
}

async fn set_stage(
    hubspot: &HubSpotClient,
    deal: &RecordRef,
    current: Option<String>,
    stage: &str,
) -> Result<DealMove, ActionError> {
    let (property, value) = (STAGE.to_owned(), stage.to_owned());
    let change = PropertyChange { property, value, policy: WritePolicy::Always, expected: None };
    let update = ObjectUpdate { id: deal.object_id, changes: std::slice::from_ref(&change) };
    if !hubspot.update(&ObjectType::Deal, &update).await? {
        return not_found(hubspot, deal).await.map(DealMove::NotMoved);
    }
    Ok(DealMove::Moved(written(current, stage)))
}

/// What a deal that a batch call leaves out means for its move.
async fn not_found(hubspot: &HubSpotClient, deal: &RecordRef) -> Result<Reason, ActionError> {
    match look_up(hubspot, deal, &[]).await {
        // It was merged a moment ago: the next attempt of the command goes on with the survivor, and looks at its stage.
        Ok(_) => Err(ActionError::RecordMissed),
        Err(error) if error.reason() == Reason::RecordGone => Ok(Reason::RecordGone),
        Err(error) => Err(error.into()),
    }
}

fn written(before: Option<String>, after: &str) -> WrittenProperty {
    WrittenProperty { property: STAGE.to_owned(), before, after: after.to_owned() }
}
