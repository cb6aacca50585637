//! What became of the write commands: results, written and skipped values, and the end of their events.

use std::{collections::HashSet, time::Duration};

use domain::{CommandState, Correction, CorrectionSource, ObjectId, Reason, WriteCommandId};
use uuid::Uuid;

use crate::{
    EndedAction, Ledger, LedgerError, Worker,
    actions::end_actions,
    connections::Transaction,
    corrections, milliseconds,
    proposals::{Proposal, replaced_proposals, store_proposals},
    stored_detail,
};

/// What became of a command under one claim.
#[derive(Debug, Clone)]
pub struct CommandResult {
    /// The command.
    pub id: WriteCommandId,
    /// The number of the claim.
    pub attempt: i32,
    /// The state that the command gets.
    pub state: CommandState,
    /// The reason for the state.
    pub reason: Option<Reason>,
    /// The reason in words.
    pub detail: Option<String>,
    /// If it waits: how long its message stays in a retry queue.
    pub wait: Option<Duration>,
    /// The record that its record was merged into: the command goes on with that one.
    pub moved_to: Option<ObjectId>,
    /// The properties that HubSpot has now because of it.
    pub written: Vec<WrittenProperty>,
    /// The properties that the write policies left as they were.
    pub skipped_writes: Vec<SkippedWrite>,
    /// What it would have done, when nothing was written.
    pub proposal: Option<Proposal>,
    /// Actions that ended with this result, and were not carried out under this claim.
    pub ended_actions: Vec<EndedAction>,
    /// What people had set properties of the record to.
    pub corrections: Vec<Correction>,
}

impl CommandResult {
    /// A command that gets this state, and nothing else came of it.
    pub fn new(id: WriteCommandId, attempt: i32, state: CommandState) -> Self {
        Self {
            id,
            attempt,
            state,
            reason: None,
            detail: None,
            wait: None,
            moved_to: None,
            written: Vec::new(),
            skipped_writes: Vec::new(),
            proposal: None,
            ended_actions: Vec::new(),
            corrections: Vec::new(),
        }
    }
}

/// One property that was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WrittenProperty {
    /// Its internal name.
    pub property: String,
    /// The value before, as read just before the write; `None` when it was empty.
    pub before: Option<String>,
    /// The value since.
    pub after: String,
}

/// One property that a write policy left as it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SkippedWrite {
    /// Its internal name.
    pub property: String,
    /// The policy's reason.
    pub reason: Reason,
    /// The value in HubSpot; `None` when it is empty.
    pub current_value: Option<String>,
    /// The value that the answer asked for.
    pub proposed_value: String,
}

