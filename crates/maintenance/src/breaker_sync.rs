//! The circuit breakers in the ledger: what was noticed here is written, what others noticed is read, and one worker of the
//! fleet probes.

use std::{sync::atomic::Ordering, time::Duration};

use domain::{CircuitBreakerState, Dependency};
use ledger::{CircuitBreaker, Ledger, LedgerError, ProbeDelays, Worker};
use tokio::time::Instant;

use crate::{
    circuit_breakers::{Breaker, CircuitBreakers},
    model_circuits::ModelCircuits,
    probe::Probe,
};

/// A probe that takes longer has failed.
pub(crate) const PROBE_TIMEOUT: Duration = Duration::from_secs(20);

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
        }
        let asked_at = Instant::now();
        let rows = self.ledger.circuit_breakers().await?;
        for breaker in self.circuit_breakers.breakers.iter() {
            let row = rows.iter().find(|row| row.circuit == breaker.dependency.into());
            breaker.adopt(row);
            if let Some(row) = row {
                self.advance(breaker, row).await?;
            }
        }
        self.circuit_breakers.update_mode();
        match &self.models {
            Some(models) => models.follow(&rows, asked_at).await,
            None => Ok(()),
        }
    }

    /// Opens the circuit in the ledger, if an outage was noticed here.
    async fn report(&self, breaker: &Breaker) -> Result<(), LedgerError> {
        let Some(outage) = breaker.known().unreported.clone() else { return Ok(()) };
        let dependency = breaker.dependency;
        let is_new = self
            .ledger
            .open_circuit_breaker(&dependency.into(), outage.reason, &outage.detail, &self.worker, self.delays())
            .await?;
        if is_new {
            tracing::error!(
                %dependency,
                reason = %outage.reason,
                detail = outage.detail,
                "an outage; the fleet pauses until a probe succeeds"
            );
            let reason = outage.reason.as_str();
            metrics::counter!("leadline_outages_total", "dependency" => dependency.as_str(), "reason" => reason)
                .increment(1);
        }
        breaker.known().unreported = None;
        Ok(())
    }

    /// An open circuit: probe, when a probe is due and no other worker makes it. A half-open circuit: close it, when a call
    /// has succeeded here or no call has failed for the configured time.
    async fn advance(&self, breaker: &Breaker, row: &CircuitBreaker) -> Result<(), LedgerError> {
        let (dependency, circuit) = (breaker.dependency, &row.circuit);
        let has_changed = match row.state {
            CircuitBreakerState::Open if row.is_due => {
                let is_ours = self.ledger.take_probe(circuit, &self.worker, self.delays()).await?;
                if !(is_ours && self.probe(dependency).await) {
                    return Ok(());
                }
                let half_open = Duration::from_secs(self.circuit_breakers.settings.half_open_seconds);
                self.ledger.half_open_circuit_breaker(circuit, &self.worker, half_open).await?
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

    async fn probe(&self, dependency: Dependency) -> bool {
        let Some((_, probe)) = self.probes.iter().find(|(known, _)| *known == dependency) else { return true };
        let is_available = tokio::time::timeout(PROBE_TIMEOUT, probe()).await.unwrap_or(false);
        tracing::info!(%dependency, is_available, "probed");
        is_available
    }

    fn delays(&self) -> ProbeDelays {
        let settings = &self.circuit_breakers.settings;
        ProbeDelays {
            first: Duration::from_secs(settings.probe_first_seconds),
            max: Duration::from_secs(settings.probe_max_seconds),
        }
    }
}
