//! Circuit breakers for HubSpot and OpenAI: a failing call concerns that call alone, but a rejected key or many failures in a row
//! are an outage and concern the whole fleet.
//!
//! The service's API clients report every attempt of every call to an observer. What a service notices goes into the ledger,
//! and every service of the fleet reads it from there: while a circuit is open, nothing is consumed, and what fails because of
//! the outage is deferred without using up its attempts.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicBool, AtomicU32, Ordering},
};

use broker::{ConsumeMode, RetryDecision, RetrySchedule};
use domain::{CircuitBreakerState, Dependency, Reason};
use ledger::CircuitBreaker;
use retry::{CallObserver, Failure, RetryAction, SharedObserver};
use service::Readiness;
use tokio::sync::{Notify, watch};

/// The circuit breakers of a service's dependencies. Cheap to clone; clones share everything.
#[derive(Debug, Clone)]
pub struct CircuitBreakers {
    pub(crate) breakers: Arc<Vec<Arc<Breaker>>>,
    pub(crate) settings: settings::CircuitBreakerSection,
    mode: Arc<watch::Sender<ConsumeMode>>,
    /// Wakes the task that syncs with the ledger.
    pub(crate) wake: Arc<Notify>,
}

/// The circuit breaker of one dependency, as this service knows it.
#[derive(Debug)]
pub(crate) struct Breaker {
    pub(crate) dependency: Dependency,
    /// How many failures in a row make an outage.
    failure_threshold: u32,
    failures_in_a_row: AtomicU32,
    /// Whether a call has succeeded since the state last changed.
    pub(crate) has_succeeded: AtomicBool,
    known: Mutex<KnownState>,
    wake: Arc<Notify>,
}

#[derive(Debug, Default)]
pub(crate) struct KnownState {
    state: CircuitBreakerState,
    /// An outage that was noticed here and is not in the ledger yet.
    pub(crate) unreported: Option<NoticedOutage>,
    /// Why the circuit is not closed, for people.
    why: String,
}

#[derive(Debug, Clone)]
pub(crate) struct NoticedOutage {
    pub(crate) reason: Reason,
    pub(crate) detail: String,
}

impl CallObserver for Breaker {
    fn record(&self, failure: Option<&dyn Failure>) {
        match failure.map(|failure| (failure, failure.outage())) {
            Some((failure, Some(outage))) => {
                let in_a_row = self.failures_in_a_row.fetch_add(1, Ordering::Relaxed) + 1;
                let is_half_open = self.state() == CircuitBreakerState::HalfOpen;
                if outage.is_certain || in_a_row >= self.failure_threshold || is_half_open {
                    self.open(failure);
                }
            }
            // A rate limit says nothing about the dependency's health.
            Some((failure, None)) if matches!(failure.retry_action(), RetryAction::RateLimited { .. }) => {}
            // The call succeeded, or the dependency answered and rejected it: it is available.
            _ => {
                self.failures_in_a_row.store(0, Ordering::Relaxed);
                let is_first = !self.has_succeeded.swap(true, Ordering::Relaxed);
                if is_first && self.state() == CircuitBreakerState::HalfOpen {
                    self.wake.notify_one();
                }
            }
        }
    }
}

impl Breaker {
    fn new(dependency: Dependency, failure_threshold: u32, wake: Arc<Notify>) -> Self {
        Self {
            dependency,
            failure_threshold,
            failures_in_a_row: AtomicU32::new(0),
            has_succeeded: AtomicBool::new(false),
            known: Mutex::default(),
            wake,
        }
    }

    pub(crate) fn known(&self) -> std::sync::MutexGuard<'_, KnownState> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn state(&self) -> CircuitBreakerState {
        self.known().state
    }

    /// Opens the circuit here at once; the ledger follows.
    fn open(&self, failure: &dyn Failure) {
        let mut known = self.known();
        if known.state == CircuitBreakerState::Open {
            return;
        }
        known.state = CircuitBreakerState::Open;
        known.why = format!("{}: {failure}", failure.reason());
        known.unreported = Some(NoticedOutage { reason: failure.reason(), detail: failure.to_string() });
        drop(known);
        self.wake.notify_one();
    }

    /// Takes over the ledger's state, unless an outage was noticed here that the ledger does not have yet.
    pub(crate) fn adopt(&self, row: Option<&CircuitBreaker>) {
        let mut known = self.known();
        if known.unreported.is_some() {
            return;
        }
        let state = row.map_or(CircuitBreakerState::Closed, |row| row.state);
        if known.state != state {
            tracing::warn!(dependency = %self.dependency, state = state.as_str(), "the circuit breaker has a new state");
            self.failures_in_a_row.store(0, Ordering::Relaxed);
            self.has_succeeded.store(false, Ordering::Relaxed);
        }
        known.state = state;
        known.why = row.map_or_else(String::new, |row| {
            let reason = row.reason.map_or("", Reason::as_str);
            format!("{reason}: {}", row.detail.as_deref().unwrap_or_default())
        });
        metrics::gauge!("leadline_circuit_breaker_open", "dependency" => self.dependency.as_str())
            .set(if state == CircuitBreakerState::Closed { 0.0 } else { 1.0 });
    }
}

impl CircuitBreakers {
    /// The circuit breakers of `dependencies`, all closed.
    pub fn new(settings: &settings::CircuitBreakerSection, dependencies: &[Dependency]) -> Self {
        let wake = Arc::new(Notify::new());
        let breaker =
            |dependency: &Dependency| Arc::new(Breaker::new(*dependency, settings.failure_threshold, wake.clone()));
        Self {
            breakers: Arc::new(dependencies.iter().map(breaker).collect()),
            settings: settings.clone(),
            mode: Arc::new(watch::Sender::new(ConsumeMode::Normal)),
            wake,
        }
    }

