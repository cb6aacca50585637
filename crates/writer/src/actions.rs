//! Doing what an answer asks for beyond properties, once:
//! begin (committed) → act → finish (committed); found begun and not finished: look before acting again.

use crashpoint::crash_point;
use domain::{
    ActionId, ObjectId, ObjectType, Reason, RecordRef, WriteCommand,
    write_command::{Action, ActionSpec, Task, marker, marker_in},
};
use hubspot::{
    HubSpotClient,
    client::{AssociationTarget, MAX_BATCH, NewObject, engagement_type_id},
};
use ledger::{ActionState, BeginOutcome, LatestWrites, Ledger, LedgerError, WrittenProperty};
use retry::{Failure, Policy, RetryAction};
use time::format_description::well_known::Rfc3339;
use tokio::time::Instant;

use crate::{
    batch_creator::BatchCreator,
    deals::{Moved, Pipelines, STAGE},
    failure::ActionError,
    notify::Channels,
    plan::Job,
};

/// Where the text of a task or a note stands, and in it the marker.
pub const TASK_BODY: &str = "hs_task_body";
pub const NOTE_BODY: &str = "hs_note_body";

/// A record's newest tasks or notes among which one in doubt is looked for.
const LOOK_THROUGH: usize = 300;

/// Ties of a record that are read to find its newest.
const MAX_TIES: usize = 5_000;

/// Who does it.
pub struct ActionExecutor {
    pub hubspot: HubSpotClient,
    pub tasks: BatchCreator,
    pub notes: BatchCreator,
    pub ledger: Ledger,
    pub pipelines: Pipelines,
    pub channels: Channels,
    pub patience: Policy,
}

/// How an action ended.
struct Ended {
    state: ActionState,
    reason: Option<Reason>,
    hubspot_id: Option<ObjectId>,
    written: Option<WrittenProperty>,
}

impl Ended {
    fn done(hubspot_id: Option<ObjectId>) -> Self {
        Self { state: ActionState::Done, reason: None, hubspot_id, written: None }
    }

    fn skipped(reason: Reason) -> Self {
        Self { state: ActionState::Skipped, reason: Some(reason), hubspot_id: None, written: None }
    }
}

impl ActionExecutor {
    /// Does the actions of a command, each on its own: one that fails holds back none of the others. `superseded` says
    /// that the command's values are outdated: then nothing more is begun, and only what is in doubt is cleared up.
    ///
    /// Nothing is begun that could outlast `deadline`, when the lease ends. Gives the deal stages that were written; and the failure whose retry action decides about the command, if any.
    pub async fn act(
        &self,
        job: &Job,
        newest: &LatestWrites,
        superseded: bool,
        deadline: Instant,
    ) -> (Vec<WrittenProperty>, Option<ActionError>) {
        let (mut written, mut failed) = (Vec::new(), None);
        for action in &job.command.actions {
            match self.act_once(job, action, newest, superseded, deadline).await {
                Ok(stage) => written.extend(stage),
                Err(error) => {
                    tracing::warn!(action = action.name, id = %action.id, reason = %error.reason(), %error, "not done");
                    // Something that comes back must come back; a parked action waits for a person anyway.
                    if failed.as_ref().is_none_or(|known: &ActionError| known.retry_action() == RetryAction::Park) {
                        failed = Some(error);
                    }
                }
            }
        }
        (written, failed)
    }

    async fn act_once(
        &self,
        job: &Job,
        action: &Action,
        newest: &LatestWrites,
        superseded: bool,
        deadline: Instant,
    ) -> Result<Option<WrittenProperty>, ActionError> {
        let command = &job.command;
        let mut began = self.begin(job, action.id, false).await?;
        let in_doubt = matches!(began, BeginOutcome::InDoubt { .. });
        if let BeginOutcome::InDoubt { sending_for } = began {
            // A call that is still under way could come after the look.
            let patience = self.hubspot.timeout();
            if sending_for < patience {
                return Err(ActionError::TooEarly(patience.saturating_sub(sending_for)));
            }
            metrics::counter!("leadline_actions_in_doubt_total", "kind" => action.spec.kind()).increment(1);
            if let Some(found) = self.find_existing(action).await? {
                return self.finish(action, Ended::done(Some(found))).await;
            }
            if superseded {
                // Into a channel nobody can look: it may have been told.
                let is_known = matches!(action.spec, ActionSpec::CreateTask(_) | ActionSpec::CreateNote { .. });
                let reason = if is_known { Reason::NewerEventWritten } else { Reason::MaybeDone };
                return self.finish(action, Ended::skipped(reason)).await;
            }
            began = self.begin(job, action.id, true).await?;
        }
        match began {
            BeginOutcome::Ended => Ok(None),
            BeginOutcome::Lost | BeginOutcome::InDoubt { .. } => Err(ActionError::Lost),
            BeginOutcome::Send if superseded => self.finish(action, Ended::skipped(Reason::NewerEventWritten)).await,
            BeginOutcome::Send => {
                // A writer that was frozen here wakes up late: what it would send now, somebody else may have sent.
                crash_point!("writer.after_begin");
                let is_late = deadline.saturating_duration_since(Instant::now()) < self.hubspot.timeout();
                let carried_out = if is_late {
                    Err(ActionError::DeadlineExceeded)
                } else {
                    self.carry_out(command, action, newest, in_doubt, deadline).await
                };
                crash_point!("writer.after_action");
                match carried_out {
                    Ok(ended) => self.finish(action, ended).await,
                    Err(error) => {
                        self.after_failure(job, action, &error).await?;
                        Err(error)
                    }
                }
            }
        }
    }

