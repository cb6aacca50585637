//! Which records may hold an older value than the ledger?
//!
//! HubSpot has no compare-and-set: a writer that was frozen during a call may put an older value over a newer one. Such a
//! record is marked, and a writer later compares it with the ledger.

use domain::RecordRef;
use time::OffsetDateTime;

use crate::{
    Ledger, LedgerError, Worker,
    records::{columns, record},
};

/// The value that a property of a record should have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LatestValue {
    /// The property's internal name.
    pub property: String,
    /// The value of the newest event that wrote it.
    pub value: String,
    /// When the ledger recorded the write.
    pub written_at: OffsetDateTime,
}

impl Ledger {
    /// Marks records for verification: something may have been written to them without a lease.
    pub async fn mark_for_verification(&self, records: &[RecordRef]) -> Result<(), LedgerError> {
        let mut sorted: Vec<_> = records.to_vec();
        sorted.sort();
        sorted.dedup();
        let (portals, types, ids) = columns(&sorted);
        sqlx::query!(
            "insert into record_lease (portal_id, object_type, object_id, worker, expires_at, verify)
             select portal_id, object_type, object_id, 'none', 'epoch', true
             from unnest($1::bigint[], $2::text[], $3::bigint[]) as input (portal_id, object_type, object_id)
             on conflict (portal_id, object_type, object_id) do update set verify = true",
            &portals,
            &types,
            &ids,
        )
        .execute(&self.connections)
        .await?;
        Ok(())
    }

    /// Records that are marked for verification and whose lease has expired, the longest first.
    pub async fn records_to_verify(&self, limit: i64) -> Result<Vec<RecordRef>, LedgerError> {
        let rows = sqlx::query!(
            "select portal_id, object_type, object_id from record_lease
             where verify and expires_at < now() order by expires_at limit $1",
            limit
        )
        .fetch_all(&self.connections)
        .await?;
        Ok(rows.into_iter().map(|row| record(row.portal_id, &row.object_type, row.object_id)).collect())
    }

    /// The value of each property of a record by the newest event that wrote it, to this record or to one that was merged into it.
    /// A value that was erased with a person is not known any more.
    pub async fn latest_values(&self, of: &RecordRef) -> Result<Vec<LatestValue>, LedgerError> {
        let rows = sqlx::query_as!(
            LatestValue,
            r#"select property as "property!", value as "value!", written_at as "written_at!"
               from (select distinct on (property) property, after as value, written_at from write
                     where portal_id = $1 and object_type = $2
                       and object_id = any(array(select $3::bigint
                                                 union all
                                                 select old_id from record_merge
                                                 where portal_id = $1 and object_type = $2 and survivor_id = $3))
                     order by property, occurred_at desc, event_key collate "C" desc) as newest
               where value <> '(erased)'"#,
            of.portal_id.0,
            of.object_type.type_id(),
            of.object_id.0,
        )
        .fetch_all(&self.connections)
        .await?;
        Ok(rows)
    }

    /// Counts a verification that failed for a reason of its own, and returns how often that was.
    pub async fn count_failed_verification(&self, of: &RecordRef) -> Result<i32, LedgerError> {
        let failures = sqlx::query_scalar!(
            "update record_lease set verify_failures = verify_failures + 1
             where portal_id = $1 and object_type = $2 and object_id = $3 returning verify_failures",
            of.portal_id.0,
            of.object_type.type_id(),
            of.object_id.0,
        )
        .fetch_optional(&self.connections)
        .await?;
        Ok(failures.unwrap_or(0))
    }

    /// Ends the verification of a record and the lease that `worker` has on it. Does nothing when another writer has taken
    /// the lease over.
    pub async fn finish_verification(&self, of: &RecordRef, worker: &Worker) -> Result<(), LedgerError> {
        sqlx::query!(
            "delete from record_lease
             where portal_id = $1 and object_type = $2 and object_id = $3 and worker = $4",
            of.portal_id.0,
            of.object_type.type_id(),
            of.object_id.0,
            worker.0,
        )
        .execute(&self.connections)
        .await?;
        Ok(())
    }
}
