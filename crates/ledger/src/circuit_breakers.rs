//! Is HubSpot or OpenAI away, a credential rejected, or the model of a playbook away? Outages, shared by the whole fleet.
//!
//! `closed` → `open` (no calls) → a probe succeeds → `half_open` (one message at a time) → `closed`, or back to `open` with
//! a longer wait until the next probe. Time is the database's.

use std::time::Duration;

use domain::{Circuit, CircuitBreakerState, Dependency, EventId, Fingerprint, PlaybookModel, Reason};
use time::OffsetDateTime;

use crate::{Ledger, LedgerError, Worker, column::Column, milliseconds, seconds, stored_detail};

const DEPENDENCY: Column = Column::new("circuit_breaker", "dependency");
const STATE: Column = Column::new("circuit_breaker", "state");
const REASON: Column = Column::new("circuit_breaker", "reason");

/// A circuit breaker, shared by the fleet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CircuitBreaker {
    /// What it guards.
    pub circuit: Circuit,
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
    /// Open: whether the next probe is due. Half open: whether the time is over after which it closes by itself, or that of
    /// the event that asks the model.
    pub is_due: bool,
    /// In what time it is due.
    pub due_in: Duration,
    /// Of a closed one of a model: how many events it refused for the same parameter, without an answer in between.
    pub refused_events: i32,
    /// Of one of a credential that is not open: the workers that are rejected with it, and pause by themselves. Each says so again with
    /// its next probe, an hour later at most; what is older is forgotten.
    pub rejected_by: Vec<String>,
}

/// The wait between probes: it doubles from `first` to `max`.
#[derive(Debug, Clone, Copy)]
pub struct ProbeDelays {
    /// The wait before the first probe.
    pub first: Duration,
    /// The longest wait.
    pub max: Duration,
    /// For how long the worker that opened the circuit, or probed last, leaves the next probe to others: its own failures may be
    /// due to itself.
    pub others_first: Duration,
}

impl ProbeDelays {
    /// The wait after so many probes.
    pub fn after(&self, probes: i32) -> Duration {
        let doublings = u32::try_from(probes).unwrap_or(0).min(20);
        self.first.saturating_mul(1 << doublings).min(self.max)
    }

    /// Whether the wait after so many probes is the longest one.
    pub fn is_longest_after(&self, probes: i32) -> bool {
        self.after(probes) == self.max
    }
}

/// The columns that name a circuit. Those that do not concern it are empty.
pub(crate) struct Key<'a> {
    pub(crate) dependency: &'static str,
    pub(crate) credential: &'a str,
    playbook: &'a str,
    version: &'a str,
    model: &'a str,
}

impl<'a> From<&'a Circuit> for Key<'a> {
    fn from(circuit: &'a Circuit) -> Self {
        match circuit {
            Circuit::Dependency(dependency) => Self::of(*dependency, ""),
            Circuit::Credential(dependency, fingerprint) => Self::of(*dependency, fingerprint.as_str()),
            Circuit::Model(model) => Self::from(model),
        }
    }
}

impl<'a> From<&'a PlaybookModel> for Key<'a> {
    fn from(PlaybookModel { playbook, version, model }: &'a PlaybookModel) -> Self {
        Self { playbook, version, model, ..Self::of(Dependency::OpenAi, "") }
    }
}

impl<'a> Key<'a> {
    fn of(dependency: Dependency, credential: &'a str) -> Self {
        Self { dependency: dependency.as_str(), credential, playbook: "", version: "", model: "" }
    }
}

impl Ledger {
    /// Every circuit breaker that was ever opened.
    pub async fn circuit_breakers(&self) -> Result<Vec<CircuitBreaker>, LedgerError> {
        let rows = sqlx::query!(
            r#"select dependency, credential, playbook, playbook_version, model, state, reason, detail, opened_at, probes,
                      case when changed_at > clock_timestamp() - interval '2 hours' then rejected_by else '{}' end
                          as "rejected_by!",
                      coalesce(due_at <= clock_timestamp(), false) as "is_due!",
                      coalesce(extract(epoch from due_at - clock_timestamp())::float8, 0) as "due_in!",
                      cardinality(refused_events) as "refused_events!"
               from circuit_breaker order by dependency, credential, playbook, playbook_version, model"#
        )
        .fetch_all(&self.connections)
        .await?;
        let breakers = rows.into_iter().map(|row| {
            let dependency = DEPENDENCY.read(&row.dependency, Dependency::parse)?;
            let circuit = match (row.credential.is_empty(), row.playbook.is_empty()) {
                (true, true) => Circuit::Dependency(dependency),
                (false, _) => Circuit::Credential(dependency, Fingerprint::from_text(row.credential)),
                (true, false) => Circuit::Model(PlaybookModel {
                    playbook: row.playbook,
                    version: row.playbook_version,
                    model: row.model,
                }),
            };
            Ok(CircuitBreaker {
                circuit,
                state: STATE.read(&row.state, CircuitBreakerState::parse)?,
                reason: REASON.read_reason(row.reason.as_deref())?,
                detail: row.detail,
                opened_at: row.opened_at,
                probes: row.probes,
                is_due: row.is_due,
                due_in: seconds(row.due_in),
                refused_events: row.refused_events,
                rejected_by: row.rejected_by,
            })
        });
        breakers.collect()
    }

