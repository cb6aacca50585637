//! May this action be carried out, or was it done already?
//!
//! `intended` → `sending` (committed before the call) → `done`. A writer that finds an action in `sending` looks in HubSpot
//! whether it was done before it sends the call again.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use domain::{ActionId, ActionState, ObjectId, Reason, WriteCommandId};
use time::OffsetDateTime;

use crate::{
    Ledger, LedgerError, WrittenProperty, column::ACTION_STATE, command_results::insert_writes,
    connections::Transaction, seconds, stored_detail,
};

/// Whether the writer looks in HubSpot for an action before it sends the call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Look {
    /// Only when a call was begun before.
    IfInDoubt,
    /// In any case: a recovered ledger may have forgotten that the action was done.
    First,
    /// It has looked, and HubSpot does not have it.
    Done,
}

/// When an action was begun and when it ended, as far as the ledger knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordedAction {
    begun_at: Option<OffsetDateTime>,
    begun_for: Duration,
    ended_at: Option<OffsetDateTime>,
}

impl RecordedAction {
    /// Whether it has ended.
    pub fn has_ended(&self) -> bool {
        self.ended_at.is_some()
    }

    /// For how long its call has been under way, by the database's clock; `None` unless it is in doubt.
    pub fn in_doubt_for(&self) -> Option<Duration> {
        self.begun_at.filter(|_| !self.has_ended()).map(|_| self.begun_for)
    }

    /// Whether it had ended at a time.
    pub fn had_ended_by(&self, time: OffsetDateTime) -> bool {
        self.ended_at.is_some_and(|ended| ended <= time)
    }

    /// Whether its call had been begun at a time, or it had ended without one.
    pub fn had_begun_by(&self, time: OffsetDateTime) -> bool {
        self.had_ended_by(time) || self.begun_at.is_some_and(|begun| begun <= time)
    }
}

/// How an action ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndedAction {
    /// The action.
    pub id: ActionId,
    /// Its state.
    pub state: ActionState,
    /// The reason for the state.
    pub reason: Option<Reason>,
    /// The reason in words.
    pub detail: Option<String>,
    /// The task or note that it created.
    pub hubspot_id: Option<ObjectId>,
    /// The property that it set: of a moved deal its stage.
    pub written: Option<WrittenProperty>,
}

impl EndedAction {
    /// It was carried out.
    pub fn done(id: ActionId, hubspot_id: Option<ObjectId>) -> Self {
        Self { id, state: ActionState::Done, reason: None, detail: None, hubspot_id, written: None }
    }

    /// It is not carried out, for this reason.
    pub fn skipped(id: ActionId, reason: Reason) -> Self {
        Self { state: ActionState::Skipped, reason: Some(reason), ..Self::done(id, None) }
    }
}

/// Whether an action may be carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BeginOutcome {
    /// The call is to be sent; that it is being sent is committed.
    Send,
    /// The writer looks in HubSpot first, and begins it then. No call was begun.
    LookFirst,
    /// A call was begun and its result was never recorded. The writer looks in HubSpot first.
    InDoubt {
        /// Time since the call began, by the database's clock.
        sending_for: Duration,
    },
    /// It has ended.
    Ended,
    /// Another writer has claimed its command since.
    Lost,
}

impl Ledger {
    /// Those of these actions that the ledger has.
    pub async fn recorded_actions(&self, ids: &[ActionId]) -> Result<HashMap<ActionId, RecordedAction>, LedgerError> {
        let ids: Vec<_> = ids.iter().map(|id| id.0).collect();
        let recorded = sqlx::query!(
            r#"select id, sending_since, finished_at,
                      coalesce(extract(epoch from clock_timestamp() - sending_since), 0)::float8 as "begun_for!"
               from action where id = any($1::uuid[])"#,
            &ids
        )
        .fetch_all(&self.connections)
        .await?;
        let read = recorded.into_iter().map(|row| {
            let begun_for = seconds(row.begun_for.max(0.0));
            (ActionId(row.id), RecordedAction { begun_at: row.sending_since, begun_for, ended_at: row.finished_at })
        });
        Ok(read.collect())
    }