    /// A call that certainly had no effect leaves no doubt; one that never will is for a person.
    async fn after_failure(&self, job: &Job, action: &Action, error: &ActionError) -> Result<(), LedgerError> {
        if error.retry_action() == RetryAction::Park {
            let (reason, detail) = (error.reason(), error.to_string());
            self.ledger.finish_action(action.id, ActionState::Parked, Some(reason), Some(&detail), None).await?;
            count(action, ActionState::Parked);
        } else if !error.leaves_doubt() {
            self.ledger.revert_action_begin(action.id, job.command.id, job.attempt).await?;
        }
        Ok(())
    }

    async fn begin(&self, job: &Job, id: ActionId, looked: bool) -> Result<BeginOutcome, LedgerError> {
        retry::run(&self.patience, || self.ledger.begin_action(id, job.command.id, job.attempt, looked)).await
    }

    async fn finish(&self, action: &Action, ended: Ended) -> Result<Option<WrittenProperty>, ActionError> {
        let id = ended.hubspot_id.map(|id| id.0);
        retry::run(&self.patience, || self.ledger.finish_action(action.id, ended.state, ended.reason, None, id))
            .await?;
        count(action, ended.state);
        Ok(ended.written)
    }

    async fn carry_out(
        &self,
        command: &WriteCommand,
        action: &Action,
        newest: &LatestWrites,
        in_doubt: bool,
        deadline: Instant,
    ) -> Result<Ended, ActionError> {
        // A call that is sent now is over, one way or the other, before the lease is.
        let not_after = deadline.into_std().checked_sub(self.hubspot.timeout()).ok_or(ActionError::DeadlineExceeded)?;
        match &action.spec {
            ActionSpec::CreateTask(task) => self.create_task(action.id, task, not_after).await,
            ActionSpec::CreateNote { body, associations } => {
                let now = time::OffsetDateTime::now_utc().format(&Rfc3339).unwrap_or_default();
                let properties = vec![("hs_timestamp", now), (NOTE_BODY, html(body, action.id))];
                self.create(&ObjectType::Note, action.id, properties, associations, not_after).await
            }
            ActionSpec::MoveDeal { .. } if newest.is_newer_than(command, STAGE) => {
                Ok(Ended::skipped(Reason::NewerEventWritten))
            }
            ActionSpec::MoveDeal { stage } => {
                match self.pipelines.move_deal(&self.hubspot, &command.record, stage, in_doubt).await? {
                    Moved::Done(written) => Ok(Ended { written: Some(written), ..Ended::done(None) }),
                    Moved::Stays(reason) => Ok(Ended::skipped(reason)),
                    Moved::NoSuchStage { pipeline } => Err(ActionError::NoSuchStage { pipeline, stage: stage.clone() }),
                }
            }
            ActionSpec::Notify { channel, text } => {
                let Some(url) = self.channels.url(channel) else {
                    tracing::warn!(channel, "nobody is told: the setting notify.{channel} is missing");
                    return Ok(Ended::skipped(Reason::ChannelNotConfigured));
                };
                self.channels.send(url, action.id, text).await?;
                Ok(Ended::done(None))
            }
        }
    }

