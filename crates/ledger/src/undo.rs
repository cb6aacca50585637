//! What can be undone? The operator's undo asks.

use domain::{ActionId, ObjectId, ObjectType, PortalId, RecordRef, WriteCommandId, write_command::ActionKind};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::{
    Ledger, LedgerError,
    column::Column,
    records::{columns, record},
};

const ACTION_KIND: Column = Column::new("action", "kind");

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

impl Ledger {
    /// The id of an event, by its key or id.
    pub async fn event_id(&self, key_or_id: &str) -> Result<Option<Uuid>, LedgerError> {
        let id = Uuid::parse_str(key_or_id).ok();
        Ok(sqlx::query_scalar!("select id from event where event_key = $1 or id = $2", key_or_id, id)
            .fetch_optional(&self.connections)
            .await?)
    }

    /// The records of which a write, or an action, is selected that is not undone, as they are known now and in their order. Their writes
    /// and actions are asked for in pages of records, so that a large selection takes little memory. It takes as long as a statement of
    /// maintenance may.
    pub async fn records_to_undo(
        &self,
        portal: PortalId,
        selection: &UndoSelection,
    ) -> Result<Vec<RecordRef>, LedgerError> {
        let (record_type, record_ids) = selection.record_columns();
        let rows = sqlx::query!(
            r#"with selected as (
                   select w.object_type, w.object_id
                   from write w
                   join write_command c on c.id = w.write_command_id
                   join inference i on i.id = c.inference_id
                   where w.portal_id = $1 and w.object_id <> 0 and c.undo_id is null and c.finished_at is not null
                     and is_selected(c.event_id, i.playbook, i.playbook_version, w.written_at, $2, $3, $4, $7, $8)
                     and ($5::text is null or (w.object_type = $5 and w.object_id = any($6::bigint[])))
                     and not exists (select from undone_write u
                                     where (u.write_command_id, u.property) = (w.write_command_id, w.property))
                   union
                   select c.object_type, c.object_id
                   from action a
                   join write_command c on c.id = a.write_command_id
                   join inference i on i.id = c.inference_id
                   where a.state = 'done' and a.kind in ('create_task', 'create_note', 'notify')
                     and c.portal_id = $1 and c.object_id <> 0 and c.undo_id is null
                     and is_selected(c.event_id, i.playbook, i.playbook_version, a.finished_at, $2, $3, $4, $7, $8)
                     and ($5::text is null or (c.object_type = $5 and c.object_id = any($6::bigint[])))
                     and not exists (select from undone_action u where u.action_id = a.id)
               )
               select distinct s.object_type as "object_type!", coalesce(m.survivor_id, s.object_id) as "object_id!"
               from selected s
               left join record_merge m on (m.portal_id, m.object_type, m.old_id) = ($1, s.object_type, s.object_id)
               order by 1, 2"#,
            portal.0,
            selection.event,
            selection.playbook,
            selection.playbook_version,
            record_type,
            &record_ids,
            selection.since,
            selection.until,
        )
        .fetch_all(&self.maintenance)
        .await?;
        Ok(rows.into_iter().map(|row| record(portal.0, &row.object_type, row.object_id)).collect())
    }

    /// Every write of those properties of these records of which a write is selected that is not undone: of a record, the newest write
    /// of each property first.
    pub async fn writes_to_undo(
        &self,
        portal: PortalId,
        selection: &UndoSelection,
        of: &[RecordRef],
    ) -> Result<Vec<KnownWrite>, LedgerError> {
        let (_, types, ids) = columns(of);
        let rows = sqlx::query!(
            r#"with asked as (
                   select * from unnest($2::text[], $3::bigint[]) as input (object_type, object_id)
               ), known_as as (
                   select a.*, a.object_id as known_id from asked a
                   union all
                   select a.*, m.old_id from asked a
                   join record_merge m on (m.portal_id, m.object_type, m.survivor_id) = ($1, a.object_type, a.object_id)
               ), known as (
                   select k.object_type, k.object_id, w.write_command_id, w.property, w.before, w.after, w.occurred_at, w.event_key,
                          i.playbook, i.playbook_version,
                          c.finished_at is not null
                          and is_selected(c.event_id, i.playbook, i.playbook_version, w.written_at, $4, $5, $6, $7, $8)
                              as is_selected,
                          c.undo_id is not null
                          or exists (select from undone_write u
                                     where (u.write_command_id, u.property) = (w.write_command_id, w.property)) as is_undone
                   from known_as k
                   join write w on (w.portal_id, w.object_type, w.object_id) = ($1, k.object_type, k.known_id)
                   join write_command c on c.id = w.write_command_id
                   join inference i on i.id = c.inference_id
               ), concerned as (
                   select k.*, bool_or(is_selected and not is_undone) over (partition by object_type, object_id, property)
                               as is_concerned
                   from known k
               )
               select write_command_id as "write_command_id!", object_type as "object_type!", object_id as "object_id!",
                      property as "property!", before, after as "after!", occurred_at as "occurred_at!", event_key as "event_key!",
                      playbook as "playbook!", playbook_version as "playbook_version!", is_selected as "is_selected!",
                      is_undone as "is_undone!"
               from concerned
               where is_concerned
               order by object_type, object_id, property, occurred_at desc, event_key collate "C" desc, write_command_id desc"#,
            portal.0,
            &types,
            &ids,
            selection.event,
            selection.playbook,
            selection.playbook_version,
            selection.since,
            selection.until,
        )
        .fetch_all(&self.maintenance)
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

    /// The selected actions of these records that were carried out and are not undone, the oldest first. Moves of deals are not among
    /// them: they are writes of the property `dealstage`.
    pub async fn actions_to_undo(
        &self,
        portal: PortalId,
        selection: &UndoSelection,
        of: &[RecordRef],
    ) -> Result<Vec<DoneAction>, LedgerError> {
        let (_, types, ids) = columns(of);
        let rows = sqlx::query!(
            r#"with asked as (
                   select * from unnest($2::text[], $3::bigint[]) as input (object_type, object_id)
               ), known_as as (
                   select a.*, a.object_id as known_id from asked a
                   union all
                   select a.*, m.old_id from asked a
                   join record_merge m on (m.portal_id, m.object_type, m.survivor_id) = ($1, a.object_type, a.object_id)
               )
               select a.id, a.name, a.kind, a.hubspot_id, c.id as command, c.occurred_at, c.object_type,
                      k.object_id as "object_id!", c.event_key, i.playbook, i.playbook_version
               from known_as k
               join write_command c on (c.portal_id, c.object_type, c.object_id) = ($1, k.object_type, k.known_id)
               join action a on a.write_command_id = c.id
               join inference i on i.id = c.inference_id
               where a.state = 'done' and a.kind in ('create_task', 'create_note', 'notify') and c.undo_id is null
                 and is_selected(c.event_id, i.playbook, i.playbook_version, a.finished_at, $4, $5, $6, $7, $8)
                 and not exists (select from undone_action u where u.action_id = a.id)
               order by a.finished_at, a.id"#,
            portal.0,
            &types,
            &ids,
            selection.event,
            selection.playbook,
            selection.playbook_version,
            selection.since,
            selection.until,
        )
        .fetch_all(&self.maintenance)
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