impl Ledger {
    /// Commits results of commands: their states, what was written with what was there before, and the states of events
    /// whose last command this was.
    ///
    /// Returns for each result, in order, whether it was committed. A result is refused when another writer has claimed
    /// the command since, or, if it says that properties were written, when `worker` no longer holds the record's lease:
    /// then another writer may have written a newer value meanwhile.
    pub async fn finish_commands(&self, results: &[CommandResult], worker: &Worker) -> Result<Vec<bool>, LedgerError> {
        let mut transaction = self.connections.begin().await?;
        let ids: Vec<_> = results.iter().map(|item| item.id.0).collect();
        let is_by_rule = |item: &CommandResult| item.proposal.as_ref().is_some_and(|known| known.approved_by.is_some());
        let is_review = |item: &&CommandResult| item.state == CommandState::Proposed || is_by_rule(item);
        let proposed: Vec<_> = results.iter().filter(is_review).map(|item| item.id.0).collect();
        let replaced = replaced_proposals(&mut transaction, &proposed).await?;
        let attempts: Vec<_> = results.iter().map(|item| item.attempt).collect();
        let states: Vec<_> = results.iter().map(|item| item.state.as_str().to_owned()).collect();
        let reasons: Vec<_> = results.iter().map(|item| item.reason.map(|reason| reason.as_str().to_owned())).collect();
        let details: Vec<_> = results.iter().map(|item| item.detail.as_deref().map(stored_detail)).collect();
        let waits: Vec<_> = results.iter().map(|item| item.wait.map(milliseconds)).collect();
        let survivors: Vec<_> = results.iter().map(|item| item.moved_to.map(|survivor| survivor.0)).collect();
        // In any state: a command may wait for an action after its properties were written.
        let writes: Vec<_> = results.iter().map(|item| !item.written.is_empty()).collect();
        // The events are locked first, in the order of ids. Of two writers that finish two commands of one event, the
        // second must see the result of the first, or neither would end the event.
        sqlx::query!(
            "select id from event where id in (select event_id from write_command where id = any($1::uuid[]))
             order by id for update",
            &[&ids[..], &replaced].concat()
        )
        .fetch_all(&mut transaction)
        .await?;
        // The records are locked too: a writer that takes a lease over waits until this is committed, and then sees it.
        sqlx::query!(
            "select l.object_id from record_lease l
             where l.worker = $2 and (l.portal_id, l.object_type, l.object_id) in
                   (select portal_id, object_type, object_id from write_command where id = any($1::uuid[]))
             order by l.portal_id, l.object_type, l.object_id for update",
            &ids,
            worker.0
        )
        .fetch_all(&mut transaction)
        .await?;
        let committed = sqlx::query_scalar!(
            "update write_command c
             set state = input.state::write_command_state, reason = input.reason, detail = input.detail,
                 lease_expires_at = null, due_at = now() + input.wait * interval '1 millisecond',
                 object_id = coalesce(input.survivor_id, c.object_id),
                 merged_from = case when input.survivor_id is null then c.merged_from
                                    else coalesce(c.merged_from, c.object_id) end,
                 finished_at = case when input.state = 'waiting' then null else clock_timestamp() end
             from unnest($1::uuid[], $2::int[], $3::text[], $4::text[], $5::text[], $6::float8[], $8::bool[],
                         $9::bigint[])
                  as input (id, attempt, state, reason, detail, wait, writes, survivor_id)
             where c.id = input.id and c.attempt = input.attempt and c.state = 'sending'
               and (not input.writes
                    or exists (select from record_lease l
                               where (l.portal_id, l.object_type, l.object_id)
                                     = (c.portal_id, c.object_type, c.object_id) and l.worker = $7))
             returning c.id",
            &ids,
            &attempts,
            &states,
            &reasons as &[Option<String>],
            &details as &[Option<String>],
            &waits as &[Option<f64>],
            worker.0,
            &writes,
            &survivors as &[Option<i64>],
        )
        .fetch_all(&mut transaction)
        .await?;
        let committed: HashSet<Uuid> = committed.into_iter().collect();
        let counted = || results.iter().filter(|item| committed.contains(&item.id.0));
        // Before the command's own writes, which are no part of what people corrected.
        let corrected = counted().flat_map(|item| &item.corrections);
        let corrected = corrections::insert(&mut transaction, corrected, CorrectionSource::Read).await?;
        let written: Vec<_> =
            counted().flat_map(|item| item.written.iter().map(move |written| (item.id.0, written))).collect();
        insert_writes(&mut transaction, &written).await?;
        let ended: Vec<_> = counted().flat_map(|item| &item.ended_actions).collect();
        end_actions(&mut transaction, &ended).await?;
        // HubSpot has no such record (any more), or only what would be done is recorded: its actions are not carried out.
        sqlx::query!(
            "update action a
             set state = 'skipped', reason = c.reason, finished_at = clock_timestamp()
             from write_command c
             where c.id = a.write_command_id and c.id = any($1::uuid[])
               and (c.state = 'dropped' or c.mode = 'shadow' and c.state = 'skipped')
               and a.state = 'intended'",
            &ids
        )
        .execute(&mut transaction)
        .await?;
        insert_skipped_writes(&mut transaction, counted()).await?;
        let replaced = store_proposals(&mut transaction, counted()).await?;
        let events = sqlx::query_scalar!(
            "select distinct event_id from write_command where id = any($1::uuid[])",
            &[ids, replaced].concat()
        )
        .fetch_all(&mut transaction)
        .await?;
        end_events(&mut transaction, &events).await?;
        transaction.commit().await?;
        corrections::count(&corrected);
        Ok(results.iter().map(|item| committed.contains(&item.id.0)).collect())
    }
}