    /// The observer for the client of a dependency; `None` if the dependency has no circuit breaker here.
    pub fn observer(&self, dependency: Dependency) -> Option<SharedObserver> {
        self.breaker(dependency).map(|breaker| breaker.clone() as SharedObserver)
    }

    fn breaker(&self, dependency: Dependency) -> Option<&Arc<Breaker>> {
        self.breakers.iter().find(|breaker| breaker.dependency == dependency)
    }

    /// What becomes of a message whose processing failed, after `attempts` failures before this one. A failure that belongs to
    /// an outage is deferred: the message comes back after the shortest delay, and the failure does not count.
    pub fn decide(&self, schedule: &RetrySchedule, failure: &dyn Failure, attempts: u32) -> RetryDecision {
        if self.is_outage(failure) {
            RetryDecision::Defer(schedule.shortest())
        } else {
            schedule.decide(failure.retry_action(), attempts)
        }
    }

    /// Whether a failure belongs to an outage, and not to the call alone.
    fn is_outage(&self, failure: &dyn Failure) -> bool {
        failure.outage().is_some_and(|outage| {
            let breaker = self.breaker(outage.dependency);
            outage.is_certain || breaker.is_some_and(|breaker| breaker.state() != CircuitBreakerState::Closed)
        })
    }

    /// The reason not to begin anything, while a circuit is open.
    pub fn open_reason(&self) -> Option<Reason> {
        let open = self.breakers.iter().find(|breaker| breaker.state() == CircuitBreakerState::Open)?;
        Some(match open.dependency {
            Dependency::OpenAi => Reason::OpenAiCircuitOpen,
            Dependency::HubSpot => Reason::HubSpotCircuitOpen,
        })
    }

    /// How many messages may be consumed, now and after every change.
    pub fn consume_mode(&self) -> watch::Receiver<ConsumeMode> {
        self.mode.subscribe()
    }

    /// Adds a check for each dependency: it fails while the circuit is not closed.
    #[must_use]
    pub fn add_readiness_checks(&self, readiness: Readiness) -> Readiness {
        self.breakers.iter().fold(readiness, |readiness, breaker| {
            let checked = breaker.clone();
            readiness.with(breaker.dependency.as_str(), move || {
                let known = checked.known();
                let result = match known.state {
                    CircuitBreakerState::Closed => Ok(()),
                    state => Err(format!("circuit {}, {}", state.as_str(), known.why).into()),
                };
                async move { result }
            })
        })
    }

    /// Sets the consume mode by the states of all circuit breakers.
    pub(crate) fn update_mode(&self) {
        let states: Vec<_> = self.breakers.iter().map(|breaker| breaker.state()).collect();
        let mode = match () {
            () if states.contains(&CircuitBreakerState::Open) => ConsumeMode::Paused,
            () if states.contains(&CircuitBreakerState::HalfOpen) => ConsumeMode::OneAtATime,
            () => ConsumeMode::Normal,
        };
        self.mode.send_if_modified(|known| std::mem::replace(known, mode) != mode);
    }
}

#[cfg(test)]
mod tests {
    use std::fmt;

    use domain::Dependency;
    use retry::{Failure, Outage, Reason, RetryAction};

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

    fn circuit_breakers() -> CircuitBreakers {
        CircuitBreakers::new(
            &settings::CircuitBreakerSection { failure_threshold: 3, ..settings::CircuitBreakerSection::default() },
            &[Dependency::HubSpot],
        )
    }

    #[test]
    fn many_failures_in_a_row_are_an_outage_and_a_success_between_them_is_not() {
        let circuit_breakers = circuit_breakers();
        let observer = circuit_breakers.observer(Dependency::HubSpot).expect("an observer");
        let unavailable = failed(Some(false), RetryAction::RetryNow { after: None });
        for _ in 0..2 {
            observer.record(Some(&unavailable));
            observer.record(Some(&unavailable));
            observer.record(None);
        }
        observer.record(Some(&unavailable));
        observer.record(Some(&unavailable));
        assert_eq!((circuit_breakers.open_reason(), circuit_breakers.is_outage(&unavailable)), (None, false));
        // A rate limit says nothing about the dependency's health.
        observer.record(Some(&failed(None, RetryAction::RateLimited { after: None })));
        observer.record(Some(&unavailable));
        assert_eq!(
            (circuit_breakers.open_reason(), circuit_breakers.is_outage(&unavailable)),
            (Some(Reason::HubSpotCircuitOpen), true)
        );
        assert!(
            !circuit_breakers.is_outage(&failed(None, RetryAction::Park)),
            "an error of the call itself does not belong to an outage"
        );
    }

    #[test]
    fn one_rejected_key_is_enough() {
        let circuit_breakers = circuit_breakers();
        let rejected = failed(Some(true), RetryAction::RetryLater { after: None });
        circuit_breakers.observer(Dependency::HubSpot).expect("an observer").record(Some(&rejected));
        assert!(circuit_breakers.open_reason().is_some() && circuit_breakers.is_outage(&rejected));
    }

    #[test]
    fn an_answer_that_rejects_the_call_ends_a_row_of_failures() {
        let circuit_breakers = circuit_breakers();
        let observer = circuit_breakers.observer(Dependency::HubSpot).expect("an observer");
        let unavailable = failed(Some(false), RetryAction::RetryNow { after: None });
        for _ in 0..5 {
            observer.record(Some(&unavailable));
            observer.record(Some(&unavailable));
            observer.record(Some(&failed(None, RetryAction::Park)));
        }
        assert_eq!(circuit_breakers.open_reason(), None);
    }
}
