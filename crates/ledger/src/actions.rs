//! May this action be carried out, or was it done already?
//!
//! `intended` → `sending` (committed before the call) → `done`. A writer that finds an action in `sending` looks in HubSpot
//! whether it was done before it sends the call again.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use domain::{ActionId, ActionState, ObjectId, Reason, WriteCommandId};
use sqlx::{Executor, Postgres};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::{
    Ledger, LedgerError, WrittenProperty, command_results::insert_writes, connections::Transaction, seconds,
    stored_detail,
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

/// An action that a writer asks to carry out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BeginRequest {
    /// The action.
    pub id: ActionId,
    /// Its write command, …
    pub command: WriteCommandId,
    /// … and the number of the claim on it.
    pub attempt: i32,
    /// Whether the writer looks for it first.
    pub look: Look,
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

    /// Begins actions, each under the claim of its command. An action that was done for the same record within its
    /// `cooldown_hours` ends as skipped. Answers in the order of `requests`.
    pub async fn begin_actions(&self, requests: &[BeginRequest]) -> Result<Vec<BeginOutcome>, LedgerError> {
        let rows = sqlx::query!(
            r#"with input as (
                   select distinct * from unnest($1::uuid[], $2::uuid[], $3::int[], $4::bool[], $5::bool[])
                       as input (id, command_id, attempt, looks_first, has_looked)
               ), locked as (
                   select a.id, input.command_id, input.attempt,
                          case when c.attempt <> input.attempt or c.state <> 'sending' then 'lost'
                               when a.state in ('done', 'skipped', 'parked') then 'ended'
                               when a.state = 'intended' and exists (
                                   select from (select c.object_id as id
                                                union all
                                                select m.old_id from record_merge m
                                                where (m.portal_id, m.object_type, m.survivor_id)
                                                      = (c.portal_id, c.object_type, c.object_id)) as known_as
                                   -- `offset 0`, and no joins: a look into an index for each id and command, whatever the
                                   -- statistics say. A plan for tables that were small goes through all rows of large ones.
                                   cross join lateral (select oc.id, oc.inference_id from write_command oc
                                                       where (oc.portal_id, oc.object_type, oc.object_id)
                                                             = (c.portal_id, c.object_type, known_as.id)
                                                         and oc.undo_id is null and oc.id <> c.id offset 0) as oc
                                   where (select oi.playbook from inference oi where oi.id = oc.inference_id)
                                         = (select i.playbook from inference i where i.id = c.inference_id)
                                     and (select true from action o
                                          where o.write_command_id = oc.id and o.state = 'done' and o.name = a.name
                                            and o.finished_at > now() - a.cooldown_hours * interval '1 hour' limit 1)
                               ) then 'done_recently'
                               when a.state = 'intended' and input.looks_first then 'look_first'
                               when a.state = 'sending' and not input.has_looked then 'in_doubt'
                               when a.state in ('intended', 'sending') then 'send' end as outcome,
                          extract(epoch from clock_timestamp() - a.sending_since)::float8 as sending_for
                   from input join action a on a.id = input.id
                   join write_command c on c.id = a.write_command_id and c.id = input.command_id
                   order by a.id for update of a
               ), begun as (
                   update action a
                   set state = 'sending', sending_since = clock_timestamp()
                   from locked where a.id = locked.id and locked.outcome = 'send'
               ), skipped as (
                   update action a
                   set state = 'skipped', reason = $6, finished_at = clock_timestamp()
                   from locked where a.id = locked.id and locked.outcome = 'done_recently'
               )
               select input.id as "id!", input.command_id as "command_id!", input.attempt as "attempt!", locked.sending_for,
                      -- One that is not of the command under this claim: a newer change of the same millisecond has it, and
                      -- carries it out.
                      coalesce(locked.outcome, case when exists (
                          select from action a join write_command newer on newer.id = a.write_command_id
                          join write_command c on c.id = input.command_id
                          where a.id = input.id and a.write_command_id <> c.id
                            and c.attempt = input.attempt and c.state = 'sending'
                            and (newer.portal_id, newer.object_type) = (c.portal_id, c.object_type)) then 'ended' end) as outcome
               from input left join locked using (id, command_id, attempt)"#,
            &requests.iter().map(|request| request.id.0).collect::<Vec<_>>(),
            &requests.iter().map(|request| request.command.0).collect::<Vec<_>>(),
            &requests.iter().map(|request| request.attempt).collect::<Vec<_>>(),
            &requests.iter().map(|request| request.look == Look::First).collect::<Vec<_>>(),
            &requests.iter().map(|request| request.look == Look::Done).collect::<Vec<_>>(),
            Reason::DoneRecently.as_str(),
        )
        .fetch_all(&self.connections)
        .await?;
        let answers =
            rows.into_iter().map(|row| ((row.id, row.command_id, row.attempt), (row.outcome, row.sending_for)));
        let mut answers: HashMap<_, _> = answers.collect();
        let mut answer = |BeginRequest { id, command, attempt, .. }: &BeginRequest| {
            // Each answer is given once: of two that ask for the same, one sends.
            let (outcome, sending_for) = answers.remove(&(id.0, command.0, *attempt)).unwrap_or_default();
            match outcome.as_deref() {
                Some("send") => BeginOutcome::Send,
                Some("look_first") => BeginOutcome::LookFirst,
                Some("in_doubt") => BeginOutcome::InDoubt { sending_for: seconds(sending_for.unwrap_or(0.0).max(0.0)) },
                Some("ended" | "done_recently") => BeginOutcome::Ended,
                // Also in a state that only a newer version knows: the command comes back.
                _ => BeginOutcome::Lost,
            }
        };
        Ok(requests.iter().map(&mut answer).collect())
    }

    /// Records how actions ended, and what they have set, also when another writer has claimed their command since: the call was
    /// made. Does nothing to one that has ended already.
    pub async fn finish_actions(&self, ended: &[EndedAction]) -> Result<(), LedgerError> {
        let ended: Vec<_> = ended.iter().collect();
        if ended.iter().all(|ended| ended.written.is_none()) {
            end_rows(&self.connections, &ended).await?;
            return Ok(());
        }
        let mut transaction = self.connections.begin().await?;
        end_actions(&mut transaction, &ended).await?;
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
    if ended.is_empty() {
        return Ok(());
    }
    let commands = end_rows(&mut *transaction, ended).await?;
    let written = ended.iter().filter_map(|ended| Some((*commands.get(&ended.id)?, ended.written.as_ref()?)));
    let written: Vec<_> = written.collect();
    if written.is_empty() { Ok(()) } else { insert_writes(transaction, &written).await }
}

