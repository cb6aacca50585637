//! What can be undone, and what was? The operator's undo.

use std::collections::HashSet;

use domain::{
    ActionId, CommandState, ObjectId, ObjectType, PortalId, Reason, RecordRef, UndoId, WriteCommandId,
    write_command::{Action, ActionKind, PropertyChange},
};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::{
    Ledger, LedgerError,
    column::{COMMAND_STATE, Column},
    connections::Transaction,
    records::record,
};

const ACTION_KIND: Column = Column::new("action", "kind");
const SKIPPED_WRITE_REASON: Column = Column::new("skipped_write", "reason");
const COMMAND_REASON: Column = Column::new("write_command", "reason");

/// Which writes are to be undone: those to which everything that is given applies.
#[derive(Debug, Clone, Default)]
pub struct UndoSelection {
    /// Those because of an event, by its id.
    pub event: Option<Uuid>,
    /// Those of a playbook.
    pub playbook: Option<String>,
    /// Those of its versions that begin so.
    pub playbook_version: Option<String>,
    /// Those to a record, under all ids by which it is known.
    pub records: Option<Vec<RecordRef>>,
    /// Those from then on.
    pub since: Option<OffsetDateTime>,
    /// Those until then.
    pub until: Option<OffsetDateTime>,
}

/// A write of a property of which at least one write is selected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownWrite {
    /// The write command that wrote it.
    pub command: WriteCommandId,
    /// The record as it is known now.
    pub record: RecordRef,
    /// The property and what was written.
    pub property: String,
    /// The value before; `None` when it was empty.
    pub before: Option<String>,
    /// The value since.
    pub after: String,
    /// The place of the write in the order of writes.
    pub occurred_at: OffsetDateTime,
    /// What is known of it with regard to the selection.
    pub standing: WriteStanding,
    /// Who wrote it.
    pub author: WriteAuthor,
}

/// How a write stands to what is to be undone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WriteStanding {
    /// It is selected.
    Selected,
    /// It is not selected.
    Other,
    /// It is undone, or undid another one.
    Undone,
}

/// What led to a write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WriteAuthor {
    /// The event's key.
    pub event_key: String,
    /// The playbook.
    pub playbook: String,
    /// Its version.
    pub playbook_version: String,
}

