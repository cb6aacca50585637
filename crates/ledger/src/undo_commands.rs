//! What was undone? The write commands of an undo: recorded once, and what became of them.

use std::collections::{HashMap, HashSet};

use domain::{
    ActionId, CommandState, PortalId, Reason, RecordRef, UndoId, WriteCommandId,
    write_command::{Action, ActionSpec, PropertyChange},
};
use time::OffsetDateTime;

use crate::{
    Ledger, LedgerError,
    column::{COMMAND_STATE, Column},
    connections::Transaction,
    decision::insert_action_rows,
    records::record,
};

/// The property under which the ledger has moves of deals.
const DEAL_STAGE: &str = "dealstage";

const SKIPPED_WRITE_REASON: Column = Column::new("skipped_write", "reason");
const COMMAND_REASON: Column = Column::new("write_command", "reason");

/// What an operator wants undone.
#[derive(Debug, Clone)]
pub struct UndoRequest {
    /// Its id.
    pub id: UndoId,
    /// Who asks for it.
    pub asked_by: String,
    /// Why.
    pub why: Option<String>,
    /// What is selected, in words that name no record and no event.
    pub selection: String,
}

/// A write command that takes back what an earlier one wrote.
#[derive(Debug, Clone)]
pub struct UndoCommand {
    /// Its id.
    pub id: WriteCommandId,
    /// The command that it takes back.
    pub of: WriteCommandId,
    /// Its place in the order of writes.
    pub occurred_at: OffsetDateTime,
    /// The record.
    pub record: RecordRef,
    /// The values to put back.
    pub properties: Vec<PropertyChange>,
    /// The actions to take back.
    pub actions: Vec<Action>,
    /// The writes that are undone by it.
    pub undone_writes: Vec<(WriteCommandId, String)>,
    /// The actions that are undone by it.
    pub undone_actions: Vec<ActionId>,
}

/// What became of write commands that take something back.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UndoProgress {
    /// How many have ended.
    pub ended: i64,
    /// Properties that have their value from before.
    pub restored: i64,
    /// Tasks and notes that are deleted, and deals that are moved back.
    pub actions_undone: i64,
    /// How many commands are parked.
    pub parked: i64,
}

/// A property that was left as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeftProperty {
    /// The record.
    pub record: RecordRef,
    /// The property.
    pub property: String,
    /// The value that it has.
    pub current_value: Option<String>,
    /// Why it was left.
    pub reason: Reason,
}

/// A command that takes something back and did not: it is parked, superseded or dropped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnfinishedUndo {
    /// The command.
    pub id: WriteCommandId,
    /// Its record.
    pub record: RecordRef,
    /// Its state.
    pub state: CommandState,
    /// The reason for the state.
    pub reason: Option<Reason>,
}

impl Ledger {
    /// Records an undo, and the commands that carry it out. Returns those that were recorded: left out are those of whose writes or
    /// actions another undo has taken one meanwhile, or of which something was erased or deleted.
    pub async fn record_undo(
        &self,
        request: &UndoRequest,
        commands: &[UndoCommand],
    ) -> Result<Vec<WriteCommandId>, LedgerError> {
        let mut transaction = self.connections.begin().await?;
        sqlx::query!("select lock_undo()").execute(&mut transaction).await?;
        lock_events(&mut transaction, commands).await?;
        let undoable = undoable(&mut transaction, commands).await?;
        let commands: Vec<_> = commands.iter().filter(|command| undoable.has_all_of(command)).collect();
        if commands.is_empty() {
            return Ok(Vec::new());
        }
        sqlx::query!(
            "insert into undo (id, asked_by, why, selection) values ($1, $2, $3, $4) on conflict do nothing",
            request.id.0,
            request.asked_by,
            request.why,
            request.selection,
        )
        .execute(&mut transaction)
        .await?;
        insert_commands(&mut transaction, request.id, &commands).await?;
        insert_undone(&mut transaction, &commands).await?;
        transaction.commit().await?;
        Ok(commands.iter().map(|command| command.id).collect())
    }

    /// The write commands of undos that have not ended, whoever asked for them.
    pub async fn unfinished_undo_commands(&self, portal: PortalId) -> Result<Vec<WriteCommandId>, LedgerError> {
        let ids = sqlx::query_scalar!(
            "select id from write_command
             where undo_id is not null and finished_at is null and portal_id = $1 order by id",
            portal.0
        )
        .fetch_all(&self.connections)
        .await?;
        Ok(ids.into_iter().map(WriteCommandId).collect())
    }

    /// How far write commands have come that take something back.
    pub async fn undo_progress(&self, commands: &[WriteCommandId]) -> Result<UndoProgress, LedgerError> {
        let ids: Vec<_> = commands.iter().map(|id| id.0).collect();
        Ok(sqlx::query_as!(
            UndoProgress,
            r#"select count(*) filter (where c.finished_at is not null) as "ended!",
                      count(*) filter (where c.state = 'parked') as "parked!",
                      coalesce(sum((select count(*) from write w where w.write_command_id = c.id and w.property <> 'dealstage')),
                               0)::bigint as "restored!",
                      coalesce(sum((select count(*) from action a where a.write_command_id = c.id and a.state = 'done')),
                               0)::bigint as "actions_undone!"
               from write_command c where c.id = any($1::uuid[])"#,
            &ids
        )
        .fetch_one(&self.connections)
        .await?)
    }

