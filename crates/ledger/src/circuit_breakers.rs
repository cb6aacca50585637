//! Is HubSpot or OpenAI away? Outages, shared by the whole fleet.
//!
//! `closed` → `open` (no calls) → a probe succeeds → `half_open` (one message at a time) → `closed`, or back to `open` with
//! a longer wait until the next probe. Time is the database's.

use std::time::Duration;

use domain::{CircuitBreakerState, Dependency, Reason};
use time::OffsetDateTime;

use crate::{Ledger, LedgerError, Worker, column::Column, milliseconds, stored_detail};

const DEPENDENCY: Column = Column::new("circuit_breaker", "dependency");
const STATE: Column = Column::new("circuit_breaker", "state");
const REASON: Column = Column::new("circuit_breaker", "reason");

/// The circuit breaker of a dependency, shared by the fleet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CircuitBreaker {
    /// The dependency that it guards.
    pub dependency: Dependency,
    /// Its state.
    pub state: CircuitBreakerState,
    /// Why it was opened.
    pub reason: Option<Reason>,
    /// The reason in words.
    pub detail: Option<String>,
    /// When the outage began.
    pub opened_at: Option<OffsetDateTime>,
    /// Probes since then.
    pub probes: i32,
    /// Open: whether the next probe is due. Half open: whether the time is over after which it closes by itself.
    pub is_due: bool,
}

/// The wait between probes: it doubles from `first` to `max`.
#[derive(Debug, Clone, Copy)]
pub struct ProbeDelays {
    /// The wait before the first probe.
    pub first: Duration,
    /// The longest wait.
    pub max: Duration,
}

impl Ledger {
    /// Every circuit breaker that was ever opened.
    pub async fn circuit_breakers(&self) -> Result<Vec<CircuitBreaker>, LedgerError> {
        let rows = sqlx::query!(
            r#"select dependency, state, reason, detail, opened_at, probes,
                      coalesce(due_at <= clock_timestamp(), false) as "is_due!"
               from circuit_breaker order by dependency"#
        )
        .fetch_all(&self.connections)
        .await?;
        let breakers = rows.into_iter().map(|row| {
            Ok(CircuitBreaker {
                state: STATE.read(&row.state, CircuitBreakerState::parse)?,
                dependency: DEPENDENCY.read(&row.dependency, Dependency::parse)?,
                reason: REASON.read_reason(row.reason.as_deref())?,
                detail: row.detail,
                opened_at: row.opened_at,
                probes: row.probes,
                is_due: row.is_due,
            })
        });
        breakers.collect()
    }

    /// Opens a circuit breaker. An open one stays as it is. A half-open one is opened again, and the wait until the next
    /// probe is longer than the one before. Returns whether this call opened it.
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
            stored_detail(detail),
            worker.0,
            milliseconds(delays.first),
            milliseconds(delays.max),
        )
        .execute(&self.connections)
        .await?;
        Ok(opened.rows_affected() == 1)
    }

    /// Takes the probe that is due. Returns `true` to one worker of the fleet, which then probes.
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
            milliseconds(delays.max),
        )
        .execute(&self.connections)
        .await?;
        Ok(taken.rows_affected() == 1)
    }

    /// Makes an open circuit breaker half open, after a probe succeeded: one message at a time from now on. It is due to
    /// close after `close_after`, even if no message comes. Returns whether this call changed it.
    pub async fn half_open_circuit_breaker(
        &self,
        dependency: Dependency,
        worker: &Worker,
        close_after: Duration,
    ) -> Result<bool, LedgerError> {
        let changed = sqlx::query!(
            "update circuit_breaker
             set state = 'half_open', worker = $2, changed_at = clock_timestamp(),
                 due_at = clock_timestamp() + $3 * interval '1 millisecond'
             where dependency = $1 and state = 'open'",
            dependency.as_str(),
            worker.0,
            milliseconds(close_after),
        )
        .execute(&self.connections)
        .await?;
        Ok(changed.rows_affected() == 1)
    }

    /// Closes a half-open circuit breaker: the outage is over. Returns whether this call changed it.
    pub async fn close_circuit_breaker(&self, dependency: Dependency, worker: &Worker) -> Result<bool, LedgerError> {
        let changed = sqlx::query!(
            "update circuit_breaker set state = 'closed', worker = $2, due_at = null, changed_at = clock_timestamp()
             where dependency = $1 and state = 'half_open'",
            dependency.as_str(),
            worker.0,
        )
        .execute(&self.connections)
        .await?;
        Ok(changed.rows_affected() == 1)
    }
}
