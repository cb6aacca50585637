//! May this writer carry out this write command? And the write commands themselves.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use domain::{
    EventId, EventKey, InferenceId, WriteCommand, WriteCommandId,
    write_command::{Action, PropertyChange},
};
use sqlx::types::Json;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::{Ledger, LedgerError, Worker, milliseconds, records::record, seconds};

/// The ledger's answer to a writer that asks for a write command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CommandClaim {
    /// The writer holds the command until its lease expires.
    Granted {
        /// The number of this claim. A result is refused when a later claim exists.
        attempt: i32,
        /// Properties that were written under an earlier claim.
        written: Vec<String>,
        /// For how long its event has been on its way, without the time in which the whole fleet paused.
        age: Duration,
    },
    /// It has ended.
    Finished,
    /// Another writer holds it, or the batch has it twice. The message is to come back later.
    LeasedElsewhere,
    /// The ledger has no such command.
    Unknown,
}

impl Ledger {
    /// Claims commands for `worker`, each for the time of `lease`. Answers in the order of `ids`.
    ///
    /// A command is granted that is recorded, waits, or whose writer's lease expired.
    pub async fn claim_commands(
        &self,
        ids: &[WriteCommandId],
        worker: &Worker,
        lease: Duration,
    ) -> Result<Vec<CommandClaim>, LedgerError> {
        let all: Vec<Uuid> = ids.iter().map(|id| id.0).collect();
        let rows = sqlx::query!(
            r#"
            with locked as (
                select id from write_command
                where id = any($1::uuid[]) and finished_at is null
                  and (state in ('recorded', 'waiting') or lease_expires_at < now())
                order by id for update
            ), claimed as (
                update write_command c
                set state = 'sending', attempt = c.attempt + 1, worker = $2, reason = null, detail = null, due_at = null,
                    lease_expires_at = now() + $3::float8 * interval '1 millisecond'
                from locked where c.id = locked.id
                returning c.id, c.attempt
            )
            select c.id, claimed.attempt as "attempt?", c.finished_at is not null as "finished!",
                   array(select w.property from write w where w.write_command_id = c.id) as "written!",
                   case when claimed.attempt > 1 then (select age_seconds(e.age_since) from event e where e.id = c.event_id)
                        else 0 end as "age_seconds!"
            from write_command c left join claimed using (id) where c.id = any($1::uuid[])
            "#,
            &all,
            worker.0,
            milliseconds(lease),
        )
        .fetch_all(&self.pool)
        .await?;
        let known: HashMap<_, _> =
            rows.into_iter().map(|row| (row.id, (row.attempt, row.finished, row.written, row.age_seconds))).collect();
        // Of a command that is twice in the batch, the second message waits for the result of the first.
        let mut given = HashSet::new();
        let claim = |id: &WriteCommandId| match known.get(&id.0) {
            Some((Some(attempt), _, written, age)) if given.insert(id.0) => {
                CommandClaim::Granted { attempt: *attempt, written: written.clone(), age: seconds(*age) }
            }
            Some((None, true, ..)) => CommandClaim::Finished,
            Some(_) => CommandClaim::LeasedElsewhere,
            None => CommandClaim::Unknown,
        };
        Ok(ids.iter().map(claim).collect())
    }

    /// The unfinished write commands of events, by the event's id.
    pub(crate) async fn unfinished_commands_of(
        &self,
        events: &[Uuid],
    ) -> Result<HashMap<Uuid, Vec<WriteCommand>>, LedgerError> {
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

    /// Write commands by id, finished or not, in no particular order. Unknown ids are left out.
    pub async fn commands(&self, ids: &[Uuid]) -> Result<Vec<WriteCommand>, LedgerError> {
        let rows = sqlx::query_as!(
            CommandRow,
            r#"select id, event_id, inference_id, event_key, occurred_at, portal_id, object_type, object_id,
                      properties as "properties: Json<Vec<PropertyChange>>",
                      coalesce((select jsonb_agg(jsonb_build_object('id', a.id, 'name', a.name, 'spec', a.spec,
                                                                    'cooldown_hours', a.cooldown_hours)
                                                 order by a.id)
                                from action a where a.write_command_id = c.id), '[]'::jsonb)
                          as "actions!: Json<Vec<Action>>"
               from write_command c where id = any($1::uuid[])"#,
            ids
        )
        .fetch_all(&self.pool)
        .await?;
        Ok(rows.into_iter().map(WriteCommand::from).collect())
    }
}

/// The row of a write command: one field for each column of the query.
struct CommandRow {
    id: Uuid,
    event_id: Uuid,
    inference_id: Uuid,
    event_key: String,
    occurred_at: OffsetDateTime,
    portal_id: i64,
    object_type: String,
    object_id: i64,
    properties: Json<Vec<PropertyChange>>,
    actions: Json<Vec<Action>>,
}

impl From<CommandRow> for WriteCommand {
    fn from(row: CommandRow) -> Self {
        Self {
            id: WriteCommandId(row.id),
            event_id: EventId(row.event_id),
            event_key: EventKey::from_text(row.event_key),
            inference_id: InferenceId(row.inference_id),
            occurred_at: row.occurred_at,
            record: record(row.portal_id, &row.object_type, row.object_id),
            properties: row.properties.0,
            actions: row.actions.0,
        }
    }
}
