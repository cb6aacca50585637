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

use broker::{ConsumeMode, RetryDecision, RetrySchedule, Tries};
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
    /// Whether a call has succeeded since the circuit was last opened.
    has_recovered: AtomicBool,
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
    /// Whether it was opened although calls had succeeded since the time before: then the process that
    /// failed both times may be the cause.
    opened_after_success: bool,
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
                self.has_recovered.store(true, Ordering::Relaxed);
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
            has_recovered: AtomicBool::new(false),
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
        known.opened_after_success = self.has_recovered.swap(false, Ordering::Relaxed);
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
            if state == CircuitBreakerState::Open {
                known.opened_after_success = self.has_recovered.swap(false, Ordering::Relaxed);
            }
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

    /// What becomes of a message with these `tries` whose processing failed. A failure that belongs to an outage is deferred:
    /// the message comes back after the shortest delay, and the failure does not count.
    pub fn decide(&self, schedule: &RetrySchedule, failure: &dyn Failure, tries: &Tries) -> RetryDecision {
        if self.is_outage(failure, tries) {
            schedule.defer(tries)
        } else {
            schedule.decide(failure.retry_action(), tries)
        }
    }

    /// Whether a failure belongs to an outage, and not to the message alone: one that seemed to be due to an outage the last
    /// time, too, although calls of others have succeeded since, is the message's own.
    fn is_outage(&self, failure: &dyn Failure, tries: &Tries) -> bool {
        failure.outage().is_some_and(|outage| {
            let Some(breaker) = self.breaker(outage.dependency) else { return outage.is_certain };
            let known = breaker.known();
            let failed_before = tries.last_reason.and_then(Reason::may_be_outage_of) == Some(outage.dependency);
            let is_its_own = failed_before && known.opened_after_success;
            !is_its_own && (outage.is_certain || known.state != CircuitBreakerState::Closed)
        })
    }

    /// Why a message with these `tries` is not to be begun at the moment, if so: a circuit is open, or it is half open and the
    /// message has failed before. Whether an outage is over is found out with messages that have not failed: one that fails
    /// whatever happens would open the circuit again and again.
    pub fn wait_reason(&self, tries: &Tries) -> Option<Reason> {
        let failed_of = tries.last_reason.and_then(Reason::may_be_outage_of);
        let must_wait = |breaker: &&Arc<Breaker>| match breaker.state() {
            CircuitBreakerState::Open => true,
            CircuitBreakerState::HalfOpen => tries.failures > 0 || failed_of == Some(breaker.dependency),
            CircuitBreakerState::Closed => false,
        };
        let waits_for = self.breakers.iter().find(must_wait)?;
        Some(match (waits_for.dependency, tries.last_reason) {
            // It keeps the reason for which it failed.
            (_, Some(reason)) if failed_of.is_some() => reason,
            (Dependency::OpenAi, _) => Reason::OpenAiCircuitOpen,
            (Dependency::HubSpot, _) => Reason::HubSpotCircuitOpen,
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
    use std::{fmt, time::Duration};

    use broker::{RetryDecision, RetrySchedule, Tries};
    use domain::{CircuitBreakerState, Dependency};
    use ledger::CircuitBreaker;
    use retry::{Failure, Outage, Reason, RetryAction};

    use super::CircuitBreakers;

    const FRESH: Tries = Tries { failures: 0, age: Duration::ZERO, last_reason: None };

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
        assert_eq!(
            (circuit_breakers.wait_reason(&FRESH), circuit_breakers.is_outage(&unavailable, &FRESH)),
            (None, false)
        );
        // A rate limit says nothing about the dependency's health.
        observer.record(Some(&failed(None, RetryAction::RateLimited { after: None })));
        observer.record(Some(&unavailable));
        assert_eq!(
            (circuit_breakers.wait_reason(&FRESH), circuit_breakers.is_outage(&unavailable, &FRESH)),
            (Some(Reason::HubSpotCircuitOpen), true)
        );
        assert!(
            !circuit_breakers.is_outage(&failed(None, RetryAction::Park), &FRESH),
            "an error of the call itself does not belong to an outage"
        );
    }

    #[test]
    fn one_rejected_key_is_enough() {
        let circuit_breakers = circuit_breakers();
        let rejected = failed(Some(true), RetryAction::RetryLater { after: None });
        circuit_breakers.observer(Dependency::HubSpot).expect("an observer").record(Some(&rejected));
        assert!(circuit_breakers.wait_reason(&FRESH).is_some() && circuit_breakers.is_outage(&rejected, &FRESH));
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
        assert_eq!(circuit_breakers.wait_reason(&FRESH), None);
    }

    fn in_the_ledger(state: CircuitBreakerState) -> CircuitBreaker {
        CircuitBreaker {
            circuit: Dependency::HubSpot.into(),
            state,
            reason: Some(Reason::Unauthorized),
            detail: None,
            opened_at: None,
            probes: 0,
            is_due: false,
            due_in: Duration::ZERO,
            refused_events: 0,
        }
    }

    #[test]
    fn a_half_open_circuit_takes_a_message_that_has_not_failed() {
        let circuit_breakers = circuit_breakers();
        circuit_breakers.breakers[0].adopt(Some(&in_the_ledger(CircuitBreakerState::HalfOpen)));
        let tries = |failures, last_reason| Tries { failures, last_reason, ..FRESH };
        for admitted in [FRESH, tries(0, Some(Reason::HubSpotCircuitOpen)), tries(0, Some(Reason::LeasedElsewhere))] {
            assert_eq!(circuit_breakers.wait_reason(&admitted), None, "{admitted:?}");
        }
        let failed = tries(0, Some(Reason::Unauthorized));
        assert_eq!(circuit_breakers.wait_reason(&failed), Some(Reason::Unauthorized), "it keeps its reason");
        assert!(circuit_breakers.wait_reason(&tries(1, Some(Reason::RecordLocked))).is_some());
        circuit_breakers.breakers[0].adopt(None);
        assert_eq!(circuit_breakers.wait_reason(&failed), None, "closed");
    }

    #[test]
    fn a_message_that_opens_the_circuit_again_and_again_while_others_succeed_is_no_outage() {
        let circuit_breakers = circuit_breakers();
        let observer = circuit_breakers.observer(Dependency::HubSpot).expect("an observer");
        let breaker = &circuit_breakers.breakers[0];
        let schedule = RetrySchedule::new(vec![Duration::from_secs(10)], 3).expect("a schedule");
        let rejected = failed(Some(true), RetryAction::RetryLater { after: None });
        let mut tries = FRESH;
        let mut fail = |expected| {
            observer.record(Some(&rejected));
            assert_eq!(circuit_breakers.decide(&schedule, &rejected, &tries), expected);
            tries.last_reason = Some(Reason::Unauthorized);
            breaker.known().unreported = None;
            breaker.adopt(Some(&in_the_ledger(CircuitBreakerState::Open)));
            breaker.adopt(None);
        };
        let (excused, counted) =
            (RetryDecision::Defer(Duration::from_secs(10)), RetryDecision::Retry(Duration::from_secs(10)));
        fail(excused);
        // Nothing else was tried meanwhile: the outage may go on.
        fail(excused);
        observer.record(None);
        fail(counted);
        observer.record(None);
        fail(counted);
        assert!(circuit_breakers.is_outage(&rejected, &FRESH), "one that has not failed before is not blamed");
    }
}
