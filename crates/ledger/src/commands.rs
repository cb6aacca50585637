//! "May I carry this out?" and "this is what became of it" — the writer's questions about write commands.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use domain::{
    CommandState, EventId, EventKey, InferenceId, Reason, WriteCommand, WriteCommandId,
    write_command::{Action, PropertyChange},
};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::{Ledger, LedgerError, Worker, milliseconds, records::record};

/// The ledger's answer to "may I carry out this command?".
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Taken {
    /// Carry it out; the number fences what is committed about it.
    Mine {
        /// The claim's number.
        attempt: i32,
        /// Properties that it has written under an earlier claim.
        written: Vec<String>,
    },
    /// It has ended already.
    Done,
    /// Another writer has it. Come back later.
    LeasedElsewhere,
    /// The ledger does not know it: nobody decided it.
    Unknown,
}

/// What became of a command.
#[derive(Debug, Clone)]
pub struct Finished {
    /// The command.
    pub id: WriteCommandId,
    /// The claim's number.
    pub attempt: i32,
    /// How it ended.
    pub state: CommandState,
    /// Why.
    pub reason: Option<Reason>,
    /// Why, in words.
    pub detail: Option<String>,
    /// How long its message stays in a retry queue, if it waits.
    pub wait: Option<Duration>,
    /// What HubSpot has now because of it.
    pub written: Vec<WrittenProperty>,
    /// What was left as it was.
    pub skipped_writes: Vec<SkippedWrite>,
}

/// One property that was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WrittenProperty {
    /// Its name.
    pub property: String,
    /// What it held before, as read just before the write.
    pub before: Option<String>,
    /// What it holds now.
    pub after: String,
}

/// One property that was left as it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SkippedWrite {
    /// Its name.
    pub property: String,
    /// Why.
    pub reason: Reason,
    /// What it holds.
    pub current_value: Option<String>,
    /// What the answer would have set.
    pub proposed_value: String,
}

impl Ledger {
    /// Claims commands for `worker`, each until `lease` is over. Answers in the order of `ids`.
    pub async fn take_commands(
        &self,
        ids: &[WriteCommandId],
        worker: &Worker,
        lease: Duration,
    ) -> Result<Vec<Taken>, LedgerError> {
        let all: Vec<Uuid> = ids.iter().map(|id| id.0).collect();
        let rows = sqlx::query!(
            r#"
            with locked as (
                select id from write_command
                where id = any($1::uuid[]) and finished_at is null
                  and (state in ('recorded', 'waiting') or lease_expires_at < now())
                order by id for update
            ), taken as (
                update write_command c
                set state = 'sending', attempt = c.attempt + 1, worker = $2, reason = null, detail = null, due_at = null,
                    lease_expires_at = now() + $3::float8 * interval '1 millisecond'
                from locked where c.id = locked.id
                returning c.id, c.attempt
            )
            select c.id, taken.attempt as "attempt?", c.finished_at is not null as "finished!",
                   array(select w.property from write w where w.write_command_id = c.id) as "written!"
            from write_command c left join taken using (id) where c.id = any($1::uuid[])
            "#,
            &all,
            worker.0,
            milliseconds(lease),
        )
        .fetch_all(&self.pool)
        .await?;
        let known: HashMap<_, _> =
            rows.into_iter().map(|row| (row.id, (row.attempt, row.finished, row.written))).collect();
        // The same command twice in one batch: the second one waits for what becomes of the first.
        let mut given = HashSet::new();
        let taken = |id: &WriteCommandId| match known.get(&id.0) {
            Some((Some(attempt), _, written)) if given.insert(id.0) => {
                Taken::Mine { attempt: *attempt, written: written.clone() }
            }
            Some((None, true, _)) => Taken::Done,
            Some(_) => Taken::LeasedElsewhere,
            None => Taken::Unknown,
        };
        Ok(ids.iter().map(taken).collect())
    }

    /// The unfinished write commands of events.
    pub(crate) async fn commands_of(&self, events: &[Uuid]) -> Result<HashMap<Uuid, Vec<WriteCommand>>, LedgerError> {
        let ids = sqlx::query_scalar!(
            "select id from write_command where event_id = any($1::uuid[]) and finished_at is null",
            events
        )
        .fetch_all(&self.pool)
        .await?;
        let mut commands: HashMap<Uuid, Vec<WriteCommand>> = HashMap::new();
        for command in self.commands(&ids).await? {
            commands.entry(command.event_id.0).or_default().push(command);
        }
        Ok(commands)
    }

