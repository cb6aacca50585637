//! Outages: one failing call is that call's business, a dead key or twenty failures in a row are everybody's.
//!
//! A service's clients are hooks (each try of each call). What is noticed is put into the ledger, and every service of
//! the fleet takes it from there: while a circuit is open nothing is consumed, and what fails because of the outage waits
//! without using up its attempts.

mod sync;

use std::{
    future::Future,
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use broker::{ConsumeMode, RetryDecision, RetrySchedule};
use domain::Dependency;
use ledger::{CircuitBreaker, CircuitBreakerState, Ledger, Worker};
use retry::{CallObserver, Failure, Reason, RetryAction, SharedObserver};
use service::Readiness;
use sync::BreakerSync;
use tokio::sync::{Notify, watch};

/// Asks a dependency something cheap; says whether it is there again.
pub type Probe = Box<dyn Fn() -> Pin<Box<dyn Future<Output = bool> + Send>> + Send + Sync>;

/// A probe that makes a call: any answer but one that is a sign of an outage means that somebody is there.
pub fn probe<F, Fut, T, E>(call: F) -> Probe
where
    F: Fn() -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<T, E>> + Send + 'static,
    E: Failure,
{
    Box::new(move || {
        let call = call();
        Box::pin(async move { call.await.err().is_none_or(|error| error.outage().is_none()) })
    })
}

/// Reads HubSpot's description of the token: a call that counts against no limit.
pub fn hubspot_probe(hubspot: &hubspot::HubSpotClient) -> Probe {
    let hubspot = hubspot.clone();
    probe(move || {
        let hubspot = hubspot.clone();
        async move { hubspot.token_info().await }
    })
}

/// The circuits of a service's dependencies. Cheap to clone; clones share everything.
#[derive(Debug, Clone)]
pub struct CircuitBreakers {
    breakers: Arc<Vec<Arc<Breaker>>>,
    settings: settings::CircuitBreakerSection,
    flow: Arc<watch::Sender<ConsumeMode>>,
    wake: Arc<Notify>,
}

/// What is known of one dependency.
#[derive(Debug)]
struct Breaker {
    dependency: Dependency,
    /// Failures in a row that make an outage.
    limit: u32,
    failures: AtomicU32,
    worked: AtomicBool,
    known: Mutex<Known>,
    wake: Arc<Notify>,
}

#[derive(Debug, Default)]
struct Known {
    state: CircuitBreakerState,
    /// What the ledger is still to be told.
    trip: Option<Trip>,
    /// Why it is not closed, for people.
    why: String,
}

#[derive(Debug, Clone)]
struct Trip {
    reason: Reason,
    detail: String,
}

impl CallObserver for Breaker {
    fn record(&self, failure: Option<&dyn Failure>) {
        match failure.map(|failure| (failure, failure.outage())) {
            Some((failure, Some(outage))) => {
                let in_a_row = self.failures.fetch_add(1, Ordering::Relaxed) + 1;
                if outage.is_certain || in_a_row >= self.limit || self.state() == CircuitBreakerState::HalfOpen {
                    self.trip(failure);
                }
            }
            // Not our turn: that says nothing about the other side's health.
            Some((failure, None)) if matches!(failure.retry_action(), RetryAction::RateLimited { .. }) => {}
            // It worked, or answered that it does not like what was asked.
            _ => {
                self.failures.store(0, Ordering::Relaxed);
                if !self.worked.swap(true, Ordering::Relaxed) && self.state() == CircuitBreakerState::HalfOpen {
                    self.wake.notify_one();
                }
            }
        }
    }
}

impl Breaker {
    fn known(&self) -> std::sync::MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn state(&self) -> CircuitBreakerState {
        self.known().state
    }

    fn trip(&self, failure: &dyn Failure) {
        let mut known = self.known();
        if known.state == CircuitBreakerState::Open {
            return;
        }
        known.state = CircuitBreakerState::Open;
        known.why = format!("{}: {failure}", failure.reason());
        known.trip = Some(Trip { reason: failure.reason(), detail: failure.to_string() });
        drop(known);
        self.wake.notify_one();
    }

    /// Takes over what the ledger says, unless there is something newer that it does not know yet.
    fn adopt(&self, circuit: Option<&CircuitBreaker>) {
        let mut known = self.known();
        if known.trip.is_some() {
            return;
        }
        let state = circuit.map_or(CircuitBreakerState::Closed, |circuit| circuit.state);
        if known.state != state {
            tracing::warn!(dependency = %self.dependency, state = state.as_str(), "circuit");
            self.failures.store(0, Ordering::Relaxed);
            self.worked.store(false, Ordering::Relaxed);
        }
        known.state = state;
        known.why = circuit.map_or_else(String::new, |circuit| {
            let reason = circuit.reason.as_deref().unwrap_or_default();
            format!("{reason}: {}", circuit.detail.as_deref().unwrap_or_default())
        });
        metrics::gauge!("leadline_circuit_breaker_open", "dependency" => self.dependency.as_str())
            .set(if state == CircuitBreakerState::Closed { 0.0 } else { 1.0 });
    }
}

impl CircuitBreakers {
    /// The circuits of `dependencies` (`hubspot`, `openai`), all closed.
    pub fn new(settings: &settings::CircuitBreakerSection, dependencies: &[Dependency]) -> Self {
        let wake = Arc::new(Notify::new());
        let breaker = |dependency: &Dependency| {
            Arc::new(Breaker {
                dependency: *dependency,
                limit: settings.failure_threshold,
                failures: AtomicU32::new(0),
                worked: AtomicBool::new(false),
                known: Mutex::default(),
                wake: wake.clone(),
            })
        };
        Self {
            breakers: Arc::new(dependencies.iter().map(breaker).collect()),
            settings: settings.clone(),
            flow: Arc::new(watch::Sender::new(ConsumeMode::Normal)),
            wake,
        }
    }

    /// Who watches the calls to a dependency.
    pub fn observer(&self, dependency: Dependency) -> Option<SharedObserver> {
        self.breaker(dependency).map(|breaker| breaker.clone() as Arc<dyn CallObserver>)
    }

    fn breaker(&self, dependency: Dependency) -> Option<&Arc<Breaker>> {
        self.breakers.iter().find(|breaker| breaker.dependency == dependency)
    }

    /// Whether a failure is the outage's fault, and not that of what was tried: it uses up no attempts.
    fn is_outage(&self, failure: &dyn Failure) -> bool {
        failure.outage().is_some_and(|outage| {
            outage.is_certain
                || self.breaker(outage.dependency).is_some_and(|breaker| breaker.state() != CircuitBreakerState::Closed)
        })
    }

    /// What becomes of a message whose processing failed for the `attempts + 1`st time. A failure that belongs to an outage is
    /// deferred: it comes back after the shortest delay and does not count as an attempt.
    pub fn decide(&self, schedule: &RetrySchedule, failure: &dyn Failure, attempts: u32) -> RetryDecision {
        if self.is_outage(failure) {
            RetryDecision::Defer(schedule.shortest())
        } else {
            schedule.decide(failure.retry_action(), attempts)
        }
    }

    /// Why nothing is to be begun, if so.
    pub fn open_reason(&self) -> Option<Reason> {
        let open = self.breakers.iter().find(|breaker| breaker.state() == CircuitBreakerState::Open)?;
        Some(match open.dependency {
            Dependency::OpenAi => Reason::OpenAiCircuitOpen,
            Dependency::HubSpot => Reason::HubSpotCircuitOpen,
        })
    }

    /// How much may be consumed.
    pub fn consume_mode(&self) -> watch::Receiver<ConsumeMode> {
        self.flow.subscribe()
    }

    /// Not ready while a circuit is not closed.
    #[must_use]
    pub fn add_readiness_checks(&self, readiness: Readiness) -> Readiness {
        self.breakers.iter().fold(readiness, |readiness, breaker| {
            let hooks = breaker.clone();
            readiness.with(breaker.dependency.as_str(), move || {
                let known = hooks.known();
                let result = match known.state {
                    CircuitBreakerState::Closed => Ok(()),
                    state => Err(format!("circuit {}, {}", state.as_str(), known.why).into()),
                };
                async move { result }
            })
        })
    }

    /// Keeps the circuits in step with the ledger, for as long as the service runs.
    pub fn start_sync(&self, ledger: Ledger, worker: Worker, probes: Vec<(Dependency, Probe)>) {
        let breaker_sync = BreakerSync { circuits: self.clone(), ledger, worker, probes };
        tokio::spawn(async move {
            loop {
                if let Err(error) = breaker_sync.step().await {
                    tracing::debug!(%error, "the circuits stay as they are");
                }
                let poll = Duration::from_millis(breaker_sync.circuits.settings.poll_ms);
                let _ = tokio::time::timeout(poll, breaker_sync.circuits.wake.notified()).await;
            }
        });
    }

    fn publish(&self) {
        let states: Vec<_> = self.breakers.iter().map(|breaker| breaker.state()).collect();
        let flow = match () {
            () if states.contains(&CircuitBreakerState::Open) => ConsumeMode::Paused,
            () if states.contains(&CircuitBreakerState::HalfOpen) => ConsumeMode::OneAtATime,
            () => ConsumeMode::Normal,
        };
        self.flow.send_if_modified(|known| std::mem::replace(known, flow) != flow);
    }
}

#[cfg(test)]
mod tests {
    use std::fmt;

    use retry::{Dependency, Failure, Outage, Reason, RetryAction};

    use super::CircuitBreakers;

    #[derive(Debug)]
    struct Failed {
        outage: Option<bool>,
        retry_action: RetryAction,
    }

    impl fmt::Display for Failed {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("failed")
        }
    }

    impl std::error::Error for Failed {}

    impl Failure for Failed {
        fn retry_action(&self) -> RetryAction {
            self.retry_action
        }
        fn reason(&self) -> Reason {
            Reason::NotApplied
        }
        fn outage(&self) -> Option<Outage> {
            self.outage.map(|is_certain| Outage { dependency: Dependency::HubSpot, is_certain })
        }
    }

    fn failed(outage: Option<bool>, retry_action: RetryAction) -> Failed {
        Failed { outage, retry_action }
    }

    fn circuits() -> CircuitBreakers {
        CircuitBreakers::new(
            &settings::CircuitBreakerSection { failure_threshold: 3, ..settings::CircuitBreakerSection::default() },
            &[Dependency::HubSpot],
        )
    }

    #[test]
    fn many_failures_in_a_row_are_an_outage_and_a_success_between_them_is_not() {
        let circuits = circuits();
        let observer = circuits.observer(Dependency::HubSpot).expect("hooks");
        let suspicious = failed(Some(false), RetryAction::RetryNow { after: None });
        for _ in 0..2 {
            observer.record(Some(&suspicious));
            observer.record(Some(&suspicious));
            observer.record(None);
        }
        observer.record(Some(&suspicious));
        observer.record(Some(&suspicious));
        assert_eq!((circuits.open_reason(), circuits.is_outage(&suspicious)), (None, false));
        // A limit says nothing either way; a refusal says that somebody is there.
        observer.record(Some(&failed(None, RetryAction::RateLimited { after: None })));
        observer.record(Some(&suspicious));
        assert_eq!((circuits.open_reason(), circuits.is_outage(&suspicious)), (Some(Reason::HubSpotCircuitOpen), true));
        assert!(!circuits.is_outage(&failed(None, RetryAction::Park)), "what is wrong by itself is no outage's fault");
    }

    #[test]
    fn one_dead_key_is_enough() {
        let circuits = circuits();
        let dead = failed(Some(true), RetryAction::RetryLater { after: None });
        circuits.observer(Dependency::HubSpot).expect("hooks").record(Some(&dead));
        assert!(circuits.open_reason().is_some() && circuits.is_outage(&dead));
    }

    #[test]
    fn an_answer_that_refuses_ends_a_row_of_failures() {
        let circuits = circuits();
        let observer = circuits.observer(Dependency::HubSpot).expect("hooks");
        let suspicious = failed(Some(false), RetryAction::RetryNow { after: None });
        for _ in 0..5 {
            observer.record(Some(&suspicious));
            observer.record(Some(&suspicious));
            observer.record(Some(&failed(None, RetryAction::Park)));
        }
        assert_eq!(circuits.open_reason(), None);
    }
}