/// Ends the decided events among `events` that have no unfinished command left. The event takes the gravest state of its
/// commands: parked, else proposed, else written, else dropped, else skipped, else superseded. One that was proposed ends when
/// no proposal is left. Those that undo something are no outcome of it.
pub(crate) async fn end_events(transaction: &mut Transaction, events: &[Uuid]) -> Result<(), LedgerError> {
    sqlx::query!(
        "with ended as (
             select c.event_id,
                    bool_or(c.state = 'parked') as parked, bool_or(c.state = 'written') as written,
                    bool_or(c.state = 'proposed') as proposed,
                    min(c.reason) filter (where c.state = 'proposed') as proposed_reason,
                    bool_or(c.state = 'dropped') as dropped, bool_or(c.state = 'skipped') as skipped,
                    min(c.reason) filter (where c.state in ('parked', 'dropped')) as reason,
                    min(c.reason) filter (where c.state = 'skipped') as skipped_reason,
                    min(c.reason) filter (where c.state = 'superseded') as superseded_reason,
                    min(c.detail) filter (where c.state in ('parked', 'dropped')) as detail
             from write_command c
             where c.event_id = any($1::uuid[]) and c.undo_id is null
             group by c.event_id having bool_and(c.finished_at is not null)
         )
         update event e
         set state = case when ended.parked then 'parked' when ended.proposed then 'proposed'
                          when ended.written then 'written'
                          when ended.dropped then 'dropped' when ended.skipped then 'skipped'
                          else 'superseded' end::event_state,
             reason = case when ended.parked then ended.reason when ended.proposed then ended.proposed_reason
                           when ended.dropped and not ended.written then ended.reason
                           when ended.written then null
                           when ended.skipped then ended.skipped_reason else ended.superseded_reason end,
             detail = case when (ended.written or ended.proposed) and not ended.parked then null else ended.detail end
         from ended where e.id = ended.event_id
           and (e.state = 'decided' or e.state = 'proposed' and not (ended.proposed and not ended.parked))",
        events
    )
    .execute(&mut *transaction)
    .await?;
    Ok(())
}

/// Records what was written, by write command.
pub(crate) async fn insert_writes(
    transaction: &mut Transaction,
    written: &[(Uuid, &WrittenProperty)],
) -> Result<(), LedgerError> {
    let commands: Vec<_> = written.iter().map(|(id, _)| *id).collect();
    let properties: Vec<_> = written.iter().map(|(_, written)| written.property.clone()).collect();
    let before: Vec<_> = written.iter().map(|(_, written)| written.before.clone()).collect();
    let after: Vec<_> = written.iter().map(|(_, written)| written.after.clone()).collect();
    sqlx::query!(
        "insert into write (write_command_id, property, before, after, portal_id, object_type, object_id,
                            occurred_at, event_key)
         select input.id, input.property, input.before, input.after, c.portal_id, c.object_type, c.object_id,
                c.occurred_at, c.event_key
         from unnest($1::uuid[], $2::text[], $3::text[], $4::text[]) as input (id, property, before, after)
         join write_command c on c.id = input.id
         on conflict do nothing",
        &commands,
        &properties,
        &before as &[Option<String>],
        &after,
    )
    .execute(&mut *transaction)
    .await?;
    Ok(())
}

async fn insert_skipped_writes(
    transaction: &mut Transaction,
    results: impl Iterator<Item = &CommandResult>,
) -> Result<(), LedgerError> {
    let skipped: Vec<_> =
        results.flat_map(|result| result.skipped_writes.iter().map(move |skipped| (result.id.0, skipped))).collect();
    if skipped.is_empty() {
        return Ok(());
    }
    sqlx::query!(
        "insert into skipped_write (write_command_id, property, reason, current_value, proposed_value)
         select * from unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[])
         on conflict do nothing",
        &skipped.iter().map(|(id, _)| *id).collect::<Vec<_>>(),
        &skipped.iter().map(|(_, skipped)| skipped.property.clone()).collect::<Vec<_>>(),
        &skipped.iter().map(|(_, skipped)| skipped.reason.as_str().to_owned()).collect::<Vec<_>>(),
        &skipped.iter().map(|(_, skipped)| skipped.current_value.clone()).collect::<Vec<_>>() as &[Option<String>],
        &skipped.iter().map(|(_, skipped)| skipped.proposed_value.clone()).collect::<Vec<_>>(),
    )
    .execute(&mut *transaction)
    .await?;
    Ok(())
}

/// Locks the event of a write command. Every statement that changes both locks the event first, so that two do not deadlock.
pub(crate) async fn lock_event_of(transaction: &mut Transaction, id: WriteCommandId) -> Result<(), LedgerError> {
    sqlx::query!("select id from event where id = (select event_id from write_command where id = $1) for update", id.0)
        .fetch_optional(&mut *transaction)
        .await?;
    Ok(())
}
