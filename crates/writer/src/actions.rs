//! Carries out actions, each once: begin (committed) → call → finish (committed). An action that was begun and not finished
//! is in doubt: its effect is looked for before the call is made again.

use crashpoint::crash_point;
use domain::{
    ActionId, ActionState, ObjectId, Reason, WriteCommand,
    write_command::{Action, ActionSpec},
};
use hubspot::HubSpotClient;
use ledger::{BeginOutcome, LEDGER_RETRY, LatestWrites, Ledger, LedgerError, WrittenProperty};
use retry::{Failure, RetryAction};
use tokio::time::Instant;

use crate::{
    deals::{DealMove, Pipelines, STAGE},
    engagements::Engagements,
    failure::ActionError,
    notify::Channels,
    plan::TakenCommand,
};

/// Carries out the actions of write commands.
pub struct ActionExecutor {
    ledger: Ledger,
    hubspot: HubSpotClient,
    engagements: Engagements,
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
}

/// The result of one action.
struct ActionResult {
    state: ActionState,
    reason: Option<Reason>,
    hubspot_id: Option<ObjectId>,
    written: Option<WrittenProperty>,
}

impl ActionResult {
    fn done(hubspot_id: Option<ObjectId>) -> Self {
        Self { state: ActionState::Done, reason: None, hubspot_id, written: None }
    }

    fn skipped(reason: Reason) -> Self {
        Self { state: ActionState::Skipped, reason: Some(reason), hubspot_id: None, written: None }
    }
}

