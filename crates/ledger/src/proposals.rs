//! What would be written, and which proposals are too old? What a writer records of commands in review and in shadow.

use std::time::Duration;

use domain::{CommandState, Reason, review::ReviewDecision};
use uuid::Uuid;

use crate::{
    CommandResult, Ledger, LedgerError, command_results::end_events, connections::Transaction, milliseconds, seconds,
};

/// What a command would have done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proposal {
    /// The properties that it would have set; of a moved deal its stage.
    pub writes: Vec<ProposedWrite>,
    /// The name of the rule that approves it.
    pub approved_by: Option<String>,
    /// How long it waits for a person.
    pub expires_after: Duration,
}

/// One property that a command would have set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProposedWrite {
    /// Its internal name.
    pub property: String,
    /// The value now; `None` when it is empty.
    pub before: Option<String>,
    /// The value that the command would have set.
    pub proposed: String,
}

/// The proposals that wait for a person.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WaitingProposals {
    /// How many.
    pub count: i64,
    /// The age of the oldest; zero when there is none.
    pub oldest: Duration,
}

impl Ledger {
    /// The proposals that wait for a person.
    pub async fn waiting_proposals(&self) -> Result<WaitingProposals, LedgerError> {
        let row = sqlx::query!(
            r#"select count(*) as "count!",
                      coalesce(extract(epoch from clock_timestamp() - min(proposed_at)), 0)::float8 as "oldest!"
               from write_command where state = 'proposed'"#
        )
        .fetch_one(&self.connections)
        .await?;
        Ok(WaitingProposals { count: row.count, oldest: seconds(row.oldest) })
    }

    /// Skips at most `max` proposals that nobody has decided about in time. Returns how many.
    pub async fn expire_proposals(&self, max: i64) -> Result<u64, LedgerError> {
        let mut transaction = self.connections.begin().await?;
        let events = sqlx::query_scalar!(
            "select e.id from event e
             where e.id in (select event_id from write_command where state = 'proposed' and expires_at < now()
                            order by expires_at limit $1)
             order by e.id for update skip locked",
            max
        )
        .fetch_all(&mut transaction)
        .await?;
        let expired = sqlx::query_scalar!(
            "update write_command c
             set state = case when exists (select from write w where w.write_command_id = c.id) then 'written'
                              else 'skipped' end::write_command_state,
                 reason = $2, detail = null, finished_at = clock_timestamp()
             where event_id = any($1::uuid[]) and state = 'proposed' and expires_at < now() returning id",
            &events,
            Reason::ReviewExpired.as_str()
        )
        .fetch_all(&mut transaction)
        .await?;
        record_reviews(&mut transaction, &expired, ReviewDecision::Expired, "leadline", None).await?;
        skip_actions(&mut transaction, &expired).await?;
        end_events(&mut transaction, &events).await?;
        transaction.commit().await?;
        Ok(expired.len() as u64)
    }
}

/// The events of waiting proposals that one of `proposed` may replace, or that may replace it.
pub(crate) async fn replaced_proposals(
    transaction: &mut Transaction,
    proposed: &[Uuid],
) -> Result<Vec<Uuid>, LedgerError> {
    if proposed.is_empty() {
        return Ok(Vec::new());
    }
    let others = sqlx::query_scalar!(
        "select other.id from write_command c
         join write_command other on (other.portal_id, other.object_type, other.object_id)
                                     = (c.portal_id, c.object_type, c.object_id)
         where c.id = any($1::uuid[]) and other.state = 'proposed'",
        proposed
    )
    .fetch_all(&mut *transaction)
    .await?;
    Ok(others)
}