/// A selected action that was carried out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DoneAction {
    /// Its id.
    pub id: ActionId,
    /// Its write command.
    pub command: WriteCommandId,
    /// That command's record as it is known now.
    pub record: RecordRef,
    /// That command's place in the order of writes.
    pub occurred_at: OffsetDateTime,
    /// Its name in the playbook.
    pub name: String,
    /// Its kind.
    pub kind: ActionKind,
    /// What it made in HubSpot.
    pub made: Option<ObjectId>,
    /// What led to it.
    pub author: WriteAuthor,
}

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
    /// The id of an event, by its key or id.
    pub async fn event_id(&self, key_or_id: &str) -> Result<Option<Uuid>, LedgerError> {
        let id = Uuid::parse_str(key_or_id).ok();
        Ok(sqlx::query_scalar!("select id from event where event_key = $1 or id = $2", key_or_id, id)
            .fetch_optional(&self.connections)
            .await?)
    }

    /// Every write of the properties of which a write is selected that is not undone: of a record, the newest write of each property
    /// first.
    pub async fn writes_to_undo(
        &self,
        portal: PortalId,
        selection: &UndoSelection,
    ) -> Result<Vec<KnownWrite>, LedgerError> {
        let (record_type, record_ids) = selection.record_columns();
        let rows = sqlx::query!(
            r#"with selected as materialized (
                   select w.write_command_id, w.property, w.object_type,
                          coalesce((select m.survivor_id from record_merge m
                                    where (m.portal_id, m.object_type, m.old_id)
                                          = (w.portal_id, w.object_type, w.object_id)), w.object_id) as object_id
                   from write w
                   join write_command c on c.id = w.write_command_id
                   join inference i on i.id = c.inference_id
                   where w.portal_id = $1 and w.object_id <> 0 and c.undo_id is null and c.finished_at is not null
                     and ($2::uuid is null or c.event_id = $2)
                     and ($3::text is null or i.playbook = $3)
                     and ($4::text is null or starts_with(i.playbook_version, $4))
                     and ($5::text is null or (w.object_type = $5 and w.object_id = any($6::bigint[])))
                     and ($7::timestamptz is null or w.written_at >= $7)
                     and ($8::timestamptz is null or w.written_at <= $8)
                     and not exists (select from undone_write u
                                     where (u.write_command_id, u.property) = (w.write_command_id, w.property))
               ), properties as (
                   select distinct object_type, object_id, property from selected
               ), known_as as (
                   select p.*, p.object_id as known_id from properties p
                   union all
                   select p.*, m.old_id from properties p
                   join record_merge m on (m.portal_id, m.object_type, m.survivor_id) = ($1, p.object_type, p.object_id)
               )
               select w.write_command_id, k.object_type as "object_type!", k.object_id as "object_id!", w.property, w.before,
                      w.after, w.occurred_at, w.event_key, i.playbook, i.playbook_version,
                      s.write_command_id is not null as "is_selected!",
                      (c.undo_id is not null
                       or exists (select from undone_write u
                                  where (u.write_command_id, u.property) = (w.write_command_id, w.property))) as "is_undone!"
               from known_as k
               join write w on (w.portal_id, w.object_type, w.object_id, w.property)
                               = ($1, k.object_type, k.known_id, k.property)
               join write_command c on c.id = w.write_command_id
               join inference i on i.id = c.inference_id
               left join selected s on (s.write_command_id, s.property) = (w.write_command_id, w.property)
               order by k.object_type, k.object_id, w.property, w.occurred_at desc, w.event_key collate "C" desc,
                        w.write_command_id desc"#,
            portal.0,
            selection.event,
            selection.playbook,
            selection.playbook_version,
            record_type,
            &record_ids,
            selection.since,
            selection.until,
        )
        .fetch_all(&self.connections)
        .await?;
        let writes = rows.into_iter().map(|row| KnownWrite {
            command: WriteCommandId(row.write_command_id),
            record: record(portal.0, &row.object_type, row.object_id),
            property: row.property,
            before: row.before,
            after: row.after,
            occurred_at: row.occurred_at,
            standing: match (row.is_undone, row.is_selected) {
                (true, _) => WriteStanding::Undone,
                (false, true) => WriteStanding::Selected,
                (false, false) => WriteStanding::Other,
            },
            author: WriteAuthor {
                event_key: row.event_key,
                playbook: row.playbook,
                playbook_version: row.playbook_version,
            },
        });
        Ok(writes.collect())
    }

    /// The selected actions that were carried out and are not undone, the oldest first. Moves of deals are not among them: they are
    /// writes of the property `dealstage`.
    pub async fn actions_to_undo(
        &self,
        portal: PortalId,
        selection: &UndoSelection,
    ) -> Result<Vec<DoneAction>, LedgerError> {
        let (record_type, record_ids) = selection.record_columns();
        let rows = sqlx::query!(
            r#"select a.id, a.name, a.kind, a.hubspot_id, c.id as command, c.occurred_at, c.object_type,
                      coalesce(m.survivor_id, c.object_id) as "object_id!", c.event_key, i.playbook, i.playbook_version
               from action a
               join write_command c on c.id = a.write_command_id
               join inference i on i.id = c.inference_id
               left join record_merge m on (m.portal_id, m.object_type, m.old_id)
                                           = (c.portal_id, c.object_type, c.object_id)
               where a.state = 'done' and a.kind in ('create_task', 'create_note', 'notify')
                 and c.portal_id = $1 and c.object_id <> 0 and c.undo_id is null
                 and ($2::uuid is null or c.event_id = $2)
                 and ($3::text is null or i.playbook = $3)
                 and ($4::text is null or starts_with(i.playbook_version, $4))
                 and ($5::text is null or (c.object_type = $5 and c.object_id = any($6::bigint[])))
                 and ($7::timestamptz is null or a.finished_at >= $7)
                 and ($8::timestamptz is null or a.finished_at <= $8)
                 and not exists (select from undone_action u where u.action_id = a.id)
               order by a.finished_at, a.id"#,
            portal.0,
            selection.event,
            selection.playbook,
            selection.playbook_version,
            record_type,
            &record_ids,
            selection.since,
            selection.until,
        )
        .fetch_all(&self.connections)
        .await?;
        let actions = rows.into_iter().map(|row| {
            Ok(DoneAction {
                id: ActionId(row.id),
                command: WriteCommandId(row.command),
                record: record(portal.0, &row.object_type, row.object_id),
                occurred_at: row.occurred_at,
                name: row.name,
                kind: ACTION_KIND.read(&row.kind, ActionKind::parse)?,
                made: row.hubspot_id.map(ObjectId),
                author: WriteAuthor {
                    event_key: row.event_key,
                    playbook: row.playbook,
                    playbook_version: row.playbook_version,
                },
            })
        });
        actions.collect()
    }

    /// Records an undo, and the commands that carry it out. Returns those that were recorded: one of whose writes or actions another
    /// undo has taken meanwhile is left out.
    pub async fn record_undo(
        &self,
        request: &UndoRequest,
        commands: &[UndoCommand],
    ) -> Result<Vec<WriteCommandId>, LedgerError> {
        let mut transaction = self.connections.begin().await?;
        sqlx::query!("select lock_undo()").execute(&mut transaction).await?;
        let taken = already_undone(&mut transaction, commands).await?;
        let is_free = |command: &&UndoCommand| {
            !command.undone_writes.iter().any(|write| taken.writes.contains(write))
                && !command.undone_actions.iter().any(|action| taken.actions.contains(action))
        };
        let commands: Vec<_> = commands.iter().filter(is_free).collect();
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

impl UndoSelection {
    /// The type of the selected records, if any are named, and their ids.
    fn record_columns(&self) -> (Option<String>, Vec<i64>) {
        let records = self.records.as_deref().unwrap_or_default();
        let object_type: Option<&ObjectType> = records.first().map(|record| &record.object_type);
        (
            object_type.map(|object_type| object_type.type_id().to_owned()),
            records.iter().map(|record| record.object_id.0).collect(),
        )
    }
}

/// What is undone already.
struct Taken {
    writes: HashSet<(WriteCommandId, String)>,
    actions: HashSet<ActionId>,
}

async fn already_undone(transaction: &mut Transaction, commands: &[UndoCommand]) -> Result<Taken, LedgerError> {
    let writes = || commands.iter().flat_map(|command| &command.undone_writes);
    let rows = sqlx::query!(
        "select u.write_command_id, u.property from undone_write u
         where (u.write_command_id, u.property) in (select * from unnest($1::uuid[], $2::text[]))",
        &writes().map(|(command, _)| command.0).collect::<Vec<_>>(),
        &writes().map(|(_, property)| property.clone()).collect::<Vec<_>>(),
    )
    .fetch_all(&mut *transaction)
    .await?;
    let actions = sqlx::query_scalar!(
        "select action_id from undone_action where action_id = any($1::uuid[])",
        &commands.iter().flat_map(|command| &command.undone_actions).map(|id| id.0).collect::<Vec<_>>(),
    )
    .fetch_all(&mut *transaction)
    .await?;
    Ok(Taken {
        writes: rows.into_iter().map(|row| (WriteCommandId(row.write_command_id), row.property)).collect(),
        actions: actions.into_iter().map(ActionId).collect(),
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
        crate::decision::insert_action_rows(transaction, &actions).await?;
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
