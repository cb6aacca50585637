//! May this writer carry out this write command? And the write commands themselves.

use std::{collections::HashMap, mem, time::Duration};

use domain::{
    CommandState, EventId, EventKey, InferenceId, PortalId, RecordRef, WriteCommand, WriteCommandId,
    review::{Approved, ReviewTerms, WriteMode, WriteTerms},
    write_command::ExpectedValue,
};
use serde::de::DeserializeOwned;
use serde_json::Value;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::{
    Ledger, LedgerError, Recovery, Worker,
    column::{COMMAND_MODE, COMMAND_STATE},
    milliseconds,
    records::record,
    seconds,
};

/// The ledger's answer to a writer that asks for a write command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CommandClaim {
    /// The writer holds the command until its lease expires.
    Granted {
        /// What is to be carried out, as it was decided.
        command: Box<WriteCommand>,
        /// The number of this claim. A result is refused when a later claim exists.
        attempt: i32,
        /// Properties that were written under an earlier claim.
        written: Vec<String>,
        /// For how long its event has been on its way, without the time in which the whole fleet paused.
        age: Duration,
        /// Since when the ledger may have forgotten what it knew; `None` when it was never recovered.
        recovery: Option<Recovery>,
        /// Whether it takes back what an earlier command wrote.
        is_undo: bool,
    },
    /// The writer holds the command, but its properties or actions cannot be read: somebody has changed its row.
    Unreadable {
        /// The number of this claim.
        attempt: i32,
        /// What cannot be read, without the values.
        detail: String,
    },
    /// The writer holds the command, but only a newer version of Leadline knows how to carry it out.
    NewerFormat {
        /// The number of this claim.
        attempt: i32,
        /// The format that it has.
        format: i16,
        /// For how long its event has been on its way, as in a grant.
        age: Duration,
    },
    /// It has ended.
    Finished,
    /// The writer holds the command, but it is about a record of another portal.
    OtherPortal {
        /// The number of this claim.
        attempt: i32,
        /// The portal.
        portal: PortalId,
    },
    /// Another writer holds it, or the batch has it twice. The message is to come back later.
    LeasedElsewhere,
    /// The ledger has no such command.
    Unknown,
}