/// Stores what results propose, and ends the waiting proposals that newer ones replace, also those that a rule approves. Returns the commands that were replaced.
pub(crate) async fn store_proposals(
    transaction: &mut Transaction,
    results: impl Iterator<Item = &CommandResult>,
) -> Result<Vec<Uuid>, LedgerError> {
    let proposals: Vec<_> =
        results.filter_map(|result| result.proposal.as_ref().map(|proposal| (result, proposal))).collect();
    if proposals.is_empty() {
        return Ok(Vec::new());
    }
    insert_writes(transaction, &proposals).await?;
    let mut proposed = Vec::new();
    for (result, proposal) in proposals {
        let id = result.id.0;
        if proposal.approved_by.is_some() || result.state == CommandState::Proposed {
            proposed.push(id);
        }
        if let Some(rule) = &proposal.approved_by {
            sqlx::query!("update write_command set mode = 'live', proposed_at = clock_timestamp() where id = $1", id)
                .execute(&mut *transaction)
                .await?;
            let by = format!("rule {rule}");
            record_reviews(transaction, &[id], ReviewDecision::ByRule, &by, None).await?;
        } else if result.state == CommandState::Proposed {
            sqlx::query!(
                "update write_command
                 set mode = 'review', proposed_at = clock_timestamp(),
                     announced_at = null, expires_at = clock_timestamp() + $2::float8 * interval '1 millisecond'
                 where id = $1",
                id,
                milliseconds(proposal.expires_after)
            )
            .execute(&mut *transaction)
            .await?;
        }
    }
    replace_older(transaction, &proposed).await
}

async fn insert_writes(
    transaction: &mut Transaction,
    proposals: &[(&CommandResult, &Proposal)],
) -> Result<(), LedgerError> {
    let writes = || {
        proposals.iter().flat_map(|(result, proposal)| proposal.writes.iter().map(move |write| (result.id.0, write)))
    };
    // What a reviewer set in place of a value stays.
    sqlx::query!(
        "insert into proposed_write as known (write_command_id, property, before, proposed)
         select * from unnest($1::uuid[], $2::text[], $3::text[], $4::text[])
         on conflict (write_command_id, property) do update set before = excluded.before, proposed_at = clock_timestamp()",
        &writes().map(|(id, _)| id).collect::<Vec<_>>(),
        &writes().map(|(_, write)| write.property.clone()).collect::<Vec<_>>(),
        &writes().map(|(_, write)| write.before.clone()).collect::<Vec<_>>() as &[Option<String>],
        &writes().map(|(_, write)| write.proposed.clone()).collect::<Vec<_>>(),
    )
    .execute(&mut *transaction)
    .await?;
    Ok(())
}

/// Of two proposals of one playbook for one record, the newer one takes over what both propose: it is taken out of the older one, which
/// is superseded when nothing is left of it, and is another proposal when something is. The older one waits; the newer one waits as
/// well, or is one of `proposed`. Returns the commands that were superseded.
async fn replace_older(transaction: &mut Transaction, proposed: &[Uuid]) -> Result<Vec<Uuid>, LedgerError> {
    if proposed.is_empty() {
        return Ok(Vec::new());
    }
    let pairs = sqlx::query!(
        "with proposal as (
             select c.id, c.portal_id, c.object_type, c.object_id, c.occurred_at, c.event_key, c.state, i.playbook
             from write_command c join inference i on i.id = c.inference_id
             where (c.state = 'proposed' or c.id = any($1::uuid[])) and (c.portal_id, c.object_type, c.object_id) in
                   (select portal_id, object_type, object_id from write_command where id = any($1::uuid[]))
         )
         select older.id as older, newer.id as newer from proposal older join proposal newer
           on (older.portal_id, older.object_type, older.object_id, older.playbook)
              = (newer.portal_id, newer.object_type, newer.object_id, newer.playbook)
          and (older.occurred_at, older.event_key collate \"C\") < (newer.occurred_at, newer.event_key collate \"C\")
         where older.state = 'proposed'",
        proposed
    )
    .fetch_all(&mut *transaction)
    .await?;
    if pairs.is_empty() {
        return Ok(Vec::new());
    }
    let (older, newer): (Vec<_>, Vec<_>) = pairs.into_iter().map(|pair| (pair.older, pair.newer)).unzip();
    let reason = Reason::NewerProposal.as_str();
    let mut changed = sqlx::query_scalar!(
        "update action a set state = 'skipped', reason = $3, finished_at = clock_timestamp()
         where a.finished_at is null and exists
               (select from unnest($1::uuid[], $2::uuid[]) as pair (older, newer)
                join action taken on taken.write_command_id = pair.newer and taken.finished_at is null
                where pair.older = a.write_command_id and taken.name = a.name)
           and a.write_command_id = any($1::uuid[])
         returning a.write_command_id",
        &older,
        &newer,
        reason
    )
    .fetch_all(&mut *transaction)
    .await?;
    // The stage of a deal goes with the action that moves it.
    let taken_over = sqlx::query_scalar!(
        "update proposed_write p set replaced_at = clock_timestamp()
         where p.write_command_id = any($1::uuid[]) and p.replaced_at is null
           and exists (select from unnest($1::uuid[], $2::uuid[]) as pair (older, newer)
                       join proposed_write taken on taken.write_command_id = pair.newer and taken.replaced_at is null
                       where pair.older = p.write_command_id and taken.property = p.property)
           and not exists (select from write w where (w.write_command_id, w.property) = (p.write_command_id, p.property))
           and not (p.property = 'dealstage'
                    and exists (select from action a where a.write_command_id = p.write_command_id
                                                       and a.kind = 'move_deal' and a.finished_at is null))
         returning p.write_command_id",
        &older,
        &newer
    )
    .fetch_all(&mut *transaction)
    .await?;
    changed.extend(taken_over);
    let superseded = sqlx::query_scalar!(
        "update write_command c
         set state = case when exists (select from write w where w.write_command_id = c.id) then 'written'
                          else 'superseded' end::write_command_state,
             reason = $2, detail = null, finished_at = clock_timestamp()
         where c.id = any($1::uuid[]) and c.state = 'proposed'
           and not exists (select from action a where a.write_command_id = c.id and a.finished_at is null)
           and not exists (select from proposed_write p
                           where p.write_command_id = c.id and p.replaced_at is null
                             and not exists (select from write w
                                             where (w.write_command_id, w.property) = (p.write_command_id, p.property)))
         returning c.id",
        &older,
        reason
    )
    .fetch_all(&mut *transaction)
    .await?;
    count_anew(transaction, &changed).await?;
    Ok(superseded)
}