impl ActionExecutor {
    /// Carries out actions against `hubspot` and `channels` and records them in `ledger`.
    pub fn new(ledger: Ledger, hubspot: HubSpotClient, pipelines: Pipelines, channels: Channels) -> Self {
        Self { engagements: Engagements::new(&hubspot), ledger, hubspot, pipelines, channels }
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

    async fn execute_one(
        &self,
        taken: &TakenCommand,
        action: &Action,
        scope: ActionScope<'_>,
    ) -> Result<Option<WrittenProperty>, ActionError> {
        match self.begin(taken, action.id, false).await? {
            BeginOutcome::Ended => Ok(None),
            BeginOutcome::Lost => Err(ActionError::LeaseLost),
            BeginOutcome::Send => self.send(taken, action, scope, false).await,
            BeginOutcome::InDoubt { sending_for } => {
                // The earlier call may still be under way until its timeout and take effect after we have looked.
                let timeout = self.hubspot.timeout();
                if sending_for < timeout {
                    return Err(ActionError::CallUnderWay(timeout.saturating_sub(sending_for)));
                }
                self.resolve_doubt(taken, action, scope).await
            }
        }
    }

    /// Begin: commits that the call is about to be sent. `looked` says that the effect of an earlier call was looked for and
    /// not found.
    async fn begin(&self, taken: &TakenCommand, id: ActionId, looked: bool) -> Result<BeginOutcome, LedgerError> {
        retry::run(&LEDGER_RETRY, || self.ledger.begin_action(id, taken.command.id, taken.attempt, looked)).await
    }

    /// Looks for the effect of an earlier call, and sends the call again only when there is none.
    async fn resolve_doubt(
        &self,
        taken: &TakenCommand,
        action: &Action,
        scope: ActionScope<'_>,
    ) -> Result<Option<WrittenProperty>, ActionError> {
        metrics::counter!("leadline_actions_in_doubt_total", "kind" => action.spec.kind().as_str()).increment(1);
        if let Some(found) = self.engagements.find(action).await? {
            return self.finish(action, ActionResult::done(Some(found))).await;
        }
        if scope.superseded {
            // A task or note was not found, so it does not exist. A channel cannot be queried, so the message may have been
            // delivered.
            let does_not_exist = matches!(action.spec, ActionSpec::CreateTask(_) | ActionSpec::CreateNote { .. });
            let reason = if does_not_exist { Reason::NewerEventWritten } else { Reason::MaybeDone };
            return self.finish(action, ActionResult::skipped(reason)).await;
        }
        match self.begin(taken, action.id, true).await? {
            BeginOutcome::Ended => Ok(None),
            BeginOutcome::Lost | BeginOutcome::InDoubt { .. } => Err(ActionError::LeaseLost),
            BeginOutcome::Send => self.send(taken, action, scope, true).await,
        }
    }

    /// Sends the call of an action that is begun, and records the result.
    async fn send(
        &self,
        taken: &TakenCommand,
        action: &Action,
        scope: ActionScope<'_>,
        in_doubt: bool,
    ) -> Result<Option<WrittenProperty>, ActionError> {
        if scope.superseded {
            return self.finish(action, ActionResult::skipped(Reason::NewerEventWritten)).await;
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
    ) -> Result<ActionResult, ActionError> {
        // A call that is sent by then has returned or timed out when the lease ends.
        let not_after =
            scope.deadline.into_std().checked_sub(self.hubspot.timeout()).ok_or(ActionError::DeadlineExceeded)?;
        match &action.spec {
            ActionSpec::CreateTask(task) => {
                Ok(created(self.engagements.create_task(action.id, task, not_after).await?))
            }
            ActionSpec::CreateNote { body, associations } => {
                Ok(created(self.engagements.create_note(action.id, body, associations, not_after).await?))
            }
            ActionSpec::MoveDeal(_) if scope.latest.is_newer_than(command, STAGE) => {
                Ok(ActionResult::skipped(Reason::NewerEventWritten))
            }
            ActionSpec::MoveDeal(stage) => {
                match self.pipelines.move_deal(&self.hubspot, &command.record, stage, in_doubt).await? {
                    DealMove::Moved(written) => Ok(ActionResult { written: Some(written), ..ActionResult::done(None) }),
                    DealMove::NotMoved(reason) => Ok(ActionResult::skipped(reason)),
                }
            }
            ActionSpec::Notify { channel, text } => {
                let Some(url) = self.channels.url(channel) else {
                    tracing::warn!(channel, "the notification is skipped: the setting notify.{channel} is missing");
                    return Ok(ActionResult::skipped(Reason::ChannelNotConfigured));
                };
                self.channels.send(url, action.id, text).await?;
                Ok(ActionResult::done(None))
            }
        }
    }

    /// Finish: commits the result.
    async fn finish(&self, action: &Action, result: ActionResult) -> Result<Option<WrittenProperty>, ActionError> {
        let id = result.hubspot_id.map(|id| id.0);
        retry::run(&LEDGER_RETRY, || self.ledger.finish_action(action.id, result.state, result.reason, None, id))
            .await?;
        count(action, result.state);
        Ok(result.written)
    }

    /// Parks an action that a retry cannot help. One whose call certainly had no effect is no longer in doubt; any other
    /// stays begun, so that the next attempt looks first.
    async fn record_failure(
        &self,
        taken: &TakenCommand,
        action: &Action,
        error: &ActionError,
    ) -> Result<(), LedgerError> {
        if error.retry_action() == RetryAction::Park {
            let (reason, detail) = (error.reason(), error.to_string());
            self.ledger.finish_action(action.id, ActionState::Parked, Some(reason), Some(&detail), None).await?;
            count(action, ActionState::Parked);
        } else if !error.leaves_doubt() {
            self.ledger.revert_action_begin(action.id, taken.command.id, taken.attempt).await?;
        }
        Ok(())
    }
}

fn created(id: Option<ObjectId>) -> ActionResult {
    id.map_or_else(|| ActionResult::skipped(Reason::NoRecord), |id| ActionResult::done(Some(id)))
}

fn count(action: &Action, state: ActionState) {
    metrics::counter!("leadline_actions_total", "kind" => action.spec.kind().as_str(), "state" => state.as_str())
        .increment(1);
}