    /// The properties and deals that these write commands left as they are, with why.
    pub async fn left_by_undo(&self, commands: &[WriteCommandId]) -> Result<Vec<LeftProperty>, LedgerError> {
        let ids: Vec<_> = commands.iter().map(|id| id.0).collect();
        let rows = sqlx::query!(
            r#"select c.portal_id, c.object_type, c.object_id, s.property as "property!", s.current_value, s.reason as "reason!"
               from skipped_write s join write_command c on c.id = s.write_command_id
               where c.id = any($1::uuid[])
               union all
               select c.portal_id, c.object_type, c.object_id, a.name, null, a.reason
               from action a join write_command c on c.id = a.write_command_id
               where c.id = any($1::uuid[]) and a.state in ('skipped', 'parked') and a.reason is not null
               order by 2, 3, 4"#,
            &ids
        )
        .fetch_all(&self.connections)
        .await?;
        let left = rows.into_iter().map(|row| {
            Ok(LeftProperty {
                record: record(
                    row.portal_id.unwrap_or_default(),
                    row.object_type.as_deref().unwrap_or_default(),
                    row.object_id.unwrap_or_default(),
                ),
                property: row.property,
                current_value: row.current_value,
                reason: SKIPPED_WRITE_REASON.read(&row.reason, Reason::parse)?,
            })
        });
        left.collect()
    }

    /// Those of these write commands that ended without an effect: parked, superseded or dropped.
    pub async fn undo_without_effect(&self, commands: &[WriteCommandId]) -> Result<Vec<UnfinishedUndo>, LedgerError> {
        let ids: Vec<_> = commands.iter().map(|id| id.0).collect();
        let rows = sqlx::query!(
            r#"select id, portal_id, object_type, object_id, state::text as "state!", reason from write_command
               where id = any($1::uuid[]) and state in ('parked', 'superseded', 'dropped') order by object_type, object_id, id"#,
            &ids
        )
        .fetch_all(&self.connections)
        .await?;
        let read = rows.into_iter().map(|row| {
            Ok(UnfinishedUndo {
                id: WriteCommandId(row.id),
                record: record(row.portal_id, &row.object_type, row.object_id),
                state: COMMAND_STATE.read(&row.state, CommandState::parse)?,
                reason: COMMAND_REASON.read_reason(row.reason.as_deref())?,
            })
        });
        read.collect()
    }
}

/// What is there to be undone.
struct Undoable {
    /// The value before and the one since of each write.
    writes: HashMap<(WriteCommandId, String), (Option<String>, String)>,
    actions: HashSet<ActionId>,
    commands: HashSet<WriteCommandId>,
}

impl Undoable {
    /// Whether all that a command takes back is there, with the values that it knows.
    fn has_all_of(&self, command: &UndoCommand) -> bool {
        self.commands.contains(&command.of)
            && command.undone_writes.iter().all(|write| self.writes.contains_key(write))
            && command.undone_actions.iter().all(|action| self.actions.contains(action))
            && command.restored().all(|(property, from, to)| self.has_values(command, property, from, to))
    }

    /// Whether a property that a command takes back was set to `from`, and was `to` before.
    fn has_values(&self, command: &UndoCommand, property: &str, from: Option<&str>, to: &str) -> bool {
        let of_property = |write: &&(WriteCommandId, String)| write.1 == property;
        let values: Vec<_> =
            command.undone_writes.iter().filter(of_property).filter_map(|write| self.writes.get(write)).collect();
        values.is_empty()
            || values.iter().any(|(before, _)| before.as_deref().unwrap_or_default() == to)
                && from.is_none_or(|from| values.iter().any(|(_, after)| after == from))
    }
}

impl UndoCommand {
    /// Each property that gets a value back, with the one that it has now and the one that it gets.
    fn restored(&self) -> impl Iterator<Item = (&str, Option<&str>, &str)> {
        let set = self.properties.iter().map(|change| {
            let from = change.expected.as_ref().map(|expected| expected.value.as_deref().unwrap_or_default());
            (change.property.as_str(), from, change.value.as_str())
        });
        let moved = self.actions.iter().filter_map(|action| match &action.spec {
            ActionSpec::MoveDealBack { from, to } => Some((DEAL_STAGE, Some(from.as_str()), to.as_str())),
            _ => None,
        });
        set.chain(moved)
    }
}