/// Makes waiting proposals ones that no reviewer has seen: a verdict on what they were before does not hold for them, and a channel is
/// told of them again.
async fn count_anew(transaction: &mut Transaction, changed: &[Uuid]) -> Result<(), LedgerError> {
    sqlx::query!(
        "update write_command set attempt = attempt + 1, claimed_with_mode = attempt + 1, announced_at = null
         where id = any($1::uuid[]) and state = 'proposed'",
        changed
    )
    .execute(&mut *transaction)
    .await?;
    Ok(())
}

/// Records a decision about proposals, with the values that were decided about: neither those that a newer proposal has taken over nor
/// those that are written already.
pub(crate) async fn record_reviews(
    transaction: &mut Transaction,
    commands: &[Uuid],
    decision: ReviewDecision,
    by: &str,
    why: Option<&str>,
) -> Result<(), LedgerError> {
    sqlx::query!(
        "insert into review (write_command_id, decision, decided_by, why, properties)
         select c.id, $2, $3, $4,
                coalesce((select jsonb_agg(jsonb_strip_nulls(jsonb_build_object('approved', p.edited))
                                           || jsonb_build_object('property', p.property, 'before', p.before,
                                                                 'proposed', p.proposed) order by p.property)
                          from proposed_write p where p.write_command_id = c.id and p.replaced_at is null
                            and not exists (select from write w
                                            where (w.write_command_id, w.property) = (p.write_command_id, p.property))), '[]')
         from unnest($1::uuid[]) as c (id)",
        commands,
        decision.as_str(),
        by,
        why
    )
    .execute(&mut *transaction)
    .await?;
    Ok(())
}

/// Skips what ended commands would have done, for the reason of the command.
pub(crate) async fn skip_actions(transaction: &mut Transaction, commands: &[Uuid]) -> Result<(), LedgerError> {
    sqlx::query!(
        "update action a set state = 'skipped', reason = c.reason, finished_at = clock_timestamp()
         from write_command c
         where c.id = a.write_command_id and c.id = any($1::uuid[]) and a.finished_at is null",
        commands
    )
    .execute(&mut *transaction)
    .await?;
    Ok(())
}
