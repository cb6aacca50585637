//! What may the ledger have forgotten?
//!
//! A ledger that was restored from a backup, or whose standby was promoted, does not know what was done after the backup, or
//! after the last commit that reached the standby. It finds out by itself: the function `recovered_at` (migrations) compares
//! the database with the one that it was.

use std::time::Duration;

use sqlx::PgConnection;
use time::OffsetDateTime;

use crate::{Ledger, LedgerError, seconds};

/// How late HubSpot's clock may be, compared with the ledger's, or the other way round.
pub(crate) const CLOCK_SKEW: Duration = Duration::from_secs(10);

/// That the ledger was recovered: restored from a backup, or served by a promoted standby.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Recovery {
    /// When that was noticed, which is before anything was carried out with what the ledger knew then.
    pub at: OffsetDateTime,
    /// How long ago that is.
    pub age: Duration,
}

impl Recovery {
    pub(crate) fn read(at: Option<OffsetDateTime>, age_seconds: Option<f64>) -> Option<Self> {
        Some(Self { at: at?, age: seconds(age_seconds?) })
    }

    /// Whether what happened at `time` may be forgotten.
    pub fn is_after(&self, time: OffsetDateTime) -> bool {
        time < self.at + CLOCK_SKEW
    }
}

/// Compares the database with the one that it was, and remembers what it is.
pub(crate) async fn note(connection: &mut PgConnection) -> Result<(), LedgerError> {
    sqlx::query!("select recovered_at() as at").fetch_one(connection).await?;
    Ok(())
}

impl Ledger {
    /// The last recovery; `None` when there was none.
    pub async fn recovery(&self) -> Result<Option<Recovery>, LedgerError> {
        let row = sqlx::query!(
            "select at, extract(epoch from clock_timestamp() - at)::float8 as age
             from (select recovered_at() as at) as recovery"
        )
        .fetch_one(&self.connections)
        .await?;
        Ok(Recovery::read(row.at, row.age))
    }
}