    /// Write commands by id, finished or not. In no particular order; unknown ids are left out.
    pub async fn commands(&self, ids: &[Uuid]) -> Result<Vec<WriteCommand>, LedgerError> {
        let rows = sqlx::query_as!(
            CommandRow,
            r#"select id, event_id, inference_id, event_key, occurred_at, portal_id, object_type, object_id, properties,
                      coalesce((select jsonb_agg(jsonb_build_object('id', a.id, 'name', a.name, 'spec', a.spec,
                                                                    'cooldown_hours', a.cooldown_hours)
                                                 order by a.id)
                                from action a where a.write_command_id = c.id), '[]'::jsonb) as "actions!"
               from write_command c where id = any($1::uuid[])"#,
            ids
        )
        .fetch_all(&self.pool)
        .await?;
        rows.into_iter().map(WriteCommand::try_from).collect()
    }

    /// Commits what became of commands: their state, what was written with what was there before, and the state of
    /// events whose last command this was. Says for each, in order, whether it counted: not, when somebody else has taken
    /// the command over, or, of what was written, the record; then a newer value may have been written meanwhile.
    pub async fn finish_commands(&self, finished: &[Finished], worker: &Worker) -> Result<Vec<bool>, LedgerError> {
        let mut transaction = self.pool.begin().await?;
        let ids: Vec<_> = finished.iter().map(|item| item.id.0).collect();
        let attempts: Vec<_> = finished.iter().map(|item| item.attempt).collect();
        let states: Vec<_> = finished.iter().map(|item| item.state.as_str().to_owned()).collect();
        let reasons: Vec<_> =
            finished.iter().map(|item| item.reason.map(|reason| reason.as_str().to_owned())).collect();
        let details: Vec<_> = finished.iter().map(|item| item.detail.clone()).collect();
        let waits: Vec<_> = finished.iter().map(|item| item.wait.map(milliseconds)).collect();
        // Whatever state it is in: a command may wait for an action while its properties are written.
        let writes: Vec<_> = finished.iter().map(|item| !item.written.is_empty()).collect();
        // The events first, in the order of ids: two writers that finish two commands of one event must see each
        // other, or neither would end the event.
        sqlx::query!(
            "select id from event where id in (select event_id from write_command where id = any($1::uuid[]))
             order by id for update",
            &ids
        )
        .fetch_all(&mut *transaction)
        .await?;
        // The records too: whoever takes one over waits for this to be committed, and then knows of it.
        sqlx::query!(
            "select l.object_id from record_lease l
             where l.worker = $2 and (l.portal_id, l.object_type, l.object_id) in
                   (select portal_id, object_type, object_id from write_command where id = any($1::uuid[]))
             order by l.portal_id, l.object_type, l.object_id for update",
            &ids,
            worker.0
        )
        .fetch_all(&mut *transaction)
        .await?;
        let counted = sqlx::query_scalar!(
            "update write_command c
             set state = input.state::write_command_state, reason = input.reason, detail = input.detail,
                 lease_expires_at = null, due_at = now() + input.wait * interval '1 millisecond',
                 finished_at = case when input.state = 'waiting' then null else clock_timestamp() end
             from unnest($1::uuid[], $2::int[], $3::text[], $4::text[], $5::text[], $6::float8[], $8::bool[])
                  as input (id, attempt, state, reason, detail, wait, writes)
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
        )
        .fetch_all(&mut *transaction)
        .await?;
        let counted: HashSet<Uuid> = counted.into_iter().collect();
        let written = || {
            let counted = finished.iter().filter(|item| counted.contains(&item.id.0));
            counted.flat_map(|item| item.written.iter().map(|property| (item.id.0, property)))
        };
        let commands: Vec<_> = written().map(|(id, _)| id).collect();
        let properties: Vec<_> = written().map(|(_, written)| written.property.clone()).collect();
        let before: Vec<_> = written().map(|(_, written)| written.before.clone()).collect();
        let after: Vec<_> = written().map(|(_, written)| written.after.clone()).collect();
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
        // The record is gone: nothing is left to be done for it.
        sqlx::query!(
            "update action a
             set state = 'skipped', reason = c.reason, finished_at = clock_timestamp()
             from write_command c
             where c.id = a.write_command_id and c.id = any($1::uuid[]) and c.state = 'dropped'
               and a.state = 'intended'",
            &ids
        )
        .execute(&mut *transaction)
        .await?;
        insert_kept(&mut transaction, finished.iter().filter(|item| counted.contains(&item.id.0))).await?;
        let events =
            sqlx::query_scalar!("select distinct event_id from write_command where id = any($1::uuid[])", &ids)
                .fetch_all(&mut *transaction)
                .await?;
        end_events(&mut transaction, &events).await?;
        transaction.commit().await?;
        Ok(finished.iter().map(|item| counted.contains(&item.id.0)).collect())
    }
}

