//! "May I write this, and what was there before?" — the writer's questions.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use domain::{
    EventId, EventKey, InferenceId, ObjectId, ObjectType, PortalId, RecordRef, WriteCommand, WriteCommandId,
    write_command::PropertyChange,
};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::{Ledger, LedgerError, Worker, milliseconds};

/// The ledger's answer to "may I carry out this command?".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// Carry it out; the number fences what is committed about it.
    Mine {
        /// The claim's number.
        attempt: i32,
    },
    /// It has ended already.
    Done,
    /// Another writer has it. Come back later.
    Held,
    /// The ledger does not know it: nobody decided it.
    Unknown,
}

/// How a command ended, or that it has to come back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CommandState {
    /// HubSpot has its properties.
    Written,
    /// Newer events have written all its properties.
    Superseded,
    /// The record is gone.
    Dropped,
    /// HubSpot will never take it.
    Parked,
    /// It waits for its next try.
    Waiting,
}

impl CommandState {
    /// The name in the ledger.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Written => "written",
            Self::Superseded => "superseded",
            Self::Dropped => "dropped",
            Self::Parked => "parked",
            Self::Waiting => "waiting",
        }
    }
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
    /// Why, in `snake_case`.
    pub reason: Option<String>,
    /// Why, in words.
    pub detail: Option<String>,
    /// What HubSpot has now because of it.
    pub written: Vec<WrittenProperty>,
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

/// The newest event whose value each property of some records has.
#[derive(Debug, Default)]
pub struct Newest(HashMap<(RecordRef, String), (OffsetDateTime, EventKey)>);

impl Newest {
    /// Whether the ledger knows a write of `property` by a newer event than `command`'s.
    pub fn is_newer_than(&self, command: &WriteCommand, property: &str) -> bool {
        self.0.get(&(command.record.clone(), property.to_owned())).is_some_and(|(at, key)| (*at, key) > command.order())
    }
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
                set state = 'sending', attempt = c.attempt + 1, worker = $2, reason = null, detail = null,
                    lease_expires_at = now() + $3::float8 * interval '1 millisecond'
                from locked where c.id = locked.id
                returning c.id, c.attempt
            )
            select c.id, taken.attempt as "attempt?", c.finished_at is not null as "finished!"
            from write_command c left join taken using (id) where c.id = any($1::uuid[])
            "#,
            &all,
            worker.0,
            milliseconds(lease),
        )
        .fetch_all(&self.pool)
        .await?;
        let known: HashMap<_, _> = rows.into_iter().map(|row| (row.id, (row.attempt, row.finished))).collect();
        // The same command twice in one batch: the second one waits for what becomes of the first.
        let mut given = HashSet::new();
        let taken = |id: &WriteCommandId| match known.get(&id.0) {
            Some((Some(attempt), _)) if given.insert(id.0) => Taken::Mine { attempt: *attempt },
            Some((None, true)) => Taken::Done,
            Some(_) => Taken::Held,
            None => Taken::Unknown,
        };
        Ok(ids.iter().map(taken).collect())
    }

    /// Locks records for `worker`, so that no two writers change one at the same time. Gives back those that it got.
    /// A lease that was taken over from somebody whose time was up marks the record: a call of theirs may still land.
    pub async fn lock_records(
        &self,
        records: &[RecordRef],
        worker: &Worker,
        lease: Duration,
    ) -> Result<HashSet<RecordRef>, LedgerError> {
        let mut sorted: Vec<_> = records.to_vec();
        sorted.sort();
        sorted.dedup();
        let (portals, types, ids) = columns(&sorted);
        let rows = sqlx::query!(
            "insert into record_lease as l (portal_id, object_type, object_id, worker, expires_at)
             select input.portal_id, input.object_type, input.object_id, $4::text,
                    now() + $5::float8 * interval '1 millisecond'
             from unnest($1::bigint[], $2::text[], $3::bigint[]) as input (portal_id, object_type, object_id)
             on conflict (portal_id, object_type, object_id) do update
             set worker = excluded.worker, expires_at = excluded.expires_at, attempt = l.attempt + 1, verify = true
             where l.expires_at < now()
             returning portal_id, object_type, object_id",
            &portals,
            &types,
            &ids,
            worker.0,
            milliseconds(lease),
        )
        .fetch_all(&self.pool)
        .await?;
        Ok(rows.into_iter().map(|row| record(row.portal_id, &row.object_type, row.object_id)).collect())
    }

    /// Gives records back that `worker` had locked. A record marked for verification keeps its row, free for anybody.
    pub async fn unlock_records(&self, records: &[RecordRef], worker: &Worker) -> Result<(), LedgerError> {
        let (portals, types, ids) = columns(records);
        sqlx::query!(
            "with mine as (
                 select portal_id, object_type, object_id, verify from record_lease
                 where (portal_id, object_type, object_id) in
                       (select * from unnest($1::bigint[], $2::text[], $3::bigint[])) and worker = $4
                 order by portal_id, object_type, object_id for update
             ), kept as (
                 update record_lease l set expires_at = 'epoch' from mine
                 where (l.portal_id, l.object_type, l.object_id) = (mine.portal_id, mine.object_type, mine.object_id)
                   and mine.verify
             )
             delete from record_lease l using mine
             where (l.portal_id, l.object_type, l.object_id) = (mine.portal_id, mine.object_type, mine.object_id)
               and not mine.verify",
            &portals,
            &types,
            &ids,
            worker.0,
        )
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// The newest known writes to some records.
    pub async fn newest_writes(&self, records: &[RecordRef]) -> Result<Newest, LedgerError> {
        let (portals, types, ids) = columns(records);
        let rows = sqlx::query!(
            "select distinct on (portal_id, object_type, object_id, property)
                    portal_id, object_type, object_id, property, occurred_at, event_key
             from write
             where (portal_id, object_type, object_id) in
                   (select * from unnest($1::bigint[], $2::text[], $3::bigint[]))
             order by portal_id, object_type, object_id, property, occurred_at desc, event_key desc",
            &portals,
            &types,
            &ids,
        )
        .fetch_all(&self.pool)
        .await?;
        let newest = rows.into_iter().map(|row| {
            let record = record(row.portal_id, &row.object_type, row.object_id);
            ((record, row.property), (row.occurred_at, EventKey::from_text(row.event_key)))
        });
        Ok(Newest(newest.collect()))
    }

    /// Commits what became of commands: their state, what was written with what was there before, and the state of
    /// events whose last command this was. Says for each, in order, whether it counted.
    pub async fn finish_commands(&self, finished: &[Finished]) -> Result<Vec<bool>, LedgerError> {
        let mut transaction = self.pool.begin().await?;
        let ids: Vec<_> = finished.iter().map(|item| item.id.0).collect();
        let attempts: Vec<_> = finished.iter().map(|item| item.attempt).collect();
        let states: Vec<_> = finished.iter().map(|item| item.state.as_str().to_owned()).collect();
        let reasons: Vec<_> = finished.iter().map(|item| item.reason.clone()).collect();
        let details: Vec<_> = finished.iter().map(|item| item.detail.clone()).collect();
        // The events first, in the order of ids: two writers that finish two commands of one event must see each
        // other, or neither would end the event.
        sqlx::query!(
            "select id from event where id in (select event_id from write_command where id = any($1::uuid[]))
             order by id for update",
            &ids
        )
        .fetch_all(&mut *transaction)
        .await?;
        let counted = sqlx::query_scalar!(
            "update write_command c
             set state = input.state::write_command_state, reason = input.reason, detail = input.detail,
                 lease_expires_at = null,
                 finished_at = case when input.state = 'waiting' then null else clock_timestamp() end
             from unnest($1::uuid[], $2::int[], $3::text[], $4::text[], $5::text[])
                  as input (id, attempt, state, reason, detail)
             where c.id = input.id and c.attempt = input.attempt and c.state = 'sending'
             returning c.id",
            &ids,
            &attempts,
            &states,
            &reasons as &[Option<String>],
            &details as &[Option<String>],
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
             join write_command c on c.id = input.id",
            &commands,
            &properties,
            &before as &[Option<String>],
            &after,
        )
        .execute(&mut *transaction)
        .await?;
        // An event ends with its last command; of several ends the most telling one counts.
        sqlx::query!(
            "with ended as (
                 select c.event_id,
                        bool_or(c.state = 'parked') as parked, bool_or(c.state = 'written') as written,
                        bool_or(c.state = 'dropped') as dropped,
                        min(c.reason) filter (where c.state in ('parked', 'dropped')) as reason,
                        min(c.detail) filter (where c.state in ('parked', 'dropped')) as detail
                 from write_command c
                 where c.event_id in (select event_id from write_command where id = any($1::uuid[]))
                 group by c.event_id having bool_and(c.finished_at is not null)
             )
             update event e
             set state = case when ended.parked then 'parked' when ended.written then 'written'
                              when ended.dropped then 'dropped' else 'superseded' end::event_state,
                 reason = ended.reason, detail = ended.detail
             from ended where e.id = ended.event_id and e.state = 'decided'",
            &ids
        )
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await?;
        Ok(finished.iter().map(|item| counted.contains(&item.id.0)).collect())
    }
}

