//! Which versions of a playbook are held back? Rates that left their bounds, and who let the version go on.

use std::time::Duration;

use domain::{DriftRate, Rate};
use time::OffsetDateTime;

use crate::{Ledger, LedgerError, Worker, column::Column, milliseconds};

const RATE: Column = Column::new("drift", "rate");

/// A rate of a version of a playbook that left its bound.
#[derive(Debug, Clone, PartialEq)]
pub struct Drift {
    /// The playbook's name.
    pub playbook: String,
    /// The hash of its file.
    pub version: String,
    /// The snapshot whose answers are meant; `None`: those of all models together.
    pub model: Option<String>,
    /// Which rate.
    pub kind: DriftRate,
    /// What was counted.
    pub rate: Rate,
    /// What is allowed, in percent.
    pub bound_percent: f64,
}

/// A rate because of which a version is held back.
#[derive(Debug, Clone, PartialEq)]
pub struct DriftEntry {
    /// Which, and how far it left its bound.
    pub drift: Drift,
    /// Since when the version is held back.
    pub held_at: OffsetDateTime,
    /// Whether a worker has said in the last two minutes that it runs this version.
    pub is_used: bool,
}

impl std::fmt::Display for Drift {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { playbook, version, model, kind, rate, bound_percent } = self;
        write!(f, "{playbook}@{version}: {} of {} {kind}", rate.part(), rate.whole())?;
        if let Some(model) = model {
            write!(f, " with {model}")?;
        }
        write!(f, ", more than {bound_percent} %")
    }
}

impl Ledger {
    /// From when the answers of a version count: they are at most as old as `window`, and not older than the last time that an
    /// operator let the version go on.
    pub async fn drift_counted_from(
        &self,
        (playbook, version): (&str, &str),
        window: Duration,
    ) -> Result<OffsetDateTime, LedgerError> {
        Ok(sqlx::query_scalar!(
            r#"select greatest(clock_timestamp() - $3 * interval '1 millisecond', max(resumed_at)) as "from!"
               from drift where (playbook, version) = ($1, $2)"#,
            playbook,
            version,
            milliseconds(window),
        )
        .fetch_one(&self.maintenance)
        .await?)
    }

    /// Holds the version back. Returns `false` when it is for this rate, or was resumed after `counted_from`, so that the count is of
    /// no matter any more.
    pub async fn hold_back(
        &self,
        drift: &Drift,
        counted_from: OffsetDateTime,
        worker: &Worker,
    ) -> Result<bool, LedgerError> {
        let inserted = sqlx::query!(
            "insert into drift (playbook, version, model, rate, part, whole, bound_percent, counted_from, held_by)
             select $1, $2, $3, $4, $5, $6, $7, $8, $9
             where not exists (select from drift r where (r.playbook, r.version) = ($1, $2) and r.resumed_at > $8)
             on conflict (playbook, version, rate) where resumed_at is null do nothing",
            drift.playbook,
            drift.version,
            drift.model.as_deref(),
            drift.kind.as_str(),
            drift.rate.part(),
            drift.rate.whole(),
            drift.bound_percent,
            counted_from,
            worker.0,
        )
        .execute(&self.maintenance)
        .await?;
        Ok(inserted.rows_affected() == 1)
    }

    /// Why versions are held back, by playbook and version.
    pub async fn held_back(&self) -> Result<Vec<DriftEntry>, LedgerError> {
        let rows = sqlx::query!(
            r#"select playbook, version, model, rate, part, whole, bound_percent, held_at,
                      used_at > clock_timestamp() - interval '2 minutes' as "is_used!"
               from drift where resumed_at is null order by playbook, version, rate"#,
        )
        .fetch_all(&self.connections)
        .await?;
        let entries = rows.into_iter().map(|row| {
            let drift = Drift {
                playbook: row.playbook,
                version: row.version,
                model: row.model,
                kind: RATE.read(&row.rate, DriftRate::parse)?,
                rate: Rate::of(row.part, row.whole),
                bound_percent: row.bound_percent,
            };
            Ok(DriftEntry { drift, held_at: row.held_at, is_used: row.is_used })
        });
        entries.collect()
    }

    /// Notes that a worker runs these versions, by playbook and version, of those that are held back.
    pub async fn note_held_versions_in_use(&self, versions: &[(String, String)]) -> Result<(), LedgerError> {
        let (playbooks, versions): (Vec<_>, Vec<_>) = versions.iter().cloned().unzip();
        sqlx::query!(
            "update drift set used_at = clock_timestamp()
             where resumed_at is null
               and (playbook, version) in (select * from unnest($1::text[], $2::text[]))",
            &playbooks,
            &versions,
        )
        .execute(&self.connections)
        .await?;
        Ok(())
    }

    /// Lets a version go on. Returns `false` when it is not held back.
    pub async fn resume(
        &self,
        (playbook, version): (&str, &str),
        resumed_by: &str,
        why: &str,
    ) -> Result<bool, LedgerError> {
        let resumed = sqlx::query!(
            "update drift set resumed_at = clock_timestamp(), resumed_by = $3, why = $4
             where (playbook, version) = ($1, $2) and resumed_at is null",
            playbook,
            version,
            resumed_by,
            why,
        )
        .execute(&self.connections)
        .await?;
        Ok(resumed.rows_affected() > 0)
    }
}