/// The rows of actions that have not ended yet. Returns the commands of those.
async fn end_rows<'a>(
    executor: impl Executor<'a, Database = Postgres>,
    ended: &[&EndedAction],
) -> Result<HashMap<ActionId, Uuid>, LedgerError> {
    let rows = sqlx::query!(
        "with input as (select * from unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::bigint[])
                            as input (id, state, reason, detail, hubspot_id)),
              locked as (select a.id from action a join input using (id)
                         where a.finished_at is null order by a.id for update of a)
         update action a
         set state = input.state::action_state, reason = input.reason, detail = input.detail,
             hubspot_id = input.hubspot_id, finished_at = clock_timestamp()
         from locked join input using (id) where a.id = locked.id
         returning a.id, a.write_command_id",
        &ended.iter().map(|ended| ended.id.0).collect::<Vec<_>>(),
        &ended.iter().map(|ended| ended.state.as_str().to_owned()).collect::<Vec<_>>(),
        &ended.iter().map(|ended| ended.reason.map(|reason| reason.as_str().to_owned())).collect::<Vec<_>>()
            as &[Option<String>],
        &ended.iter().map(|ended| ended.detail.as_deref().map(stored_detail)).collect::<Vec<_>>()
            as &[Option<String>],
        &ended.iter().map(|ended| ended.hubspot_id.map(|id| id.0)).collect::<Vec<_>>() as &[Option<i64>],
    )
    .fetch_all(executor)
    .await?;
    Ok(rows.into_iter().map(|row| (ActionId(row.id), row.write_command_id)).collect())
}
