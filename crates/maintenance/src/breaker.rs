//! The circuit breaker of one dependency, as one service knows it: what the ledger has of the dependency and of the credential, and
//! what the service has found out by itself.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use domain::{CircuitBreakerState, Credential, Dependency, Reason};
use ledger::{CircuitBreaker, ProbeDelays};
use retry::{CallObserver, CredentialVersion, Failure, OutageSign, RetryAction};
use tokio::{sync::Notify, time::Instant};

use crate::own_credential::{OwnCredential, Rejection};

/// The circuit breaker of one dependency, as this service knows it.
#[derive(Debug)]
pub(crate) struct Breaker {
    dependency: Dependency,
    /// What this service calls the dependency with now.
    credential: Mutex<Credential>,
    delays: ProbeDelays,
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
    /// Which credential is in use.
    version: CredentialVersion,
    /// Of the circuit of the dependency.
    dependency: CircuitBreakerState,
    /// Of the circuit of the credential, for all workers that have it.
    credential: CircuitBreakerState,
    /// What this process knows of it by itself.
    pub(crate) own: OwnCredential,
    /// An outage that was noticed here and is not in the ledger yet.
    pub(crate) unreported: Option<Rejection>,
    /// When a call was accepted last.
    pub(crate) last_success: Option<Instant>,
    /// Why a circuit of the fleet is not closed, for people.
    why: String,
    /// The reason of a pause that the metrics show.
    shown: Option<Reason>,
    has_been_open: bool,
    /// Whether it was opened again although calls had succeeded since the time before: then the message that
    /// failed both times may be the cause.
    pub(crate) opened_after_success: bool,
}

impl KnownState {
    /// Of the two circuits of the fleet.
    fn of_fleet(&self) -> CircuitBreakerState {
        worse(self.dependency, self.credential)
    }

    /// What may be done here.
    pub(crate) fn state(&self) -> CircuitBreakerState {
        worse(self.of_fleet(), self.own.state())
    }

    /// Whether the credential does not work: then a failure of this process says nothing about the dependency.
    pub(crate) fn is_rejected(&self) -> bool {
        worse(self.credential, self.own.state()) == CircuitBreakerState::Open
    }

    /// Shows in the metrics why `dependency` is paused here; `None`: it is not.
    fn show_reason(&mut self, dependency: Dependency, reason: Option<Reason>) {
        let show = |reason: Reason, value| {
            let labels = [("dependency", dependency.as_str()), ("reason", reason.as_str())];
            metrics::gauge!("leadline_circuit_breaker_reason", &labels).set(value);
        };
        if let Some(gone) = self.shown.filter(|shown| Some(*shown) != reason) {
            show(gone, 0.0);
        }
        if let Some(reason) = reason {
            show(reason, 1.0);
        }
        self.shown = reason;
    }

    fn note_opened(&mut self, has_recovered: &AtomicBool) {
        let has_recovered = has_recovered.swap(false, Ordering::Relaxed);
        self.opened_after_success = std::mem::replace(&mut self.has_been_open, true) && has_recovered;
    }
}

/// The one that allows less.
fn worse(one: CircuitBreakerState, other: CircuitBreakerState) -> CircuitBreakerState {
    use CircuitBreakerState::{Closed, HalfOpen, Open};
    match (one, other) {
        (Open, _) | (_, Open) => Open,
        (HalfOpen, _) | (_, HalfOpen) => HalfOpen,
        (Closed, Closed) => Closed,
    }
}

impl CallObserver for Breaker {
    fn credential(&self) -> CredentialVersion {
        self.version()
    }

