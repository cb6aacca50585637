//! Which values that the fleet wrote or proposed did people change, and to what?

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

/// An answer of which people changed values, after they were written or when they were proposed.
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
    /// What the answer led to: it was written, or proposed.
    pub written: String,
    /// What the person set; `None` when it was cleared.
    pub value: Option<String>,
    /// When, by HubSpot's clock.
    pub changed_at: OffsetDateTime,
    /// By what it was seen first; `None` when a reviewer set it in place of the proposed value.
    pub seen_by: Option<CorrectionSource>,
}

/// A proposal that a person rejected. What would have been right, it does not say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RejectedAnswer {
    /// The event that led to it.
    pub event_id: EventId,
    /// The record that was not changed.
    pub record: RecordRef,
    /// What was proposed: properties and values.
    pub proposed: Vec<(String, String)>,
    /// Why it was rejected.
    pub why: Option<String>,
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

    /// The newest `limit` answers of which people changed values since a time, and did not change them back: values that were written,
    /// or proposed. Of one playbook, or of all. Those of erased records are left out.
    pub async fn corrected_answers(
        &self,
        playbook: Option<&str>,
        since: OffsetDateTime,
        limit: i64,
    ) -> Result<Vec<CorrectedAnswer>, LedgerError> {
        let rows = sqlx::query!(
            r#"with corrected as (
                   select c.inference_id, o.changed_at
                   from correction o join write_command c on c.id = o.write_command_id
                   where o.seen_at >= $2 and o.taken_back_at is null and o.object_id <> 0
                   union all
                   select c.inference_id, r.decided_at
                   from review r join write_command c on c.id = r.write_command_id
                   where r.decided_at >= $2 and r.decision = 'edited' and c.object_id <> 0
               ), answer as (
                   select i.id, i.event_id, i.playbook, i.portal_id, i.object_type, i.object_id,
                          max(corrected.changed_at) as changed_at
                   from corrected join inference i on i.id = corrected.inference_id
                   where i.object_id <> 0 and ($1::text is null or i.playbook = $1)
                   group by i.id
                   order by max(corrected.changed_at) desc, i.id limit $3
               )
               select distinct on (a.changed_at, a.id, v.object_type, v.object_id, v.property)
                      a.id, a.event_id, a.playbook, a.portal_id, a.object_type, a.object_id,
                      v.object_type as "of_type!", v.object_id as "of_id!", v.property as "property!",
                      v.written as "written!", v.value, v.changed_at as "changed_at!", v.seen_by
               from answer a
               join write_command c on c.inference_id = a.id
               cross join lateral (
                   select o.object_type, o.object_id, o.property, w.after as written, o.value, o.changed_at, o.seen_by
                   from correction o
                   join write w on (w.write_command_id, w.property) = (o.write_command_id, o.property)
                   where o.write_command_id = c.id and o.taken_back_at is null and o.object_id <> 0
                   union all
                   select c.object_type, c.object_id, p.property, p.proposed, p.approved, r.decided_at, null
                   from review r
                   cross join jsonb_to_recordset(r.properties) as p (property text, proposed text, approved text)
                   where r.write_command_id = c.id and r.decision = 'edited' and p.approved is not null
               ) v
               order by a.changed_at desc, a.id, v.object_type, v.object_id, v.property, v.changed_at desc"#,
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
                seen_by: row.seen_by.map(|seen_by| SEEN_BY.read(&seen_by, CorrectionSource::parse)).transpose()?,
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

    /// The newest `limit` proposals that people rejected since a time: of one playbook, or of all. Those of erased records are left out.
    pub async fn rejected_answers(
        &self,
        playbook: Option<&str>,
        since: OffsetDateTime,
        limit: i64,
    ) -> Result<Vec<RejectedAnswer>, LedgerError> {
        let rows = sqlx::query!(
            r#"select c.event_id, c.portal_id, c.object_type, c.object_id, r.why,
                      array(select p.property from jsonb_to_recordset(r.properties) as p (property text)
                            order by p.property) as "properties!",
                      array(select p.proposed from jsonb_to_recordset(r.properties) as p (property text, proposed text)
                            order by p.property) as "proposed!"
               from review r
               join write_command c on c.id = r.write_command_id
               join inference i on i.id = c.inference_id
               where r.decided_at >= $2 and r.decision = 'rejected' and c.object_id <> 0
                 and ($1::text is null or i.playbook = $1)
               order by r.decided_at desc, r.id limit $3"#,
            playbook,
            since,
            limit
        )
        .fetch_all(&self.connections)
        .await?;
        let rejected = rows.into_iter().map(|row| RejectedAnswer {
            event_id: EventId(row.event_id),
            record: records::record(row.portal_id, &row.object_type, row.object_id),
            proposed: row.properties.into_iter().zip(row.proposed).collect(),
            why: row.why,
        });
        Ok(rejected.collect())
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
