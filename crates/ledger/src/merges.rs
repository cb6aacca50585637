//! Under which ids is a record known? HubSpot mints a new id for the record that survives a merge.

use std::collections::HashMap;

use domain::{ObjectId, RecordRef};

use crate::{
    Ledger, LedgerError,
    records::{columns, record},
};

/// A record that was merged into another one of its type.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct RecordMerge {
    /// The record as it was known before.
    pub old: RecordRef,
    /// The id of the record that survives.
    pub survivor: ObjectId,
}

impl Ledger {
    /// Records that records were merged. A survivor that was merged itself, before or later, gives way to its own survivor.
    pub async fn record_merges(&self, merges: &[RecordMerge]) -> Result<(), LedgerError> {
        let mut sorted: Vec<_> = merges.to_vec();
        sorted.sort();
        sorted.dedup();
        let mut transaction = self.connections.begin().await?;
        sqlx::query!("select lock_merges()").execute(&mut transaction).await?;
        // One after the other: each may change where the next one leads to.
        for RecordMerge { old, survivor } in &sorted {
            let (portal, kind, id) = (old.portal_id.0, old.object_type.type_id(), old.object_id.0);
            let recorded = sqlx::query_scalar!(
                "insert into record_merge as known (portal_id, object_type, old_id, survivor_id)
                 select $1::bigint, $2::text, $3::bigint, last.id
                 from (select coalesce((select survivor_id from record_merge
                                        where portal_id = $1 and object_type = $2 and old_id = $4), $4::bigint)) as last (id)
                 where last.id <> $3
                 on conflict (portal_id, object_type, old_id) do update set survivor_id = excluded.survivor_id
                 where known.survivor_id <> excluded.survivor_id
                 returning survivor_id",
                portal,
                kind,
                id,
                survivor.0,
            )
            .fetch_optional(&mut transaction)
            .await?;
            let Some(last) = recorded else { continue };
            sqlx::query!(
                "update record_merge set survivor_id = $4 where portal_id = $1 and object_type = $2 and survivor_id = $3",
                portal,
                kind,
                id,
                last,
            )
            .execute(&mut transaction)
            .await?;
            // Learned after its survivor was erased for privacy reasons: what is known under its old ids goes, too.
            sqlx::query!("select erase_merged($1, $2, $3)", portal, kind, last).execute(&mut transaction).await?;
        }
        transaction.commit().await?;
        Ok(())
    }

    /// The survivors of those of the records that are known to be merged into another one.
    pub async fn survivors(&self, records: &[RecordRef]) -> Result<HashMap<RecordRef, RecordRef>, LedgerError> {
        let (portals, types, ids) = columns(records);
        let rows = sqlx::query!(
            "select portal_id, object_type, old_id, survivor_id from record_merge
             where (portal_id, object_type, old_id) in (select * from unnest($1::bigint[], $2::text[], $3::bigint[]))",
            &portals,
            &types,
            &ids,
        )
        .fetch_all(&self.connections)
        .await?;
        let merged = rows.into_iter().map(|row| {
            let of = |id| record(row.portal_id, &row.object_type, id);
            (of(row.old_id), of(row.survivor_id))
        });
        Ok(merged.collect())
    }

    /// The record under all ids by which it is known: its own first, then those of the records that were merged into it.
    pub async fn known_as(&self, of: &RecordRef) -> Result<Vec<RecordRef>, LedgerError> {
        let merged = sqlx::query_scalar!(
            "select old_id from record_merge where portal_id = $1 and object_type = $2 and survivor_id = $3 order by old_id",
            of.portal_id.0,
            of.object_type.type_id(),
            of.object_id.0,
        )
        .fetch_all(&self.connections)
        .await?;
        let old = merged.into_iter().map(|id| RecordRef { object_id: ObjectId(id), ..of.clone() });
        Ok(std::iter::once(of.clone()).chain(old).collect())
    }
}