    fn record(&self, with: CredentialVersion, failure: Option<&dyn Failure>) {
        match failure.map(|failure| (failure, failure.outage())) {
            Some((failure, Some(outage))) if outage.sign == OutageSign::CredentialRejected => {
                self.reject(with, Rejection { reason: failure.reason(), detail: failure.to_string() });
            }
            Some((failure, Some(outage))) => {
                let in_a_row = self.failures_in_a_row.fetch_add(1, Ordering::Relaxed) + 1;
                let is_half_open = self.known().of_fleet() == CircuitBreakerState::HalfOpen;
                if outage.sign == OutageSign::Certain || in_a_row >= self.failure_threshold || is_half_open {
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
                let mut known = self.known();
                known.last_success = Some(Instant::now());
                if matches!(known.own, OwnCredential::OnTrial { .. }) {
                    known.own = OwnCredential::Accepted;
                    self.wake.notify_one();
                }
            }
        }
    }
}

impl Breaker {
    pub(crate) fn new(credential: Credential, settings: &settings::CircuitBreakerSection, wake: Arc<Notify>) -> Self {
        Self {
            dependency: credential.dependency,
            credential: Mutex::new(credential),
            delays: delays(settings),
            failure_threshold: settings.failure_threshold,
            failures_in_a_row: AtomicU32::new(0),
            has_succeeded: AtomicBool::new(false),
            has_recovered: AtomicBool::new(false),
            known: Mutex::default(),
            wake,
        }
    }

    pub(crate) fn dependency(&self) -> Dependency {
        self.dependency
    }

    /// What this service calls the dependency with now.
    pub(crate) fn credential(&self) -> Credential {
        self.credential.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Which one that is.
    pub(crate) fn version(&self) -> CredentialVersion {
        self.known().version
    }

    /// From now on this service calls with another credential, against which nothing is known.
    pub(crate) fn replace_credential(&self, credential: Credential) {
        tracing::info!(%credential, "calls are made with another credential");
        let mut known = self.known();
        *self.credential.lock().unwrap_or_else(PoisonError::into_inner) = credential;
        known.version = known.version.next();
        (known.own, known.credential) = (OwnCredential::Accepted, CircuitBreakerState::Closed);
        drop(known);
        self.wake.notify_one();
    }

    pub(crate) fn known(&self) -> std::sync::MutexGuard<'_, KnownState> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn state(&self) -> CircuitBreakerState {
        self.known().state()
    }

    /// Opens the circuit here at once; the ledger follows.
    fn open(&self, failure: &dyn Failure) {
        let mut known = self.known();
        if known.of_fleet() == CircuitBreakerState::Open {
            return;
        }
        known.dependency = CircuitBreakerState::Open;
        known.note_opened(&self.has_recovered);
        known.why = format!("{}: {failure}", failure.reason());
        known.unreported = Some(Rejection { reason: failure.reason(), detail: failure.to_string() });
        drop(known);
        self.wake.notify_one();
    }

    /// The credential is rejected: this process pauses at once, and the others that have it are asked. A call that was made with one
    /// which has been replaced since says nothing about the one in use.
    pub(crate) fn reject(&self, with: CredentialVersion, rejection: Rejection) {
        let mut known = self.known();
        if known.version != with || known.state() == CircuitBreakerState::Open {
            return;
        }
        self.note_rejection(&mut known, rejection);
        known.note_opened(&self.has_recovered);
        drop(known);
        self.wake.notify_one();
    }

    fn note_rejection(&self, known: &mut KnownState, rejection: Rejection) {
        if known.own.state() != CircuitBreakerState::Open {
            tracing::error!(
                credential = %self.credential(),
                reason = %rejection.reason,
                detail = rejection.detail,
                "a credential is rejected; this process pauses, and others that have it look whether it works for them"
            );
        }
        known.own.reject(rejection, self.delays, Instant::now());
    }

    /// Whether a credential that was rejected here is to be probed now. A trial in which no call was rejected ends.
    pub(crate) fn is_own_probe_due(&self) -> bool {
        let (mut known, now) = (self.known(), Instant::now());
        known.own.end_trial(now);
        known.own.is_probe_due(now)
    }

    /// A probe was rejected, whatever is known of the dependency. As with a call, its credential has to be in use still.
    pub(crate) fn probe_rejected(&self, with: CredentialVersion, rejection: Rejection) {
        let mut known = self.known();
        if known.version == with {
            self.note_rejection(&mut known, rejection);
        }
    }