impl Ledger {
    /// Claims commands about records of `portal` for `worker`, each for the time of `lease`, and reads what they are to do.
    /// Answers in the order of `ids`.
    ///
    /// A command is granted that is recorded, waits, or whose writer's lease expired.
    pub async fn claim_commands(
        &self,
        ids: &[WriteCommandId],
        portal: PortalId,
        worker: &Worker,
        lease: Duration,
    ) -> Result<Vec<CommandClaim>, LedgerError> {
        let all: Vec<Uuid> = ids.iter().map(|id| id.0).collect();
        let rows = sqlx::query_as!(
            ClaimedRow,
            r#"
            with locked as (
                select id from write_command
                where id = any($1::uuid[]) and finished_at is null
                  and (state in ('recorded', 'waiting') or lease_expires_at < now())
                order by id for update
            ), claimed as (
                update write_command c
                set state = 'sending', attempt = c.attempt + 1, claimed_with_mode = c.attempt + 1, worker = $2, reason = null, detail = null, due_at = null,
                    lease_expires_at = now() + $3::float8 * interval '1 millisecond'
                from locked where c.id = locked.id
                returning c.id, c.attempt
            ), recovery as (
                select recovered_at() as at
            )
            select c.id, claimed.attempt as "attempt?", c.finished_at is not null as "finished!", c.format,
                   c.event_id, c.inference_id, c.event_key, c.occurred_at, c.portal_id, c.object_type, c.object_id,
                   c.mode::text as "mode!", c.review, case when c.mode = 'live' then c.proposed_at end as approved_since,
                   -- What was approved replaces the value that the reviewer saw, whoever set that.
                   case when claimed.id is null then null
                        when c.mode = 'live' and c.proposed_at is not null
                        then (select coalesce(jsonb_agg(jsonb_build_object(
                                         'property', p.property, 'value', coalesce(p.edited, p.proposed), 'policy', 'always',
                                         'expected', jsonb_build_object('value', p.before)) order by p.property), '[]')
                              from proposed_write p
                              join jsonb_array_elements(c.properties) asked on asked ->> 'property' = p.property
                              where p.write_command_id = c.id and p.replaced_at is null)
                        else c.properties end as properties,
                   case when c.mode = 'live' and c.proposed_at is not null
                        then (select jsonb_build_object('value', p.before) from proposed_write p
                              where p.write_command_id = c.id and p.property = 'dealstage' and p.replaced_at is null)
                        end as deal_stage,
                   case when claimed.id is not null
                        then (select jsonb_agg(jsonb_build_object('id', a.id, 'name', a.name, 'spec', a.spec,
                                                                  'cooldown_hours', a.cooldown_hours)
                                               order by a.id)
                              from action a where a.write_command_id = c.id) end as actions,
                   array(select w.property from write w where w.write_command_id = c.id) as "written!",
                   case when claimed.attempt = 1 then 0
                        -- What an old event wrote may be undone today.
                        when c.undo_id is not null then age_seconds(c.created_at)
                        else (select age_seconds(e.age_since) from event e where e.id = c.event_id) end as "age_seconds!",
                   c.undo_id is not null as "is_undo!", (select at from recovery) as recovered_at,
                   (select extract(epoch from clock_timestamp() - at) from recovery)::float8 as recovered_for
            from write_command c left join claimed using (id) where c.id = any($1::uuid[])
            "#,
            &all,
            worker.0,
            milliseconds(lease),
        )
        .fetch_all(&self.connections)
        .await?;
        let mut known: HashMap<_, _> = rows.into_iter().map(|row| (row.id, row)).collect();
        let claim = |id: &WriteCommandId| match known.get_mut(&id.0) {
            Some(row) => row.claim(portal),
            None => CommandClaim::Unknown,
        };
        let mut claims: Vec<_> = ids.iter().map(claim).collect();
        self.follow_merges(&mut claims).await?;
        Ok(claims)
    }

    /// Associates what the actions of granted commands create with the survivors of records that are known to be merged: HubSpot
    /// documents that only reads and updates of one record take an old id.
    async fn follow_merges(&self, claims: &mut [CommandClaim]) -> Result<(), LedgerError> {
        let granted = claims.iter_mut().filter_map(|claim| match claim {
            CommandClaim::Granted { command, .. } => Some(&mut command.actions),
            _ => None,
        });
        let mut associations: Vec<_> = granted.flatten().filter_map(|action| action.spec.associations_mut()).collect();
        let records: Vec<_> = associations.iter().flat_map(|records| records.iter().cloned()).collect();
        if records.is_empty() {
            return Ok(());
        }
        let survivors = self.survivors(&records).await?;
        for records in &mut associations {
            let mut followed: Vec<RecordRef> = Vec::with_capacity(records.len());
            for record in records.iter() {
                let record = survivors.get(record).unwrap_or(record);
                if !followed.contains(record) {
                    followed.push(record.clone());
                }
            }
            **records = followed;
        }
        Ok(())
    }

    /// The unfinished write commands of events, by the event's id.
    pub(crate) async fn unfinished_commands_of(
        &self,
        events: &[Uuid],
    ) -> Result<HashMap<Uuid, Vec<WriteCommandId>>, LedgerError> {
        let rows = sqlx::query!(
            "select id, event_id from write_command
             where event_id = any($1::uuid[]) and finished_at is null order by id",
            events
        )
        .fetch_all(&self.connections)
        .await?;
        let mut commands: HashMap<Uuid, Vec<WriteCommandId>> = HashMap::new();
        for row in rows {
            commands.entry(row.event_id).or_default().push(WriteCommandId(row.id));
        }
        Ok(commands)
    }