    /// Which of these actions are the fleet's: strangers can write a marker with the id of one. The ledger has them, or it was
    /// recovered and their event, whose time is part of the id, falls into the time that it has forgotten.
    pub async fn known_actions(&self, ids: &[ActionId]) -> Result<HashSet<ActionId>, LedgerError> {
        let mut known: HashSet<_> = self.recorded_actions(ids).await?.into_keys().collect();
        let others: Vec<_> = ids.iter().filter(|id| !known.contains(id)).collect();
        if others.is_empty() || self.recovery().await?.is_none() {
            return Ok(known);
        }
        let milliseconds = others.iter().map(|id| i64::try_from(id.milliseconds()).unwrap_or(i64::MAX));
        let forgotten = sqlx::query_scalar!(
            r#"select input.id as "id!" from unnest($1::uuid[], $2::bigint[]) as input (id, milliseconds)
               where exists (select from recovery r
                             where to_timestamp(input.milliseconds / 1000.0) between r.forgotten_since and r.recovered_at)"#,
            &others.iter().map(|id| id.0).collect::<Vec<_>>(),
            &milliseconds.collect::<Vec<_>>(),
        )
        .fetch_all(&self.connections)
        .await?;
        known.extend(forgotten.into_iter().map(ActionId));
        Ok(known)
    }

    /// Begins an action under the claim of its command. An action that was done for the same record within its
    /// `cooldown_hours` ends as skipped.
    pub async fn begin_action(
        &self,
        id: ActionId,
        command: WriteCommandId,
        attempt: i32,
        look: Look,
    ) -> Result<BeginOutcome, LedgerError> {
        let mut transaction = self.connections.begin().await?;
        let Some(row) = sqlx::query!(
            r#"select a.state::text as "state!", c.attempt = $3 and c.state = 'sending' as "holds_claim!",
                      (extract(epoch from clock_timestamp() - a.sending_since))::float8 as sending_for,
                      exists (select from (select c.object_id as id
                                           union all
                                           select m.old_id from record_merge m
                                           where (m.portal_id, m.object_type, m.survivor_id)
                                                 = (c.portal_id, c.object_type, c.object_id)) as known_as
                              -- `offset 0`: one look into the index by record for each id, whatever the statistics say.
                              cross join lateral (select oc.id, oc.inference_id from write_command oc
                                                  where (oc.portal_id, oc.object_type, oc.object_id)
                                                        = (c.portal_id, c.object_type, known_as.id)
                                                    and oc.undo_id is null offset 0) as oc
                              join action o on o.write_command_id = oc.id
                              join inference oi on oi.id = oc.inference_id
                              join inference i on i.id = c.inference_id
                              where o.state = 'done' and o.name = a.name and oi.playbook = i.playbook
                                and o.write_command_id <> a.write_command_id
                                and o.finished_at > now() - a.cooldown_hours * interval '1 hour') as "recent!"
               from action a join write_command c on c.id = a.write_command_id
               where a.id = $1 and c.id = $2 for update of a"#,
            id.0,
            command.0,
            attempt
        )
        .fetch_optional(&mut transaction)
        .await?
        else {
            return belongs_to_newer(&mut transaction, id, command, attempt).await;
        };
        let outcome = match ACTION_STATE.read(&row.state, ActionState::parse)? {
            _ if !row.holds_claim => BeginOutcome::Lost,
            ActionState::Intended if row.recent => {
                sqlx::query!(
                    "update action set state = 'skipped', reason = $2, finished_at = clock_timestamp() where id = $1",
                    id.0,
                    Reason::DoneRecently.as_str()
                )
                .execute(&mut transaction)
                .await?;
                BeginOutcome::Ended
            }
            ActionState::Intended if look == Look::First => BeginOutcome::LookFirst,
            ActionState::Sending if look != Look::Done => BeginOutcome::InDoubt {
                sending_for: Duration::from_secs_f64(row.sending_for.unwrap_or_default().max(0.0)),
            },
            ActionState::Intended | ActionState::Sending => {
                sqlx::query!(
                    "update action set state = 'sending', sending_since = clock_timestamp() where id = $1",
                    id.0
                )
                .execute(&mut transaction)
                .await?;
                BeginOutcome::Send
            }
            ActionState::Done | ActionState::Skipped | ActionState::Parked => BeginOutcome::Ended,
        };
        transaction.commit().await?;
        Ok(outcome)
    }

