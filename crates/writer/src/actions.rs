//! Carries out actions, each once: begin (committed) → call → finish (committed). An action that was begun and not finished
//! is in doubt: its effect is looked for before the call is made again. So is that of an action which a recovered ledger may have
//! forgotten.

use std::time::Duration;

use crashpoint::crash_point;
use domain::{
    ActionId, ActionState, AppId, ObjectId, Reason, WriteCommand,
    write_command::{Action, ActionSpec},
};
use hubspot::HubSpotClient;
use ledger::{
    BeginOutcome, BeginRequest, EndedAction, LatestWrites, Ledger, LedgerError, Look, RecordedAction, Recovery,
    WrittenProperty,
};
use retry::{Failure, RetryAction};
use time::OffsetDateTime;
use tokio::time::Instant;

use crate::{
    action_ledger::ActionLedger,
    deals::{DealMove, EarlierMoves, MovePlan, Pipelines, STAGE, move_deal_back},
    engagements::Engagements,
    failure::ActionError,
    marker_reader::Marked,
    notify::Channels,
    plan::TakenCommand,
    recovered::{Forgotten, is_done, was_done},
    undo::{EngagementRemover, Removal},
};

/// Carries out the actions of write commands.
pub struct ActionExecutor {
    ledger: Ledger,
    /// Begins and ends actions.
    in_batches: ActionLedger,
    hubspot: HubSpotClient,
    engagements: Engagements,
    remover: EngagementRemover,
    pipelines: Pipelines,
    channels: Channels,
}

/// What holds for all actions of one command.
#[derive(Clone, Copy)]
pub struct ActionScope<'a> {
    /// The newest writes to the records of the batch, as of its start.
    pub latest: &'a LatestWrites,
    /// A newer event has replaced the command's values: no further action is begun, and only those in doubt are resolved.
    pub superseded: bool,
    /// When the lease ends. No call is sent that could outlast it.
    pub deadline: Instant,
    /// Our HubSpot app.
    pub app: AppId,
    /// What the fleet set that a recovered ledger may have forgotten.
    pub forgotten: Option<Forgotten>,
    /// Values of the command's event were written before, and the ledger has forgotten it.
    pub wrote_before: bool,
    /// When the attempts had ended that the ledger may have forgotten.
    pub ended_before: Option<OffsetDateTime>,
}

/// What there is to propose of an action.
pub enum Outlook {
    /// Nothing: it has ended.
    Over,
    /// Nothing: an earlier attempt has carried it out, or it is not to be carried out. The ledger does not know it yet.
    Ends(EndedAction),
    /// A deal is moved from one stage to another; the ids.
    Move { before: Option<String>, after: String },
    /// It is to be carried out.
    Due,
}

impl ActionExecutor {
    /// Carries out actions against `hubspot` and `channels` and records them in `ledger`.
    pub fn new(ledger: Ledger, hubspot: HubSpotClient, pipelines: Pipelines, channels: Channels) -> Self {
        let (engagements, remover) = (Engagements::new(&hubspot), EngagementRemover::start(&hubspot));
        Self { in_batches: ActionLedger::start(&ledger), ledger, hubspot, engagements, remover, pipelines, channels }
    }

    /// Carries out the actions of a command one after the other; a failed action does not stop the next ones. Returns the
    /// deal stages that were written and, if any action failed, the error that decides about the command.
    pub async fn execute(
        &self,
        taken: &TakenCommand,
        scope: ActionScope<'_>,
    ) -> (Vec<WrittenProperty>, Option<ActionError>) {
        let (mut written, mut failed) = (Vec::new(), None);
        for action in &taken.command.actions {
            match self.execute_one(taken, action, scope).await {
                Ok(stage) => written.extend(stage),
                Err(error) => {
                    let reason = error.reason();
                    tracing::warn!(action = action.name, id = %action.id, %reason, %error, "the action was not carried out");
                    // An error that can be retried decides: a parked action waits for an operator in any case.
                    if failed.as_ref().is_none_or(|known: &ActionError| known.retry_action() == RetryAction::Park) {
                        failed = Some(error);
                    }
                }
            }
        }
        (written, failed)
    }

