//! "Is HubSpot or OpenAI away for everybody?" — outages, shared by the whole fleet.
//!
//! `closed` → `open` (nobody calls) → a probe succeeds → `half_open` (one message at a time) → `closed`; or back to `open`,
//! and the next probe comes later. Time is the database's.

use std::time::Duration;

use domain::{CircuitBreakerState, Dependency, Reason};
use time::OffsetDateTime;

use crate::{Ledger, LedgerError, Worker, milliseconds};

/// A dependency's circuit, as the fleet sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CircuitBreaker {
    /// What it protects.
    pub dependency: Dependency,
    /// Where it stands.
    pub state: CircuitBreakerState,
    /// Why it was opened, in `snake_case`.
    pub reason: Option<String>,
    /// Why it was opened, in words.
    pub detail: Option<String>,
    /// Since when the outage lasts.
    pub opened_at: Option<OffsetDateTime>,
    /// Probes that failed since.
    pub probes: i32,
    /// Whether the next probe is due, or the calm that closes a half-open circuit is over.
    pub is_due: bool,
}

/// How long it is waited between probes: doubling from `first` to `cap`.
#[derive(Debug, Clone, Copy)]
pub struct ProbeDelays {
    /// After the outage was noticed.
    pub first: Duration,
    /// At most.
    pub cap: Duration,
}

impl Ledger {
    /// Every circuit that was ever opened.
    pub async fn circuit_breakers(&self) -> Result<Vec<CircuitBreaker>, LedgerError> {
        let rows = sqlx::query!(
            r#"select dependency, state, reason, detail, opened_at, probes,
                      coalesce(due_at <= clock_timestamp(), false) as "is_due!"
               from circuit_breaker order by dependency"#
        )
        .fetch_all(&self.pool)
        .await?;
        let circuits = rows.into_iter().map(|row| {
            Ok(CircuitBreaker {
                state: CircuitBreakerState::parse(&row.state)
                    .ok_or_else(|| LedgerError::Unreadable(format!("circuit breaker state `{}`", row.state)))?,
                dependency: Dependency::parse(&row.dependency)
                    .ok_or_else(|| LedgerError::Unreadable(format!("dependency `{}`", row.dependency)))?,
                reason: row.reason,
                detail: row.detail,
                opened_at: row.opened_at,
                probes: row.probes,
                is_due: row.is_due,
            })
        });
        circuits.collect()
    }

    /// Opens a circuit. One that is open already stays as it is; a half-open one is opened again, and the next probe
    /// comes later than the one before. Says whether this opened it.
    pub async fn open_circuit_breaker(
        &self,
        dependency: Dependency,
        reason: Reason,
        detail: &str,
        worker: &Worker,
        delays: ProbeDelays,
    ) -> Result<bool, LedgerError> {
        let opened = sqlx::query!(
            "insert into circuit_breaker as c (dependency, state, reason, detail, worker, opened_at, probes, due_at)
             values ($1, 'open', $2, $3, $4, clock_timestamp(), 0, clock_timestamp() + $5 * interval '1 millisecond')
             on conflict (dependency) do update
             set state = 'open', reason = excluded.reason, detail = excluded.detail, worker = excluded.worker,
                 opened_at = case when c.state = 'closed' then clock_timestamp() else c.opened_at end,
                 probes = case when c.state = 'closed' then 0 else c.probes + 1 end,
                 due_at = clock_timestamp() + least($6, $5 * case when c.state = 'closed' then 1
                                                                  else power(2, least(c.probes + 1, 20)) end)
                                              * interval '1 millisecond',
                 changed_at = clock_timestamp()
             where c.state <> 'open'",
            dependency.as_str(),
            reason.as_str(),
            detail,
            worker.0,
            milliseconds(delays.first),
            milliseconds(delays.cap),
        )
        .execute(&self.pool)
        .await?;
        Ok(opened.rows_affected() == 1)
    }

    /// Takes the probe that is due, for one worker of the fleet. Nobody else probes until the next one is due.
    pub async fn take_probe(
        &self,
        dependency: Dependency,
        worker: &Worker,
        delays: ProbeDelays,
    ) -> Result<bool, LedgerError> {
        let taken = sqlx::query!(
            "update circuit_breaker
             set worker = $2, probes = probes + 1,
                 due_at = clock_timestamp() + least($4, $3 * power(2, least(probes + 1, 20))) * interval '1 millisecond'
             where dependency = $1 and state = 'open' and due_at <= clock_timestamp()",
            dependency.as_str(),
            worker.0,
            milliseconds(delays.first),
            milliseconds(delays.cap),
        )
        .execute(&self.pool)
        .await?;
        Ok(taken.rows_affected() == 1)
    }

    /// A probe succeeded: one message at a time from now on. When no call fails within `calm`, the circuit closes even if
    /// there is nothing to do.
    pub async fn half_open_circuit_breaker(
        &self,
        dependency: Dependency,
        worker: &Worker,
        calm: Duration,
    ) -> Result<bool, LedgerError> {
        let changed = sqlx::query!(
            "update circuit_breaker
             set state = 'half_open', worker = $2, changed_at = clock_timestamp(),
                 due_at = clock_timestamp() + $3 * interval '1 millisecond'
             where dependency = $1 and state = 'open'",
            dependency.as_str(),
            worker.0,
            milliseconds(calm),
        )
        .execute(&self.pool)
        .await?;
        Ok(changed.rows_affected() == 1)
    }

    /// The outage is over.
    pub async fn close_circuit_breaker(&self, dependency: Dependency, worker: &Worker) -> Result<bool, LedgerError> {
        let changed = sqlx::query!(
            "update circuit_breaker set state = 'closed', worker = $2, due_at = null, changed_at = clock_timestamp()
             where dependency = $1 and state = 'half_open'",
            dependency.as_str(),
            worker.0,
        )
        .execute(&self.pool)
        .await?;
        Ok(changed.rows_affected() == 1)
    }
}