    /// Records how an action ended, and what it has set, also when another writer has claimed its command since: the call was made.
    /// Does nothing when the action has ended already.
    pub async fn finish_action(&self, ended: &EndedAction) -> Result<(), LedgerError> {
        let mut transaction = self.connections.begin().await?;
        end_actions(&mut transaction, &[ended]).await?;
        transaction.commit().await?;
        Ok(())
    }

    /// Gives an action the id under which its task or note was found in HubSpot. Returns `false`, and changes nothing, when that
    /// is the id of another action.
    pub async fn adopt_action_id(&self, id: ActionId, found: ActionId) -> Result<bool, LedgerError> {
        let adopted = sqlx::query!(
            "update action set id = $2 where id = $1 and not exists (select from action where id = $2)",
            id.0,
            found.0
        )
        .execute(&self.connections)
        .await?;
        Ok(adopted.rows_affected() == 1)
    }

    /// Makes an action intended again whose call certainly did not happen, so that it is not in doubt. Does nothing when
    /// another writer has claimed the command since, because that writer may have begun the action itself.
    pub async fn revert_action_begin(
        &self,
        id: ActionId,
        command: WriteCommandId,
        attempt: i32,
    ) -> Result<(), LedgerError> {
        sqlx::query!(
            "update action a set state = 'intended', sending_since = null
             from write_command c
             where a.id = $1 and a.state = 'sending' and c.id = a.write_command_id
               and c.id = $2 and c.attempt = $3 and c.state = 'sending'",
            id.0,
            command.0,
            attempt
        )
        .execute(&self.connections)
        .await?;
        Ok(())
    }
}

/// Records how actions ended, those that have not ended yet, with what they have set.
pub(crate) async fn end_actions(transaction: &mut Transaction, ended: &[&EndedAction]) -> Result<(), LedgerError> {
    for EndedAction { id, state, reason, detail, hubspot_id, written } in ended.iter().copied() {
        let command = sqlx::query_scalar!(
            "update action set state = $2::text::action_state, reason = $3, detail = $4, hubspot_id = $5,
                               finished_at = clock_timestamp()
             where id = $1 and finished_at is null returning write_command_id",
            id.0,
            state.as_str(),
            reason.map(Reason::as_str),
            detail.as_deref().map(stored_detail),
            hubspot_id.map(|id| id.0)
        )
        .fetch_optional(&mut *transaction)
        .await?;
        if let Some((command, written)) = command.zip(written.as_ref()) {
            insert_writes(&mut *transaction, &[(command, written)]).await?;
        }
    }
    Ok(())
}

/// An action that is not of the command under this claim: a newer change of the same millisecond has it, and carries it out.
async fn belongs_to_newer(
    transaction: &mut Transaction,
    id: ActionId,
    command: WriteCommandId,
    attempt: i32,
) -> Result<BeginOutcome, LedgerError> {
    let moved = sqlx::query_scalar!(
        r#"select exists (select from action a join write_command newer on newer.id = a.write_command_id
                          join write_command c on c.id = $2
                          where a.id = $1 and c.attempt = $3 and c.state = 'sending'
                            and (newer.portal_id, newer.object_type) = (c.portal_id, c.object_type)) as "moved!""#,
        id.0,
        command.0,
        attempt
    )
    .fetch_one(&mut *transaction)
    .await?;
    Ok(if moved { BeginOutcome::Ended } else { BeginOutcome::Lost })
}