fn columns(records: &[RecordRef]) -> (Vec<i64>, Vec<String>, Vec<i64>) {
    (
        records.iter().map(|record| record.portal_id.0).collect(),
        records.iter().map(|record| record.object_type.type_id().to_owned()).collect(),
        records.iter().map(|record| record.object_id.0).collect(),
    )
}

fn record(portal_id: i64, object_type: &str, object_id: i64) -> RecordRef {
    RecordRef {
        portal_id: PortalId(portal_id),
        object_type: ObjectType::from(object_type),
        object_id: ObjectId(object_id),
    }
}

/// A write command as its row has it.
pub(crate) struct CommandRow {
    pub(crate) id: Uuid,
    pub(crate) event_id: Uuid,
    pub(crate) inference_id: Uuid,
    pub(crate) event_key: String,
    pub(crate) occurred_at: OffsetDateTime,
    pub(crate) portal_id: i64,
    pub(crate) object_type: String,
    pub(crate) object_id: i64,
    pub(crate) properties: serde_json::Value,
}

impl TryFrom<CommandRow> for WriteCommand {
    type Error = LedgerError;

    fn try_from(row: CommandRow) -> Result<Self, LedgerError> {
        let properties: Vec<PropertyChange> = serde_json::from_value(row.properties)
            .map_err(|error| LedgerError::Unreadable(format!("properties of write command {}: {error}", row.id)))?;
        Ok(Self {
            id: WriteCommandId(row.id),
            event_id: EventId(row.event_id),
            event_key: EventKey::from_text(row.event_key),
            inference_id: InferenceId(row.inference_id),
            occurred_at: row.occurred_at,
            record: record(row.portal_id, &row.object_type, row.object_id),
            properties,
        })
    }
}