    /// What there is to propose of an action now. Of an approved command an earlier attempt may have begun it.
    pub async fn outlook(
        &self,
        taken: &TakenCommand,
        action: &Action,
        (latest, app): (&LatestWrites, AppId),
    ) -> Result<Outlook, ActionError> {
        let command = &taken.command;
        let in_doubt = match self.begun_before(command, action).await? {
            Some(begun) if begun.has_ended() => return Ok(Outlook::Over),
            Some(begun) => begun.in_doubt_for(),
            None => None,
        };
        if let Some(sending_for) = in_doubt {
            self.wait_for_call(sending_for)?;
        }
        let done = match &action.spec {
            ActionSpec::MoveDeal(_) if latest.is_newer_than(command, STAGE) => {
                return Ok(Outlook::Ends(EndedAction::skipped(action.id, Reason::NewerEventWritten)));
            }
            ActionSpec::MoveDeal(stage) => {
                let in_doubt_since = in_doubt.map(|_| command.live_since());
                let forgotten = Forgotten::of(taken, app);
                let earlier = EarlierMoves { in_doubt_since, forgotten, known: latest, app };
                return Ok(match self.pipelines.plan_move(&self.hubspot, &command.record, stage, earlier).await? {
                    MovePlan::Move { before, after } => Outlook::Move { before, after },
                    MovePlan::Settled(settled) => Outlook::Ends(moved(action, settled)),
                });
            }
            _ if in_doubt.is_none() => None,
            // A channel cannot be queried, and people are not told twice.
            ActionSpec::Notify { .. } => Some(EndedAction::skipped(action.id, Reason::MaybeDone)),
            _ => self.engagements.find(action).await?.map(|found| EndedAction::done(action.id, Some(found))),
        };
        Ok(done.map_or(Outlook::Due, Outlook::Ends))
    }

    /// What the ledger has of an action that an attempt after an approval may have begun.
    async fn begun_before(
        &self,
        command: &WriteCommand,
        action: &Action,
    ) -> Result<Option<RecordedAction>, LedgerError> {
        if command.terms.approved.is_none() {
            return Ok(None);
        }
        Ok(self.ledger.recorded_actions(&[action.id]).await?.remove(&action.id))
    }

    /// The earlier call may still be under way until its timeout and take effect after we have looked.
    fn wait_for_call(&self, sending_for: Duration) -> Result<(), ActionError> {
        let left = self.hubspot.timeout().saturating_sub(sending_for);
        if left.is_zero() { Ok(()) } else { Err(ActionError::CallUnderWay(left)) }
    }

    async fn execute_one(
        &self,
        taken: &TakenCommand,
        action: &Action,
        scope: ActionScope<'_>,
    ) -> Result<Option<WrittenProperty>, ActionError> {
        let recovery = taken.may_be_forgotten(action);
        let look = if recovery.is_some() { Look::First } else { Look::IfInDoubt };
        let (sending_for, in_doubt) = match self.begin(taken, action.id, (look, scope.deadline)).await? {
            BeginOutcome::Ended => return Ok(None),
            BeginOutcome::Lost => return Err(ActionError::LeaseLost),
            BeginOutcome::Send => return self.send(taken, action, scope, false).await,
            // Nothing that it looks for is under way: the attempts had ended.
            BeginOutcome::LookFirst if matches!(action.spec, ActionSpec::Notify { .. }) => (Duration::MAX, false),
            BeginOutcome::LookFirst => (recovery.map_or(Duration::MAX, |recovery| recovery.age), false),
            BeginOutcome::InDoubt { sending_for } => (sending_for, true),
        };
        self.wait_for_call(sending_for)?;
        self.resolve_doubt(taken, action, scope, in_doubt).await
    }

    /// Begin: commits that the call is about to be sent.
    async fn begin(
        &self,
        taken: &TakenCommand,
        id: ActionId,
        (look, not_after): (Look, Instant),
    ) -> Result<BeginOutcome, ActionError> {
        let request = BeginRequest { id, command: taken.command.id, attempt: taken.attempt, look };
        Ok(self.in_batches.begin(request, not_after).await?)
    }

    /// Looks for the effect of an earlier call, and sends the call again only when there is none. `in_doubt` says that the ledger
    /// knows of an earlier call, rather than that it may have forgotten one.
    async fn resolve_doubt(
        &self,
        taken: &TakenCommand,
        action: &Action,
        scope: ActionScope<'_>,
        in_doubt: bool,
    ) -> Result<Option<WrittenProperty>, ActionError> {
        metrics::counter!("leadline_actions_in_doubt_total", "kind" => action.spec.kind().as_str()).increment(1);
        if let Some(found) = self.look(taken, action, scope).await? {
            return self.finish(action, found).await;
        }
        if scope.superseded && !action.spec.kind().is_undo() {
            // A task or note was not found, so it does not exist. A channel cannot be queried, so the message may have been
            // delivered.
            let does_not_exist = matches!(action.spec, ActionSpec::CreateTask(_) | ActionSpec::CreateNote { .. });
            let reason = if does_not_exist { Reason::NewerEventWritten } else { Reason::MaybeDone };
            return self.finish(action, EndedAction::skipped(action.id, reason)).await;
        }
        match self.begin(taken, action.id, (Look::Done, scope.deadline)).await? {
            BeginOutcome::Ended => Ok(None),
            BeginOutcome::Lost | BeginOutcome::LookFirst | BeginOutcome::InDoubt { .. } => Err(ActionError::LeaseLost),
            BeginOutcome::Send => self.send(taken, action, scope, in_doubt).await,
        }
    }