    async fn create_task(
        &self,
        id: ActionId,
        task: &Task,
        not_after: std::time::Instant,
    ) -> Result<Ended, ActionError> {
        const OWNER: &str = "hubspot_owner_id";
        let mut properties = vec![
            ("hs_timestamp", task.due.format(&Rfc3339).unwrap_or_default()),
            ("hs_task_subject", task.subject.clone()),
            (TASK_BODY, html(&task.body, id)),
            ("hs_task_status", "NOT_STARTED".to_owned()),
            ("hs_task_priority", task.priority.as_str().to_owned()),
            ("hs_task_type", task.task_type.as_str().to_owned()),
        ];
        if let Some(owner) = &task.owner {
            properties.push((OWNER, owner.clone()));
        }
        match self.create(&ObjectType::Task, id, properties.clone(), &task.associations, not_after).await {
            // Owners leave. A task that nobody owns is seen sooner than one that was never made.
            Err(ActionError::HubSpot(error))
                if task.owner.is_some() && error.api().is_some_and(|error| error.is_about(OWNER)) =>
            {
                tracing::warn!(action = %id, "HubSpot does not know the owner; the task is made without one");
                properties.retain(|(name, _)| *name != OWNER);
                self.create(&ObjectType::Task, id, properties, &task.associations, not_after).await
            }
            created => created,
        }
    }

    async fn create(
        &self,
        kind: &ObjectType,
        id: ActionId,
        properties: Vec<(&'static str, String)>,
        associations: &[RecordRef],
        not_after: std::time::Instant,
    ) -> Result<Ended, ActionError> {
        let associations: Vec<_> = associations
            .iter()
            .filter_map(|record| {
                Some(AssociationTarget {
                    to: record.object_id,
                    type_id: engagement_type_id(kind, &record.object_type)?,
                })
            })
            .collect();
        if associations.is_empty() {
            return Ok(Ended::skipped(Reason::NoRecord));
        }
        let creations = if *kind == ObjectType::Task { &self.tasks } else { &self.notes };
        match creations.make(id, NewObject { properties, associations }, not_after).await? {
            Some(made) => Ok(Ended::done(Some(made))),
            None => Err(ActionError::Unknown),
        }
    }

    /// Looks for a task or note by its marker, among those of a record that it is associated to: search lags by seconds.
    async fn find_existing(&self, action: &Action) -> Result<Option<ObjectId>, ActionError> {
        let (kind, body, associations) = match &action.spec {
            ActionSpec::CreateTask(task) => (ObjectType::Task, TASK_BODY, &task.associations),
            ActionSpec::CreateNote { associations, .. } => (ObjectType::Note, NOTE_BODY, associations),
            // A stage is idempotent, and a channel cannot be looked into.
            ActionSpec::MoveDeal { .. } | ActionSpec::Notify { .. } => return Ok(None),
        };
        for record in associations.iter().filter(|record| engagement_type_id(&kind, &record.object_type).is_some()) {
            let associated = self.hubspot.associated(&record.object_type, &[record.object_id], &kind, MAX_TIES).await?;
            let mut ids: Vec<_> = associated.into_values().flatten().map(|associate| associate.id).collect();
            ids.sort_unstable_by(|a, b| b.cmp(a));
            for ids in ids[..ids.len().min(LOOK_THROUGH)].chunks(MAX_BATCH) {
                let read = self.hubspot.read_many(&kind, ids, &[body.to_owned()]).await?;
                let is_it = |object: &&hubspot::client::CrmObject| {
                    let text = object.properties.get(body).and_then(Option::as_deref).unwrap_or_default();
                    marker_in(text) == Some(action.id)
                };
                if let Some(found) = read.found.iter().find(is_it) {
                    return Ok(Some(found.id));
                }
            }
        }
        Ok(None)
    }
}

fn count(action: &Action, state: ActionState) {
    metrics::counter!("leadline_actions_total", "kind" => action.spec.kind(), "state" => state.as_str()).increment(1);
}

/// Bodies are HTML in HubSpot, and what goes into them comes from strangers: nothing of it is markup.
fn html(text: &str, id: ActionId) -> String {
    let escaped = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;");
    format!("{}<br><br>{}", escaped.lines().collect::<Vec<_>>().join("<br>"), marker(id))
}

#[cfg(test)]
mod tests {
    use domain::{ActionId, write_command::marker_in};

    use super::html;

    #[test]
    fn a_body_is_text_whatever_is_in_it() {
        let id = ActionId::new();
        let body = html("Call <b>her</b>\n<script>alert(\"x\")</script>", id);
        assert!(body.starts_with("Call &lt;b&gt;her&lt;/b&gt;<br>&lt;script&gt;"), "{body}");
        assert_eq!(marker_in(&body), Some(id));
    }
}
