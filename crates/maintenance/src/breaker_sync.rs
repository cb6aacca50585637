//! The circuit breakers in the ledger: what was noticed here is written, what others noticed is read, and one worker of the
//! fleet probes.

use std::{sync::atomic::Ordering, time::Duration};

use domain::{Circuit, CircuitBreakerState, Dependency};
use ledger::{CircuitBreaker, CredentialRejection, Ledger, LedgerError, Worker};
use tokio::time::Instant;

use crate::{
    breaker::{Breaker, delays},
    circuit_breakers::CircuitBreakers,
    model_circuits::ModelCircuits,
    own_credential::Rejection,
    probe::{Probe, ProbeOutcome},
};

/// A probe that takes longer has failed.
pub(crate) const PROBE_TIMEOUT: Duration = Duration::from_secs(20);

/// No worker has a credential, or a playbook's version, any more when none has probed its circuit for so long after it was due.
const ABANDONED_AFTER: Duration = Duration::from_secs(600);

/// A step makes a handful of statements and at most one probe of each dependency, and all of them have bounds of their own.
const LONGEST_STEP: Duration = Duration::from_secs(300);

impl CircuitBreakers {
    /// Starts a task that keeps the circuit breakers, and those of `models`, in step with the ledger for as long as the process
    /// runs.
    pub fn start_sync(
        &self,
        ledger: Ledger,
        worker: Worker,
        probes: Vec<(Dependency, Probe)>,
        models: Option<ModelCircuits>,
    ) {
        let sync = BreakerSync { circuit_breakers: self.clone(), ledger, worker, probes, models };
        tokio::spawn(async move {
            loop {
                if let Err(error) = watchdog::watch("circuit breakers", LONGEST_STEP, sync.step()).await {
                    tracing::debug!(%error, "the circuit breakers could not be read; they keep their state");
                }
                let poll = Duration::from_millis(sync.circuit_breakers.settings.poll_ms);
                let _ = tokio::time::timeout(poll, sync.circuit_breakers.wake.notified()).await;
            }
        });
    }
}

/// Keeps the circuit breakers of a service in step with the ledger.
struct BreakerSync {
    circuit_breakers: CircuitBreakers,
    ledger: Ledger,
    worker: Worker,
    probes: Vec<(Dependency, Probe)>,
    models: Option<ModelCircuits>,
}

impl BreakerSync {
    /// Reports, reads and probes once.
    async fn step(&self) -> Result<(), LedgerError> {
        // First of all, because the ledger may be unreachable.
        self.circuit_breakers.update_mode();
        for breaker in self.circuit_breakers.breakers.iter() {
            self.report(breaker).await?;
            self.report_rejection(breaker).await?;
        }
        let asked_at = Instant::now();
        let rows = self.ledger.circuit_breakers().await?;
        let row_of = |circuit: &Circuit| rows.iter().find(|row| row.circuit == *circuit);
        for breaker in self.circuit_breakers.breakers.iter() {
            let dependency = row_of(&breaker.dependency().into());
            let credential = row_of(&breaker.credential().circuit());
            breaker.adopt(dependency, credential);
            if let Some(row) = dependency {
                self.advance(breaker, row).await?;
            }
            if let Some(row) = credential {
                self.advance(breaker, row).await?;
                self.check_for_others(breaker, row).await?;
            }
            self.look_after_own(breaker).await?;
            self.go_on_beside(breaker, &rows).await?;
        }
        self.circuit_breakers.update_mode();
        let is_overdue = |row: &CircuitBreaker| row.state != CircuitBreakerState::Closed && row.is_due;
        if rows.iter().any(|row| is_overdue(row) && !matches!(row.circuit, Circuit::Dependency(_))) {
            self.ledger.close_abandoned_circuit_breakers(ABANDONED_AFTER).await?;
        }
        match &self.models {
            Some(models) => {
                models.follow(&rows, asked_at, !self.circuit_breakers.is_rejected(Dependency::OpenAi)).await
            }
            None => Ok(()),
        }
    }

    /// Opens the circuit of the dependency in the ledger, if an outage was noticed here.
    async fn report(&self, breaker: &Breaker) -> Result<(), LedgerError> {
        let Some(outage) = breaker.known().unreported.clone() else { return Ok(()) };
        self.open(breaker, &breaker.dependency().into(), &outage).await?;
        breaker.known().unreported = None;
        Ok(())
    }

    /// Tells the ledger that the credential is rejected here. When that is confirmed, its circuit opens for all that have it.
    async fn report_rejection(&self, breaker: &Breaker) -> Result<(), LedgerError> {
        let Some((rejection, is_repeated)) = breaker.known().own.unreported() else { return Ok(()) };
        let circuit = breaker.credential().circuit();
        let detail = format!("{} ({})", rejection.detail, breaker.credential());
        let noted = CredentialRejection {
            reason: rejection.reason,
            detail: &detail,
            is_repeated,
            counts_for: self.counts_for(),
        };
        if self.ledger.note_rejected_credential(&circuit, noted, &self.worker).await? {
            self.open(breaker, &circuit, &Rejection { detail, ..rejection.clone() }).await?;
        }
        breaker.known().own.mark_reported(&rejection);
        Ok(())
    }

    async fn open(&self, breaker: &Breaker, circuit: &Circuit, outage: &Rejection) -> Result<(), LedgerError> {
        let delays = delays(&self.circuit_breakers.settings);
        let is_new =
            self.ledger.open_circuit_breaker(circuit, outage.reason, &outage.detail, &self.worker, delays).await?;
        if is_new {
            tracing::error!(
                %circuit,
                reason = %outage.reason,
                detail = outage.detail,
                "an outage; the fleet, or all that have the credential, pauses until a probe succeeds"
            );
            let reason = outage.reason.as_str();
            metrics::counter!("leadline_outages_total", "dependency" => breaker.dependency().as_str(), "reason" => reason)
                .increment(1);
        }
        Ok(())
    }