/// Ends the decided events among `events` that have no unfinished command left. An event ends with its last command;
/// of several ends the most telling one counts.
pub(crate) async fn end_events(transaction: &mut sqlx::PgTransaction<'_>, events: &[Uuid]) -> Result<(), LedgerError> {
    sqlx::query!(
        "with ended as (
             select c.event_id,
                    bool_or(c.state = 'parked') as parked, bool_or(c.state = 'written') as written,
                    bool_or(c.state = 'dropped') as dropped, bool_or(c.state = 'skipped') as kept,
                    min(c.reason) filter (where c.state in ('parked', 'dropped')) as reason,
                    min(c.reason) filter (where c.state = 'skipped') as kept_reason,
                    min(c.reason) filter (where c.state = 'superseded') as superseded_reason,
                    min(c.detail) filter (where c.state in ('parked', 'dropped')) as detail
             from write_command c
             where c.event_id = any($1::uuid[])
             group by c.event_id having bool_and(c.finished_at is not null)
         )
         update event e
         set state = case when ended.parked then 'parked' when ended.written then 'written'
                          when ended.dropped then 'dropped' when ended.kept then 'skipped'
                          else 'superseded' end::event_state,
             reason = case when ended.parked or ended.dropped and not ended.written then ended.reason
                           when ended.written then null
                           when ended.kept then ended.kept_reason else ended.superseded_reason end,
             detail = case when ended.written and not ended.parked then null else ended.detail end
         from ended where e.id = ended.event_id and e.state = 'decided'",
        events
    )
    .execute(&mut **transaction)
    .await?;
    Ok(())
}

async fn insert_kept(
    transaction: &mut sqlx::PgTransaction<'_>,
    finished: impl Iterator<Item = &Finished>,
) -> Result<(), LedgerError> {
    let kept: Vec<_> =
        finished.flat_map(|item| item.skipped_writes.iter().map(move |kept| (item.id.0, kept))).collect();
    if kept.is_empty() {
        return Ok(());
    }
    sqlx::query!(
        "insert into skipped_write (write_command_id, property, reason, current_value, proposed_value)
         select * from unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[])
         on conflict do nothing",
        &kept.iter().map(|(id, _)| *id).collect::<Vec<_>>(),
        &kept.iter().map(|(_, kept)| kept.property.clone()).collect::<Vec<_>>(),
        &kept.iter().map(|(_, kept)| kept.reason.as_str().to_owned()).collect::<Vec<_>>(),
        &kept.iter().map(|(_, kept)| kept.current_value.clone()).collect::<Vec<_>>() as &[Option<String>],
        &kept.iter().map(|(_, kept)| kept.proposed_value.clone()).collect::<Vec<_>>(),
    )
    .execute(&mut **transaction)
    .await?;
    Ok(())
}

/// A write command as its row has it.
struct CommandRow {
    id: Uuid,
    event_id: Uuid,
    inference_id: Uuid,
    event_key: String,
    occurred_at: OffsetDateTime,
    portal_id: i64,
    object_type: String,
    object_id: i64,
    properties: serde_json::Value,
    actions: serde_json::Value,
}

impl TryFrom<CommandRow> for WriteCommand {
    type Error = LedgerError;

    fn try_from(row: CommandRow) -> Result<Self, LedgerError> {
        let properties: Vec<PropertyChange> = serde_json::from_value(row.properties)
            .map_err(|error| LedgerError::Unreadable(format!("properties of write command {}: {error}", row.id)))?;
        let actions: Vec<Action> = serde_json::from_value(row.actions)
            .map_err(|error| LedgerError::Unreadable(format!("actions of write command {}: {error}", row.id)))?;
        Ok(Self {
            id: WriteCommandId(row.id),
            event_id: EventId(row.event_id),
            event_key: EventKey::from_text(row.event_key),
            inference_id: InferenceId(row.inference_id),
            occurred_at: row.occurred_at,
            record: record(row.portal_id, &row.object_type, row.object_id),
            properties,
            actions,
        })
    }
}