    /// The state of a write command; `None` when the ledger does not have it.
    pub async fn command_state(&self, id: WriteCommandId) -> Result<Option<CommandState>, LedgerError> {
        let state = sqlx::query_scalar!(r#"select state::text as "state!" from write_command where id = $1"#, id.0)
            .fetch_optional(&self.connections)
            .await?;
        state.map(|state| COMMAND_STATE.read(&state, CommandState::parse)).transpose()
    }
}

/// The row of a write command that a writer asked for: one field for each column of the query.
struct ClaimedRow {
    id: Uuid,
    attempt: Option<i32>,
    finished: bool,
    format: i16,
    event_id: Uuid,
    inference_id: Uuid,
    event_key: String,
    occurred_at: OffsetDateTime,
    portal_id: i64,
    object_type: String,
    object_id: i64,
    mode: String,
    /// Absent for a command that was live from the start.
    review: Option<Value>,
    /// When the proposal was made that was approved; absent for a command that is not approved.
    approved_since: Option<OffsetDateTime>,
    /// Absent unless the command is granted.
    properties: Option<Value>,
    /// The stage in which a reviewer saw the deal that the command moves.
    deal_stage: Option<Value>,
    /// Absent unless the command is granted and has actions.
    actions: Option<Value>,
    written: Vec<String>,
    age_seconds: f64,
    is_undo: bool,
    /// Absent unless the ledger was recovered.
    recovered_at: Option<OffsetDateTime>,
    recovered_for: Option<f64>,
}

impl ClaimedRow {
    /// The answer to a request for the command. Only the first one gets the grant: of a command that is twice in the
    /// batch, the second message waits for the result of the first.
    fn claim(&mut self, ours: PortalId) -> CommandClaim {
        let Some(attempt) = self.attempt.take() else {
            return if self.finished { CommandClaim::Finished } else { CommandClaim::LeasedElsewhere };
        };
        if self.portal_id != ours.0 {
            return CommandClaim::OtherPortal { attempt, portal: PortalId(self.portal_id) };
        }
        let age = seconds(self.age_seconds);
        if self.format > WriteCommand::FORMAT {
            return CommandClaim::NewerFormat { attempt, format: self.format, age };
        }
        let properties = parse(self.properties.take(), "properties");
        let actions = parse(self.actions.take(), "action.spec");
        let (properties, actions, terms) = match (properties, actions, self.terms()) {
            (Ok(properties), Ok(actions), Ok(terms)) => (properties, actions, terms),
            (Err(detail), ..) | (_, Err(detail), _) | (.., Err(detail)) => {
                return CommandClaim::Unreadable { attempt, detail };
            }
        };
        let command = Box::new(WriteCommand {
            id: WriteCommandId(self.id),
            event_id: EventId(self.event_id),
            event_key: EventKey::from_text(mem::take(&mut self.event_key)),
            inference_id: InferenceId(self.inference_id),
            occurred_at: self.occurred_at,
            record: record(self.portal_id, &self.object_type, self.object_id),
            properties,
            actions,
            terms,
        });
        let recovery = Recovery::read(self.recovered_at, self.recovered_for);
        CommandClaim::Granted {
            command,
            attempt,
            written: mem::take(&mut self.written),
            age,
            recovery,
            is_undo: self.is_undo,
        }
    }

    fn terms(&mut self) -> Result<WriteTerms, String> {
        let mode = COMMAND_MODE.read(&self.mode, WriteMode::parse).map_err(|error| error.to_string())?;
        let review: ReviewTerms = parse(self.review.take(), "review")?;
        let deal_stage: Option<ExpectedValue> = parse(self.deal_stage.take(), "proposed_write.before")?;
        let approved = self.approved_since.map(|proposed_at| Approved { proposed_at, deal_stage });
        Ok(WriteTerms { mode, review, approved })
    }
}

/// Reads one column of one row, so that a row that cannot be read fails alone. serde's error would quote the value.
fn parse<T: DeserializeOwned + Default>(value: Option<Value>, column: &str) -> Result<T, String> {
    let read = value.map_or_else(|| Ok(T::default()), serde_json::from_value);
    read.map_err(|_| format!("the ledger's column `{column}` does not have the documented form"))
}