    /// An open circuit: probe, when a probe is due and no other worker makes it. A half-open circuit: close it, when a call
    /// has succeeded here or no call has failed for the configured time.
    async fn advance(&self, breaker: &Breaker, row: &CircuitBreaker) -> Result<(), LedgerError> {
        let circuit = &row.circuit;
        // Whose credential is rejected finds out nothing about the dependency.
        let may_probe = !matches!(circuit, Circuit::Dependency(_)) || !breaker.known().is_rejected();
        let has_changed = match row.state {
            CircuitBreakerState::Open if row.is_due && may_probe => {
                let delays = delays(&self.circuit_breakers.settings);
                if !self.ledger.take_probe(circuit, &self.worker, delays).await? {
                    return Ok(());
                }
                let with = breaker.version();
                match self.probe(breaker).await {
                    ProbeOutcome::Available => {
                        self.ledger.half_open_circuit_breaker(circuit, &self.worker, self.half_open()).await?
                    }
                    // From now on it leaves the probes to those whose credential works.
                    ProbeOutcome::Rejected { reason, detail } if matches!(circuit, Circuit::Dependency(_)) => {
                        breaker.probe_rejected(with, Rejection { reason, detail });
                        true
                    }
                    ProbeOutcome::Rejected { .. } | ProbeOutcome::Away => false,
                }
            }
            CircuitBreakerState::HalfOpen if row.is_due || breaker.has_succeeded.load(Ordering::Relaxed) => {
                self.ledger.close_circuit_breaker(circuit, &self.worker).await?
            }
            _ => false,
        };
        if has_changed {
            self.circuit_breakers.wake.notify_one();
        }
        Ok(())
    }

    /// The credential is rejected for another worker, and not here: whether it works here decides for whom it is paused.
    async fn check_for_others(&self, breaker: &Breaker, row: &CircuitBreaker) -> Result<(), LedgerError> {
        let is_doubted = row.state == CircuitBreakerState::Closed && !row.rejected_by.is_empty();
        if !is_doubted || breaker.known().is_rejected() {
            return Ok(());
        }
        let taken = self.ledger.take_credential_check(&row.circuit, &self.worker, self.counts_for(), PROBE_TIMEOUT);
        if !taken.await? {
            return Ok(());
        }
        let with = breaker.version();
        match self.probe(breaker).await {
            ProbeOutcome::Available => self.ledger.note_accepted_credential(&row.circuit, &self.worker).await,
            ProbeOutcome::Rejected { reason, detail } => {
                breaker.reject(with, Rejection { reason, detail });
                Ok(())
            }
            ProbeOutcome::Away => Ok(()),
        }
    }

    /// While another credential of the dependency is rejected and calls of this process are accepted, the fleet does not pause.
    async fn go_on_beside(&self, breaker: &Breaker, rows: &[CircuitBreaker]) -> Result<(), LedgerError> {
        let Some(last_success) = breaker.known().last_success else { return Ok(()) };
        let own = breaker.credential().circuit();
        let is_of_others = |row: &&CircuitBreaker| {
            let is_ours = row.circuit == own;
            let dependency = breaker.dependency();
            !is_ours && matches!(row.circuit, Circuit::Credential(of, _) if of == dependency)
        };
        for row in rows.iter().filter(is_of_others) {
            if row.state == CircuitBreakerState::Open && breaker.state() == CircuitBreakerState::Closed {
                self.ledger.note_other_credential(&row.circuit, &self.worker, last_success.elapsed()).await?;
            }
        }
        Ok(())
    }

    /// Probes a credential that was rejected here, when that is due.
    async fn look_after_own(&self, breaker: &Breaker) -> Result<(), LedgerError> {
        if !breaker.is_own_probe_due() {
            return Ok(());
        }
        let with = breaker.version();
        match self.probe(breaker).await {
            ProbeOutcome::Available => {
                self.ledger.note_accepted_credential(&breaker.credential().circuit(), &self.worker).await?;
                breaker.try_again(self.half_open());
            }
            ProbeOutcome::Rejected { reason, detail } => {
                breaker.probe_rejected(with, Rejection { reason, detail });
                self.report_rejection(breaker).await?;
            }
            ProbeOutcome::Away => breaker.postpone_own_probe(),
        }
        Ok(())
    }

    async fn probe(&self, breaker: &Breaker) -> ProbeOutcome {
        let (dependency, with) = (breaker.dependency(), breaker.version());
        let Some((_, probe)) = self.probes.iter().find(|(known, _)| *known == dependency) else {
            return ProbeOutcome::Available;
        };
        let outcome = tokio::time::timeout(PROBE_TIMEOUT, probe()).await.unwrap_or(ProbeOutcome::Away);
        tracing::info!(%dependency, is_available = outcome == ProbeOutcome::Available, "probed");
        // Of the credential that is in use now, nothing was found out.
        if breaker.version() == with { outcome } else { ProbeOutcome::Away }
    }

    fn half_open(&self) -> Duration {
        Duration::from_secs(self.circuit_breakers.settings.half_open_seconds)
    }

    /// What workers have said of a credential counts until each of them has had several probes since.
    fn counts_for(&self) -> Duration {
        4 * Duration::from_secs(self.circuit_breakers.settings.probe_max_seconds)
    }
}