    /// A probe of this process's own came to nothing: the dependency is away.
    pub(crate) fn postpone_own_probe(&self) {
        self.known().own.postpone(self.delays, Instant::now());
    }

    /// A probe of this process's own was accepted: messages are tried one at a time, for so long.
    pub(crate) fn try_again(&self, trial: Duration) {
        tracing::info!(credential = %self.credential(), "a credential that was rejected is accepted; trying one message at a time");
        self.known().own.try_again(trial, Instant::now());
    }

    /// Takes over the states that the ledger has of the dependency and of the credential, unless an outage was noticed here that the
    /// ledger does not have yet.
    pub(crate) fn adopt(&self, dependency: Option<&CircuitBreaker>, credential: Option<&CircuitBreaker>) {
        let state = |row: Option<&CircuitBreaker>| row.map_or(CircuitBreakerState::Closed, |row| row.state);
        let mut known = self.known();
        if known.unreported.is_some() {
            return;
        }
        let before = known.of_fleet();
        (known.dependency, known.credential) = (state(dependency), state(credential));
        let after = known.of_fleet();
        if before != after {
            tracing::warn!(dependency = %self.dependency(), state = after.as_str(), "the circuit breaker has a new state");
            self.failures_in_a_row.store(0, Ordering::Relaxed);
            self.has_succeeded.store(false, Ordering::Relaxed);
            if after == CircuitBreakerState::Open {
                known.note_opened(&self.has_recovered);
            }
        }
        if known.credential == CircuitBreakerState::Open {
            known.own.leave_to_fleet();
        }
        let row = [dependency, credential].into_iter().flatten().find(|row| row.state == after);
        known.why = row.map_or_else(String::new, |row| {
            let reason = row.reason.map_or("", Reason::as_str);
            format!("{reason}: {}", row.detail.as_deref().unwrap_or_default())
        });
        let of_fleet = row.filter(|_| after != CircuitBreakerState::Closed).and_then(|row| row.reason);
        let own = known.own.rejection().map(|rejection| rejection.reason);
        known.show_reason(self.dependency(), of_fleet.or(own));
        let is_rejected =
            known.credential != CircuitBreakerState::Closed || known.own.state() != CircuitBreakerState::Closed;
        let label = ("dependency", self.dependency().as_str());
        metrics::gauge!("leadline_circuit_breaker_open", &[label]).set(if after == CircuitBreakerState::Closed {
            0.0
        } else {
            1.0
        });
        metrics::gauge!("leadline_credential_rejected", &[label]).set(if is_rejected { 1.0 } else { 0.0 });
    }

    /// Why this process does not do all its work; `None` if it does.
    pub(crate) fn pause(&self) -> Option<String> {
        let known = self.known();
        match (known.of_fleet(), &known.own) {
            (CircuitBreakerState::Closed, OwnCredential::Accepted) => None,
            (CircuitBreakerState::Closed, OwnCredential::Rejected { rejection, .. }) => Some(format!(
                "circuit open in this process alone: {} is rejected, {}: {}",
                self.credential(),
                rejection.reason,
                rejection.detail
            )),
            (CircuitBreakerState::Closed, OwnCredential::OnTrial { .. }) => Some(format!(
                "circuit half_open in this process alone: {} was rejected and is tried again",
                self.credential()
            )),
            (state, _) => Some(format!("circuit {}, {}", state.as_str(), known.why)),
        }
    }
}

/// The waits between probes of a dependency.
pub(crate) fn delays(settings: &settings::CircuitBreakerSection) -> ProbeDelays {
    ProbeDelays {
        first: Duration::from_secs(settings.probe_first_seconds),
        max: Duration::from_secs(settings.probe_max_seconds),
        others_first: others_first(settings),
    }
}

/// The others look into the ledger a few times within this.
pub(crate) fn others_first(settings: &settings::CircuitBreakerSection) -> Duration {
    Duration::from_millis(3 * settings.poll_ms)
}
