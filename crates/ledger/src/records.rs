//! May this writer change this record, and which event wrote to it last?

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use domain::{EventKey, ObjectId, ObjectType, PortalId, RecordRef, WriteCommand};
use time::OffsetDateTime;

use crate::{Ledger, LedgerError, Worker, milliseconds, recovery::CLOCK_SKEW};

/// The newest event that wrote each property of some records, and what it wrote; after a recovery also what else was written.
#[derive(Debug, Default)]
pub struct LatestWrites {
    newest: HashMap<RecordRef, HashMap<String, LatestWrite>>,
    /// When each value was recorded last, by record and property.
    recorded: HashMap<RecordRef, HashMap<String, HashMap<String, OffsetDateTime>>>,
}

#[derive(Debug)]
struct LatestWrite {
    at: OffsetDateTime,
    key: EventKey,
    value: String,
    recorded_at: OffsetDateTime,
}

/// The value that the fleet wrote last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordedValue<'a> {
    /// What was written.
    pub value: &'a str,
    /// When the ledger recorded it, which is after HubSpot had it.
    pub at: OffsetDateTime,
}

impl LatestWrites {
    /// Whether the ledger has a write of `property` by a newer event than that of `command`.
    pub fn is_newer_than(&self, command: &WriteCommand, property: &str) -> bool {
        self.write(&command.record, property).is_some_and(|write| (write.at, &write.key) > command.order())
    }

    /// The value that was written to a property last; `None` when the ledger has no write of it.
    pub fn value(&self, record: &RecordRef, property: &str) -> Option<&str> {
        self.recorded(record, property).map(|recorded| recorded.value)
    }

    /// The same, and when it was recorded.
    pub fn recorded(&self, record: &RecordRef, property: &str) -> Option<RecordedValue<'_>> {
        self.write(record, property).map(|write| RecordedValue { value: &write.value, at: write.recorded_at })
    }

    /// Whether a value that HubSpot shows as set at a time is one that the ledger has: it recorded that value since, or has it as
    /// the last one, which may have been set again.
    pub fn has_value(&self, record: &RecordRef, property: &str, value: &str, set_at: OffsetDateTime) -> bool {
        let recorded_at = || self.recorded.get(record)?.get(property)?.get(value);
        self.value(record, property) == Some(value) || recorded_at().is_some_and(|at| set_at <= *at + CLOCK_SKEW)
    }

    fn write(&self, record: &RecordRef, property: &str) -> Option<&LatestWrite> {
        self.newest.get(record)?.get(property)
    }
}

impl Ledger {
    /// Leases records to `worker`, so that no two writers change one at the same time. Returns the records whose lease it
    /// got. An expired lease is taken over, and the record is marked for verification: a call of the writer before may
    /// still reach HubSpot.
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
        .fetch_all(&self.connections)
        .await?;
        Ok(rows.into_iter().map(|row| record(row.portal_id, &row.object_type, row.object_id)).collect())
    }

    /// Ends the leases that `worker` has on records. A record that is marked for verification keeps its row, with an expired
    /// lease.
    pub async fn unlock_records(&self, records: &[RecordRef], worker: &Worker) -> Result<(), LedgerError> {
        let (portals, types, ids) = columns(records);
        sqlx::query!("select unlock_records($1, $2, $3, $4)", &portals, &types, &ids, worker.0,)
            .execute(&self.connections)
            .await?;
        Ok(())
    }

    /// For each property of some records, the newest event that wrote it, and its value. What was written to records that were
    /// merged into one of them counts, too. With a `since`, [`LatestWrites::has_value`] knows every value that was written since
    /// then.
    pub async fn latest_writes(
        &self,
        records: &[RecordRef],
        since: Option<OffsetDateTime>,
    ) -> Result<LatestWrites, LedgerError> {
        let (portals, types, ids) = columns(records);
        let rows = sqlx::query!(
            r#"with asked as (
                   select * from unnest($1::bigint[], $2::text[], $3::bigint[]) as input (portal_id, object_type, object_id)
               ), known_as as (
                   select portal_id, object_type, object_id, object_id as known_id from asked
                   union all
                   select m.portal_id, m.object_type, m.survivor_id, m.old_id
                   from asked join record_merge m on (m.portal_id, m.object_type, m.survivor_id)
                                                     = (asked.portal_id, asked.object_type, asked.object_id)
               )
               select distinct on (k.portal_id, k.object_type, k.object_id, w.property)
                      k.portal_id as "portal_id!", k.object_type as "object_type!", k.object_id as "object_id!", w.property,
                      w.occurred_at, w.event_key, w.after, w.written_at
               from known_as k join write w on (w.portal_id, w.object_type, w.object_id)
                                               = (k.portal_id, k.object_type, k.known_id)
               order by k.portal_id, k.object_type, k.object_id, w.property, w.occurred_at desc,
                        w.event_key collate "C" desc"#,
            &portals,
            &types,
            &ids,
        )
        .fetch_all(&self.connections)
        .await?;
        let mut newest = LatestWrites::default();
        for row in rows {
            let record = record(row.portal_id, &row.object_type, row.object_id);
            let write = LatestWrite {
                at: row.occurred_at,
                key: EventKey::from_text(row.event_key),
                value: row.after,
                recorded_at: row.written_at,
            };
            newest.newest.entry(record).or_default().insert(row.property, write);
        }
        if let Some(since) = since {
            self.add_values_since(since - CLOCK_SKEW, (&portals, &types, &ids), &mut newest).await?;
        }
        Ok(newest)
    }

    async fn add_values_since(
        &self,
        since: OffsetDateTime,
        (portals, types, ids): (&[i64], &[String], &[i64]),
        writes: &mut LatestWrites,
    ) -> Result<(), LedgerError> {
        let rows = sqlx::query!(
            r#"select asked.portal_id as "portal_id!", asked.object_type as "object_type!", asked.object_id as "object_id!",
                      w.property, w.after, max(w.written_at) as "recorded_at!"
               from unnest($1::bigint[], $2::text[], $3::bigint[]) as asked (portal_id, object_type, object_id)
               cross join lateral (select asked.object_id as id
                                   union all
                                   select m.old_id from record_merge m
                                   where (m.portal_id, m.object_type, m.survivor_id)
                                         = (asked.portal_id, asked.object_type, asked.object_id)) as known_as
               join write w on (w.portal_id, w.object_type, w.object_id)
                               = (asked.portal_id, asked.object_type, known_as.id)
               where w.written_at >= $4
               group by asked.portal_id, asked.object_type, asked.object_id, w.property, w.after"#,
            portals,
            types,
            ids,
            since,
        )
        .fetch_all(&self.connections)
        .await?;
        for row in rows {
            let record = record(row.portal_id, &row.object_type, row.object_id);
            let values = writes.recorded.entry(record).or_default().entry(row.property).or_default();
            values.insert(row.after, row.recorded_at);
        }
        Ok(())
    }
}

pub(crate) fn columns(records: &[RecordRef]) -> (Vec<i64>, Vec<String>, Vec<i64>) {
    (
        records.iter().map(|record| record.portal_id.0).collect(),
        records.iter().map(|record| record.object_type.type_id().to_owned()).collect(),
        records.iter().map(|record| record.object_id.0).collect(),
    )
}

pub(crate) fn record(portal_id: i64, object_type: &str, object_id: i64) -> RecordRef {
    RecordRef {
        portal_id: PortalId(portal_id),
        object_type: ObjectType::from(object_type),
        object_id: ObjectId(object_id),
    }
}