/// Locks the events of what is to be undone, as every statement does that changes several. An erasure, which locks them as well, has
/// erased all of what they led to, or nothing yet; then it finds the undo.
async fn lock_events(transaction: &mut Transaction, commands: &[UndoCommand]) -> Result<(), LedgerError> {
    let written_by = commands.iter().flat_map(|command| command.undone_writes.iter().map(|(id, _)| id.0));
    sqlx::query!(
        "select id from event where id in (select event_id from write_command where id = any($1::uuid[]))
         order by id for update",
        &commands.iter().map(|command| command.of.0).chain(written_by).collect::<Vec<_>>(),
    )
    .fetch_all(&mut *transaction)
    .await?;
    Ok(())
}

/// What of these commands is there to be undone: neither undone nor erased.
async fn undoable(transaction: &mut Transaction, commands: &[UndoCommand]) -> Result<Undoable, LedgerError> {
    let known = sqlx::query_scalar!(
        "select id from write_command where id = any($1::uuid[]) and object_id <> 0",
        &commands.iter().map(|command| command.of.0).collect::<Vec<_>>(),
    )
    .fetch_all(&mut *transaction)
    .await?;
    let writes = || commands.iter().flat_map(|command| &command.undone_writes);
    let rows = sqlx::query!(
        "select w.write_command_id, w.property, w.before, w.after from write w
         where (w.write_command_id, w.property) in (select * from unnest($1::uuid[], $2::text[])) and w.object_id <> 0
           and not exists (select from undone_write u
                           where (u.write_command_id, u.property) = (w.write_command_id, w.property))",
        &writes().map(|(command, _)| command.0).collect::<Vec<_>>(),
        &writes().map(|(_, property)| property.clone()).collect::<Vec<_>>(),
    )
    .fetch_all(&mut *transaction)
    .await?;
    let actions = sqlx::query_scalar!(
        "select a.id from action a join write_command c on c.id = a.write_command_id
         where a.id = any($1::uuid[]) and c.object_id <> 0
           and not exists (select from undone_action u where u.action_id = a.id)",
        &commands.iter().flat_map(|command| &command.undone_actions).map(|id| id.0).collect::<Vec<_>>(),
    )
    .fetch_all(&mut *transaction)
    .await?;
    Ok(Undoable {
        writes: rows
            .into_iter()
            .map(|row| ((WriteCommandId(row.write_command_id), row.property), (row.before, row.after)))
            .collect(),
        actions: actions.into_iter().map(ActionId).collect(),
        commands: known.into_iter().map(WriteCommandId).collect(),
    })
}

async fn insert_commands(
    transaction: &mut Transaction,
    undo: UndoId,
    commands: &[&UndoCommand],
) -> Result<(), LedgerError> {
    macro_rules! column {
        ($command:ident => $value:expr) => {
            commands.iter().map(|$command| $value).collect::<Vec<_>>()
        };
    }
    let properties = column!(command => serde_json::json!(command.properties));
    sqlx::query!(
        "insert into write_command (id, event_id, inference_id, event_key, occurred_at, portal_id, object_type, object_id,
                                    properties, undo_id)
         select input.id, c.event_id, c.inference_id, c.event_key, input.occurred_at, c.portal_id, c.object_type,
                input.object_id, input.properties, $1
         from unnest($2::uuid[], $3::uuid[], $4::timestamptz[], $5::bigint[], $6::jsonb[])
                  as input (id, of, occurred_at, object_id, properties)
         join write_command c on c.id = input.of",
        undo.0,
        &column!(command => command.id.0),
        &column!(command => command.of.0),
        &column!(command => command.occurred_at),
        &column!(command => command.record.object_id.0),
        &properties,
    )
    .execute(&mut *transaction)
    .await?;
    let actions: Vec<_> =
        commands.iter().flat_map(|command| command.actions.iter().map(move |action| (command.id.0, action))).collect();
    if !actions.is_empty() {
        insert_action_rows(transaction, &actions).await?;
    }
    Ok(())
}

async fn insert_undone(transaction: &mut Transaction, commands: &[&UndoCommand]) -> Result<(), LedgerError> {
    let writes =
        || commands.iter().flat_map(|command| command.undone_writes.iter().map(move |write| (command.id.0, write)));
    sqlx::query!(
        "insert into undone_write (undo_command_id, write_command_id, property)
         select * from unnest($1::uuid[], $2::uuid[], $3::text[])",
        &writes().map(|(by, _)| by).collect::<Vec<_>>(),
        &writes().map(|(_, (command, _))| command.0).collect::<Vec<_>>(),
        &writes().map(|(_, (_, property))| property.clone()).collect::<Vec<_>>(),
    )
    .execute(&mut *transaction)
    .await?;
    let actions = || {
        commands.iter().flat_map(|command| command.undone_actions.iter().map(move |action| (command.id.0, action.0)))
    };
    sqlx::query!(
        "insert into undone_action (undo_command_id, action_id) select * from unnest($1::uuid[], $2::uuid[])",
        &actions().map(|(by, _)| by).collect::<Vec<_>>(),
        &actions().map(|(_, action)| action).collect::<Vec<_>>(),
    )
    .execute(&mut *transaction)
    .await?;
    Ok(())
}
