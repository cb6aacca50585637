//! Which values that the fleet wrote did people change, and to what?

use domain::{Correction, CorrectionSource, EventId, InferenceId, RecordRef};
use time::OffsetDateTime;

use crate::{Ledger, LedgerError, column::Column, connections::Transaction, records};

const SEEN_BY: Column = Column::new("correction", "seen_by");

/// A value of a playbook that a person changed, not known before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordedCorrection {
    /// The playbook that wrote the value.
    pub playbook: String,
    /// The property.
    pub property: String,
}

/// An answer of which people changed values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CorrectedAnswer {
    /// Its id.
    pub inference_id: InferenceId,
    /// The event that led to it.
    pub event_id: EventId,
    /// The playbook.
    pub playbook: String,
    /// The record that it was about.
    pub record: RecordRef,
    /// What people changed, the newest value of each property.
    pub values: Vec<CorrectedValue>,
}

/// A value that a person changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CorrectedValue {
    /// The record that holds it.
    pub record: RecordRef,
    /// The property.
    pub property: String,
    /// What was written.
    pub written: String,
    /// What the person set; `None` when it was cleared.
    pub value: Option<String>,
    /// When, by HubSpot's clock.
    pub changed_at: OffsetDateTime,
    /// By what it was seen first.
    pub seen_by: CorrectionSource,
}

impl Ledger {
    /// Records what people set properties to, as far as the fleet had written these. Returns what was not known before: recorded
    /// again, it changes nothing.
    pub async fn record_corrections(
        &self,
        corrections: &[Correction],
        source: CorrectionSource,
    ) -> Result<Vec<RecordedCorrection>, LedgerError> {
        let mut transaction = self.connections.begin().await?;
        let recorded = insert(&mut transaction, corrections.iter(), source).await?;
        transaction.commit().await?;
        count(&recorded);
        Ok(recorded)
    }

    /// The newest `limit` answers since a time of which people changed values that are not changed back: of one playbook, or of all.
    /// Those of erased records are left out.
    pub async fn corrected_answers(
        &self,
        playbook: Option<&str>,
        since: OffsetDateTime,
        limit: i64,
    ) -> Result<Vec<CorrectedAnswer>, LedgerError> {
        let rows = sqlx::query!(
            r#"with answer as (
                   select i.id, i.event_id, i.playbook, i.portal_id, i.object_type, i.object_id, max(o.changed_at) as changed_at
                   from correction o
                   join write_command c on c.id = o.write_command_id
                   join inference i on i.id = c.inference_id
                   where o.seen_at >= $2 and o.taken_back_at is null and o.object_id <> 0 and i.object_id <> 0
                     and ($1::text is null or i.playbook = $1)
                   group by i.id
                   order by max(o.changed_at) desc, i.id limit $3
               )
               select distinct on (a.changed_at, a.id, o.object_type, o.object_id, o.property)
                      a.id, a.event_id, a.playbook, a.portal_id, a.object_type, a.object_id,
                      o.object_type as of_type, o.object_id as of_id, o.property, w.after as written, o.value,
                      o.changed_at, o.seen_by
               from answer a
               join write_command c on c.inference_id = a.id
               join correction o on o.write_command_id = c.id and o.taken_back_at is null and o.object_id <> 0
               join write w on (w.write_command_id, w.property) = (o.write_command_id, o.property)
               order by a.changed_at desc, a.id, o.object_type, o.object_id, o.property, o.changed_at desc"#,
            playbook,
            since,
            limit
        )
        .fetch_all(&self.connections)
        .await?;
        let mut answers: Vec<CorrectedAnswer> = Vec::new();
        for row in rows {
            let value = CorrectedValue {
                record: records::record(row.portal_id, &row.of_type, row.of_id),
                property: row.property,
                written: row.written,
                value: row.value,
                changed_at: row.changed_at,
                seen_by: SEEN_BY.read(&row.seen_by, CorrectionSource::parse)?,
            };
            match answers.last_mut() {
                Some(answer) if answer.inference_id.0 == row.id => answer.values.push(value),
                _ => {
                    let record = records::record(row.portal_id, &row.object_type, row.object_id);
                    let (inference_id, event_id) = (InferenceId(row.id), EventId(row.event_id));
                    let (playbook, values) = (row.playbook, vec![value]);
                    answers.push(CorrectedAnswer { inference_id, event_id, playbook, record, values });
                }
            }
        }
        Ok(answers)
    }
}

/// Records corrections as a part of a transaction; see [`Ledger::record_corrections`]. What it returns is to be [counted](count) once
/// that is committed.
pub(crate) async fn insert(
    transaction: &mut Transaction,
    corrections: impl Iterator<Item = &Correction>,
    source: CorrectionSource,
) -> Result<Vec<RecordedCorrection>, LedgerError> {
    let corrections: Vec<_> = corrections.collect();
    if corrections.is_empty() {
        return Ok(Vec::new());
    }
    let of: Vec<_> = corrections.iter().map(|correction| correction.record.clone()).collect();
    let (portals, types, ids) = records::columns(&of);
    Ok(sqlx::query_as!(
        RecordedCorrection,
        r#"select by_playbook as "playbook!", on_property as "property!" from record_corrections($1, $2, $3, $4, $5, $6, $7)"#,
        &portals,
        &types,
        &ids,
        &corrections.iter().map(|correction| correction.property.clone()).collect::<Vec<_>>(),
        &corrections.iter().map(|correction| correction.value.clone()).collect::<Vec<_>>() as &[Option<String>],
        &corrections.iter().map(|correction| correction.changed_at).collect::<Vec<_>>(),
        source.as_str()
    )
    .fetch_all(&mut *transaction)
    .await?)
}

/// Counts what was recorded.
pub(crate) fn count(recorded: &[RecordedCorrection]) {
    for RecordedCorrection { playbook, property } in recorded {
        let (playbook, property) = (playbook.clone(), property.clone());
        metrics::counter!("leadline_overrides_total", "playbook" => playbook, "property" => property).increment(1);
    }
}