    /// Opens a circuit breaker. An open one stays as it is. A half-open one is opened again, and the wait until the next
    /// probe is longer than the one before. Returns whether this call opened it.
    pub async fn open_circuit_breaker(
        &self,
        circuit: &Circuit,
        reason: Reason,
        detail: &str,
        worker: &Worker,
        delays: ProbeDelays,
    ) -> Result<bool, LedgerError> {
        let key = Key::from(circuit);
        let opened = sqlx::query!(
            "insert into circuit_breaker as c (dependency, playbook, playbook_version, model, state, reason, detail, worker,
                                               opened_at, probes, due_at, credential)
             values ($1, $2, $3, $4, 'open', $5, $6, $7, clock_timestamp(), 0,
                     clock_timestamp() + $8 * interval '1 millisecond', $10)
             on conflict (dependency, credential, playbook, playbook_version, model) do update
             set state = 'open', reason = excluded.reason, detail = excluded.detail, worker = excluded.worker,
                 accepted_by = null,
                 opened_at = case when c.state = 'closed' then clock_timestamp() else c.opened_at end,
                 probes = case when c.state = 'closed' then 0 else c.probes + 1 end,
                 due_at = clock_timestamp() + least($9, $8 * case when c.state = 'closed' then 1
                                                                  else power(2, least(c.probes + 1, 20)) end)
                                              * interval '1 millisecond',
                 changed_at = clock_timestamp()
             where c.state <> 'open'",
            key.dependency,
            key.playbook,
            key.version,
            key.model,
            reason.as_str(),
            stored_detail(detail),
            worker.0,
            milliseconds(delays.first),
            milliseconds(delays.max),
            key.credential,
        )
        .execute(&self.connections)
        .await?;
        Ok(opened.rows_affected() == 1)
    }

    /// Takes the probe that is due. Returns `true` to one worker of the fleet, which then probes: another one than the last, if there
    /// is one.
    pub async fn take_probe(
        &self,
        circuit: &Circuit,
        worker: &Worker,
        delays: ProbeDelays,
    ) -> Result<bool, LedgerError> {
        let key = Key::from(circuit);
        let taken = sqlx::query!(
            "update circuit_breaker
             set worker = $5, probes = probes + 1,
                 due_at = clock_timestamp() + least($7, $6 * power(2, least(probes + 1, 20))) * interval '1 millisecond'
             where (dependency, playbook, playbook_version, model, credential) = ($1, $2, $3, $4, $8) and state = 'open'
               and due_at + case worker when $5 then $9::float8 else 0 end * interval '1 millisecond' <= clock_timestamp()",
            key.dependency,
            key.playbook,
            key.version,
            key.model,
            worker.0,
            milliseconds(delays.first),
            milliseconds(delays.max),
            key.credential,
            milliseconds(delays.others_first),
        )
        .execute(&self.connections)
        .await?;
        Ok(taken.rows_affected() == 1)
    }

    /// Makes an open circuit breaker half open, after a probe succeeded: one message at a time from now on. It is due to
    /// close after `close_after`, even if no message comes. Returns whether this call changed it.
    pub async fn half_open_circuit_breaker(
        &self,
        circuit: &Circuit,
        worker: &Worker,
        close_after: Duration,
    ) -> Result<bool, LedgerError> {
        let key = Key::from(circuit);
        let changed = sqlx::query!(
            "update circuit_breaker
             set state = 'half_open', worker = $5, changed_at = clock_timestamp(), rejected_by = '{}', accepted_by = null,
                 due_at = clock_timestamp() + $6 * interval '1 millisecond'
             where (dependency, playbook, playbook_version, model, credential) = ($1, $2, $3, $4, $7) and state = 'open'",
            key.dependency,
            key.playbook,
            key.version,
            key.model,
            worker.0,
            milliseconds(close_after),
            key.credential,
        )
        .execute(&self.connections)
        .await?;
        Ok(changed.rows_affected() == 1)
    }

    /// Closes a half-open circuit breaker: the outage is over. Returns whether this call changed it.
    pub async fn close_circuit_breaker(&self, circuit: &Circuit, worker: &Worker) -> Result<bool, LedgerError> {
        let key = Key::from(circuit);
        let changed = sqlx::query!(
            "update circuit_breaker
             set state = 'closed', worker = $5, due_at = null, changed_at = clock_timestamp(), parameter = null,
                 refused_events = '{}'
             where (dependency, playbook, playbook_version, model, credential) = ($1, $2, $3, $4, $6)
               and state = 'half_open'",
            key.dependency,
            key.playbook,
            key.version,
            key.model,
            worker.0,
            key.credential,
        )
        .execute(&self.connections)
        .await?;
        Ok(changed.rows_affected() == 1)
    }

    /// Takes the turn to ask a model whose circuit is half open, for the time of `lease` at most. Returns `true` to one
    /// worker of the fleet; the others wait until it says what came of it, or the lease ends.
    pub async fn take_turn(
        &self,
        model: &PlaybookModel,
        worker: &Worker,
        lease: Duration,
    ) -> Result<bool, LedgerError> {
        let key = Key::from(model);
        let taken = sqlx::query!(
            "update circuit_breaker set worker = $5, due_at = clock_timestamp() + $6 * interval '1 millisecond'
             where (dependency, playbook, playbook_version, model) = ($1, $2, $3, $4)
               and state = 'half_open' and due_at <= clock_timestamp()",
            key.dependency,
            key.playbook,
            key.version,
            key.model,
            worker.0,
            milliseconds(lease),
        )
        .execute(&self.connections)
        .await?;
        Ok(taken.rows_affected() == 1)
    }

    /// Gives a turn back from which nothing follows: the next event may ask.
    pub async fn give_turn_back(&self, model: &PlaybookModel, worker: &Worker) -> Result<(), LedgerError> {
        let key = Key::from(model);
        sqlx::query!(
            "update circuit_breaker set due_at = clock_timestamp()
             where (dependency, playbook, playbook_version, model) = ($1, $2, $3, $4)
               and state = 'half_open' and worker = $5",
            key.dependency,
            key.playbook,
            key.version,
            key.model,
            worker.0,
        )
        .execute(&self.connections)
        .await?;
        Ok(())
    }

    /// Notes that a model refused a parameter of a request for this event. Returns for how many events it did so without an
    /// answer in between; `None` when its circuit is no longer closed.
    pub async fn note_refused_parameter(
        &self,
        model: &PlaybookModel,
        parameter: &str,
        event: EventId,
        worker: &Worker,
    ) -> Result<Option<i32>, LedgerError> {
        let key = Key::from(model);
        let events = sqlx::query_scalar!(
            r#"insert into circuit_breaker as c (dependency, playbook, playbook_version, model, state, worker, parameter,
                                                 refused_events)
               values ($1, $2, $3, $4, 'closed', $5, $6, array[$7::uuid])
               on conflict (dependency, credential, playbook, playbook_version, model) do update
               set worker = excluded.worker, parameter = excluded.parameter, changed_at = clock_timestamp(),
                   refused_events = case when c.parameter is distinct from excluded.parameter then excluded.refused_events
                                         when c.refused_events @> excluded.refused_events then c.refused_events
                                         else c.refused_events || excluded.refused_events end
               where c.state = 'closed'
               returning cardinality(refused_events) as "events!""#,
            key.dependency,
            key.playbook,
            key.version,
            key.model,
            worker.0,
            stored_detail(parameter),
            event.0,
        );
        Ok(events.fetch_optional(&self.connections).await?)
    }

    /// Forgets which events a model refused: it has answered.
    pub async fn forget_refused_parameter(&self, model: &PlaybookModel) -> Result<(), LedgerError> {
        let key = Key::from(model);
        sqlx::query!(
            "update circuit_breaker set parameter = null, refused_events = '{}'
             where (dependency, playbook, playbook_version, model) = ($1, $2, $3, $4) and state = 'closed'",
            key.dependency,
            key.playbook,
            key.version,
            key.model,
        )
        .execute(&self.connections)
        .await?;
        Ok(())
    }

    /// Closes the circuit breakers of models and credentials that no worker has looked after for so long: the playbook was edited, or
    /// asks another model; the credential is no longer in use. While a credential is rejected, no worker looks after the models that
    /// are asked with it, and their circuits stay.
    pub async fn close_abandoned_circuit_breakers(&self, after: Duration) -> Result<u64, LedgerError> {
        let closed = sqlx::query!(
            "update circuit_breaker c set state = 'closed', due_at = null, changed_at = clock_timestamp()
             where (playbook <> '' or credential <> '') and state <> 'closed'
               and due_at < clock_timestamp() - $1 * interval '1 millisecond'
               and (playbook = ''
                    or not exists (select from circuit_breaker of_key
                                   where of_key.dependency = c.dependency and of_key.credential <> ''
                                     and of_key.state <> 'closed'))",
            milliseconds(after),
        )
        .execute(&self.connections)
        .await?;
        Ok(closed.rows_affected())
    }
}
