//! The circuits and the ledger: what was noticed here is told, what others noticed is taken over, and one worker probes.

use std::{sync::atomic::Ordering, time::Duration};

use domain::Dependency;
use ledger::{CircuitBreaker, CircuitBreakerState, Ledger, LedgerError, ProbeDelays, Worker};

use super::{Breaker, CircuitBreakers, Probe};

/// A probe may take this long.
const PROBE_TIMEOUT: Duration = Duration::from_secs(20);

/// Keeps the circuits of a service in step with the ledger.
pub(super) struct BreakerSync {
    pub(super) circuits: CircuitBreakers,
    pub(super) ledger: Ledger,
    pub(super) worker: Worker,
    pub(super) probes: Vec<(Dependency, Probe)>,
}

impl BreakerSync {
    /// Tells, takes over, probes.
    pub(super) async fn step(&self) -> Result<(), LedgerError> {
        // At once, whether or not the ledger is there.
        self.circuits.publish();
        for breaker in self.circuits.breakers.iter() {
            self.report(breaker).await?;
        }
        let circuits = self.ledger.circuit_breakers().await?;
        for breaker in self.circuits.breakers.iter() {
            let circuit = circuits.iter().find(|circuit| circuit.dependency == breaker.dependency);
            breaker.adopt(circuit);
            if let Some(circuit) = circuit {
                self.advance(breaker, circuit).await?;
            }
        }
        self.circuits.publish();
        Ok(())
    }

    /// Tells the ledger of an outage that was noticed here.
    async fn report(&self, breaker: &Breaker) -> Result<(), LedgerError> {
        let Some(trip) = breaker.known().trip.clone() else { return Ok(()) };
        let opened = self
            .ledger
            .open_circuit_breaker(breaker.dependency, trip.reason, &trip.detail, &self.worker, self.delays())
            .await?;
        if opened {
            tracing::error!(
                dependency = %breaker.dependency,
                reason = %trip.reason,
                detail = trip.detail,
                "an outage; the fleet pauses until a probe succeeds"
            );
            metrics::counter!("leadline_outages_total", "dependency" => breaker.dependency.as_str(), "reason" => trip.reason.as_str())
                .increment(1);
        }
        breaker.known().trip = None;
        Ok(())
    }

    /// Open: probe, when it is due and nobody else does. Half open: close, when a call has worked or nothing failed for
    /// a while.
    async fn advance(&self, breaker: &Breaker, circuit: &CircuitBreaker) -> Result<(), LedgerError> {
        let dependency = breaker.dependency;
        let changed = match circuit.state {
            CircuitBreakerState::Open if circuit.is_due => {
                let is_ours = self.ledger.take_probe(dependency, &self.worker, self.delays()).await?;
                if !(is_ours && self.probe(dependency).await) {
                    return Ok(());
                }
                let calm = Duration::from_secs(self.circuits.settings.half_open_seconds);
                self.ledger.half_open_circuit_breaker(dependency, &self.worker, calm).await?
            }
            CircuitBreakerState::HalfOpen if circuit.is_due || breaker.worked.load(Ordering::Relaxed) => {
                self.ledger.close_circuit_breaker(dependency, &self.worker).await?
            }
            _ => false,
        };
        if changed {
            self.circuits.wake.notify_one();
        }
        Ok(())
    }

    async fn probe(&self, dependency: Dependency) -> bool {
        let Some((_, probe)) = self.probes.iter().find(|(known, _)| *known == dependency) else { return true };
        let is_back = tokio::time::timeout(PROBE_TIMEOUT, probe()).await.unwrap_or(false);
        tracing::info!(%dependency, is_back, "probed");
        is_back
    }

    fn delays(&self) -> ProbeDelays {
        let settings = &self.circuits.settings;
        ProbeDelays {
            first: Duration::from_secs(settings.probe_first_seconds),
            cap: Duration::from_secs(settings.probe_max_seconds),
        }
    }
}