    /// Looks for what an earlier call did. The result has the id under which it was done.
    async fn look(
        &self,
        taken: &TakenCommand,
        action: &Action,
        scope: ActionScope<'_>,
    ) -> Result<Option<EndedAction>, ActionError> {
        let Some(recovery) = taken.may_be_forgotten(action) else {
            let found = self.engagements.find(action).await?;
            return Ok(found.map(|found| EndedAction::done(action.id, Some(found))));
        };
        if matches!(action.spec, ActionSpec::Notify { .. }) {
            // A channel cannot be asked. What was done beside the notification tells of it.
            let was_sent = scope.wrote_before || self.did_others(taken, &recovery, scope.ended_before).await?;
            return Ok(was_sent.then(|| EndedAction::skipped(action.id, Reason::MaybeDone)));
        }
        let mut marked = self.engagements.marked(action, |marker| is_done(action, marker)).await?;
        let recorded = self.ledger.recorded_actions(&markers(&marked)).await?;
        let is_of_command = |id: ActionId| taken.command.actions.iter().any(|other| other.id == id);
        marked.retain(|found| match recorded.get(&found.action) {
            _ if found.action == action.id => true,
            None => true,
            // What the ledger remembers was taken into account before, unless it was under way: then it was made since.
            Some(known) => {
                was_done(action, found.action) && !known.had_ended_by(recovery.at) && !is_of_command(found.action)
            }
        });
        for found in marked.iter().filter(|found| found.action.is_same_as(action.id)) {
            if found.action == action.id || self.ledger.adopt_action_id(action.id, found.action).await? {
                return Ok(Some(EndedAction::done(found.action, Some(found.id))));
            }
        }
        let reason = if action.cooldown_hours > 0 { Reason::DoneRecently } else { Reason::NewerEventWritten };
        Ok((!marked.is_empty()).then(|| EndedAction::skipped(action.id, reason)))
    }

    /// Whether a task or note of the command was made by an attempt that the ledger has forgotten.
    async fn did_others(
        &self,
        taken: &TakenCommand,
        recovery: &Recovery,
        ended_before: Option<OffsetDateTime>,
    ) -> Result<bool, ActionError> {
        let mut made = Vec::new();
        for other in &taken.command.actions {
            made.extend(self.engagements.marked(other, |marker| is_done(other, marker)).await?);
        }
        made.retain(|found| found.created_at.zip(ended_before).is_none_or(|(made, ended)| made < ended));
        let recorded = self.ledger.recorded_actions(&markers(&made)).await?;
        // The attempt that was under way may have made it, and is not forgotten.
        let is_remembered = |id| recorded.get(id).is_some_and(|known| known.had_begun_by(recovery.at));
        Ok(made.iter().any(|found| !is_remembered(&found.action)))
    }

    /// Sends the call of an action that is begun, and records the result.
    async fn send(
        &self,
        taken: &TakenCommand,
        action: &Action,
        scope: ActionScope<'_>,
        in_doubt: bool,
    ) -> Result<Option<WrittenProperty>, ActionError> {
        // What is undone of a property says nothing of the task.
        if scope.superseded && !action.spec.kind().is_undo() {
            return self.finish(action, EndedAction::skipped(action.id, Reason::NewerEventWritten)).await;
        }
        crash_point!("writer.after_begin");
        // The process may have been suspended since the action was begun, and another writer may send the same call by now.
        let is_late = scope.deadline.saturating_duration_since(Instant::now()) < self.hubspot.timeout();
        let result = if is_late {
            Err(ActionError::DeadlineExceeded)
        } else {
            self.call(&taken.command, action, scope, in_doubt).await
        };
        crash_point!("writer.after_action");
        match result {
            Ok(result) => self.finish(action, result).await,
            Err(error) => {
                self.record_failure(taken, action, &error).await?;
                Err(error)
            }
        }
    }

    /// Makes the call. `in_doubt` says that an earlier attempt may have made it already.
    async fn call(
        &self,
        command: &WriteCommand,
        action: &Action,
        scope: ActionScope<'_>,
        in_doubt: bool,
    ) -> Result<EndedAction, ActionError> {
        // A call that is sent by then has returned or timed out when the lease ends.
        let not_after =
            scope.deadline.into_std().checked_sub(self.hubspot.timeout()).ok_or(ActionError::DeadlineExceeded)?;
        match &action.spec {
            ActionSpec::CreateTask(task) => {
                Ok(created(action, self.engagements.create_task(action.id, task, not_after).await?))
            }
            ActionSpec::CreateNote { body, associations } => {
                Ok(created(action, self.engagements.create_note(action.id, body, associations, not_after).await?))
            }
            ActionSpec::MoveDeal(_) | ActionSpec::MoveDealBack { .. } if scope.latest.is_newer_than(command, STAGE) => {
                Ok(EndedAction::skipped(action.id, Reason::NewerEventWritten))
            }
            ActionSpec::MoveDeal(stage) => {
                let in_doubt_since = in_doubt.then(|| command.live_since());
                let ActionScope { latest, forgotten, app, .. } = scope;
                let earlier = EarlierMoves { in_doubt_since, forgotten, known: latest, app };
                Ok(moved(action, self.pipelines.move_deal(&self.hubspot, &command.record, stage, earlier).await?))
            }
            ActionSpec::MoveDealBack { from, to } => {
                Ok(moved(action, move_deal_back(&self.hubspot, &command.record, (from, to), in_doubt).await?))
            }
            ActionSpec::DeleteEngagement { engagement } => {
                let (kind, id) = (&engagement.object_type, engagement.object_id);
                Ok(match self.remover.remove(kind, id).await? {
                    Removal::Gone => EndedAction::done(action.id, Some(id)),
                    Removal::ChangedByPerson => EndedAction::skipped(action.id, Reason::ChangedByPerson),
                })
            }
            ActionSpec::Notify { channel, text } => {
                let Some(url) = self.channels.url(channel) else {
                    tracing::warn!(channel, "the notification is skipped: the setting notify.{channel} is missing");
                    return Ok(EndedAction::skipped(action.id, Reason::ChannelNotConfigured));
                };
                self.channels.send(url, action.id, text).await?;
                Ok(EndedAction::done(action.id, None))
            }
        }
    }

    /// Finish: commits the result.
    async fn finish(&self, action: &Action, ended: EndedAction) -> Result<Option<WrittenProperty>, ActionError> {
        let (state, written) = (ended.state, ended.written.clone());
        self.in_batches.finish(ended).await?;
        count(action, state);
        Ok(written)
    }

    /// Parks an action that a retry cannot help. One whose call certainly had no effect is no longer in doubt; any other
    /// stays begun, so that the next attempt looks first.
    async fn record_failure(
        &self,
        taken: &TakenCommand,
        action: &Action,
        error: &ActionError,
    ) -> Result<(), ActionError> {
        if error.retry_action() == RetryAction::Park {
            let (reason, detail) = (Some(error.reason()), Some(error.to_string()));
            let parked =
                EndedAction { reason, detail, state: ActionState::Parked, ..EndedAction::done(action.id, None) };
            self.in_batches.finish(parked).await?;
            count(action, ActionState::Parked);
        } else if !error.leaves_doubt() {
            self.ledger.revert_action_begin(action.id, taken.command.id, taken.attempt).await?;
        }
        Ok(())
    }
}

fn markers(marked: &[Marked]) -> Vec<ActionId> {
    marked.iter().map(|found| found.action).collect()
}

fn moved(action: &Action, result: DealMove) -> EndedAction {
    match result {
        DealMove::Moved(written) => EndedAction { written: Some(written), ..EndedAction::done(action.id, None) },
        DealMove::NotMoved(reason) => EndedAction::skipped(action.id, reason),
    }
}

fn created(action: &Action, id: Option<ObjectId>) -> EndedAction {
    match id {
        Some(id) => EndedAction::done(action.id, Some(id)),
        None => EndedAction::skipped(action.id, Reason::NoRecord),
    }
}

/// Counts actions that have ended.
pub(crate) fn count(action: &Action, state: ActionState) {
    metrics::counter!("leadline_actions_total", "kind" => action.spec.kind().as_str(), "state" => state.as_str())
        .increment(1);
}
