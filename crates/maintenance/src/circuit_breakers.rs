//! Circuit breakers for HubSpot and OpenAI: a failing call concerns that call alone, many failures in a row are an outage and concern
//! the whole fleet, and a rejected key concerns this process until others that have it are rejected as well.
//!
//! The service's API clients report every attempt of every call to an observer. What a service notices goes into the ledger,
//! and every service of the fleet reads it from there: while a circuit is open, nothing is consumed, and what fails because of
//! the outage is deferred without using up its attempts.

use std::sync::Arc;

use broker::{ConsumeMode, RetryDecision, RetrySchedule, Tries};
use domain::{CircuitBreakerState, Credential, Dependency, Reason};
use retry::{Failure, OutageSign, SharedObserver};
use service::Readiness;
use tokio::sync::{Notify, watch};

use crate::breaker::Breaker;

/// The circuit breakers of a service's dependencies. Cheap to clone; clones share everything.
#[derive(Debug, Clone)]
pub struct CircuitBreakers {
    pub(crate) breakers: Arc<Vec<Arc<Breaker>>>,
    pub(crate) settings: settings::CircuitBreakerSection,
    mode: Arc<watch::Sender<ConsumeMode>>,
    /// Wakes the task that syncs with the ledger.
    pub(crate) wake: Arc<Notify>,
}

impl CircuitBreakers {
    /// The circuit breakers of the dependencies that are called with `credentials`, all closed.
    pub fn new(settings: &settings::CircuitBreakerSection, credentials: impl IntoIterator<Item = Credential>) -> Self {
        let wake = Arc::new(Notify::new());
        let breaker = |credential| Arc::new(Breaker::new(credential, settings, wake.clone()));
        Self {
            breakers: Arc::new(credentials.into_iter().map(breaker).collect()),
            settings: settings.clone(),
            mode: Arc::new(watch::Sender::new(ConsumeMode::Normal)),
            wake,
        }
    }

    /// The observer for the client of a dependency; `None` if the dependency has no circuit breaker here.
    pub fn observer(&self, dependency: Dependency) -> Option<SharedObserver> {
        self.breaker(dependency).map(|breaker| breaker.clone() as SharedObserver)
    }

    /// A dependency is called with another credential from now on. Its own circuit counts, and nothing that was found out about the one
    /// before.
    pub fn replace_credential(&self, credential: Credential) {
        if let Some(breaker) = self.breaker(credential.dependency) {
            breaker.replace_credential(credential);
        }
    }

    fn breaker(&self, dependency: Dependency) -> Option<&Arc<Breaker>> {
        self.breakers.iter().find(|breaker| breaker.dependency() == dependency)
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
            let Some(breaker) = self.breaker(outage.dependency) else { return outage.sign != OutageSign::Possible };
            let known = breaker.known();
            let failed_before = tries.last_reason.and_then(Reason::may_be_outage_of) == Some(outage.dependency);
            let is_its_own = failed_before && known.opened_after_success;
            !is_its_own && (outage.sign != OutageSign::Possible || known.state() != CircuitBreakerState::Closed)
        })
    }

    /// Why a message with these `tries` is not to be begun at the moment, if so: a circuit is open, or it is half open and the
    /// message has failed before. Whether an outage is over is found out with messages that have not failed: one that fails
    /// whatever happens would open the circuit again and again.
    pub fn wait_reason(&self, tries: &Tries) -> Option<Reason> {
        let failed_of = tries.last_reason.and_then(Reason::may_be_outage_of);
        let must_wait = |breaker: &&Arc<Breaker>| match breaker.state() {
            CircuitBreakerState::Open => true,
            CircuitBreakerState::HalfOpen => tries.failures > 0 || failed_of == Some(breaker.dependency()),
            CircuitBreakerState::Closed => false,
        };
        let waits_for = self.breakers.iter().find(must_wait)?;
        Some(match (waits_for.dependency(), tries.last_reason) {
            // It keeps the reason for which it failed.
            (_, Some(reason)) if failed_of.is_some() => reason,
            (Dependency::OpenAi, _) => Reason::OpenAiCircuitOpen,
            (Dependency::HubSpot, _) => Reason::HubSpotCircuitOpen,
        })
    }

    /// Whether the credential of a dependency is rejected here.
    pub(crate) fn is_rejected(&self, dependency: Dependency) -> bool {
        self.breaker(dependency).is_some_and(|breaker| breaker.known().is_rejected())
    }

    /// How many messages may be consumed, now and after every change.
    pub fn consume_mode(&self) -> watch::Receiver<ConsumeMode> {
        self.mode.subscribe()
    }

    /// Adds a check for each dependency: it fails while a circuit is not closed, and while the credential of this process is rejected.
    #[must_use]
    pub fn add_readiness_checks(&self, readiness: Readiness) -> Readiness {
        self.breakers.iter().fold(readiness, |readiness, breaker| {
            let checked = breaker.clone();
            readiness.with(breaker.dependency().as_str(), move || {
                let result = checked.pause().map_or(Ok(()), |pause| Err(pause.into()));
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
    use domain::{Circuit, CircuitBreakerState, Credential, Dependency, Fingerprint};
    use ledger::CircuitBreaker;
    use metrics_exporter_prometheus::PrometheusBuilder;
    use retry::{Failure, Outage, OutageSign, Reason, RetryAction};

    use super::CircuitBreakers;
    use crate::own_credential::{OwnCredential, Rejection};

    const FRESH: Tries = Tries { failures: 0, age: Duration::ZERO, last_reason: None };

    #[derive(Debug)]
    struct Failed {
        outage: Option<OutageSign>,
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
            self.outage.map(|sign| Outage { dependency: Dependency::HubSpot, sign })
        }
    }

    fn failed(outage: Option<OutageSign>, retry_action: RetryAction) -> Failed {
        Failed { outage, retry_action }
    }

    fn circuit_breakers() -> CircuitBreakers {
        CircuitBreakers::new(
            &settings::CircuitBreakerSection { failure_threshold: 3, ..settings::CircuitBreakerSection::default() },
            [credential()],
        )
    }

    fn credential() -> Credential {
        let fingerprint = Fingerprint::of("1", ["token"]);
        Credential { dependency: Dependency::HubSpot, setting: "hubspot.token", fingerprint }
    }

    /// A call with the credential in use ended.
    fn tell(circuit_breakers: &CircuitBreakers, failure: Option<&dyn Failure>) {
        let observer = circuit_breakers.observer(Dependency::HubSpot).expect("an observer");
        observer.record(observer.credential(), failure);
    }

    fn in_the_ledger(circuit: Circuit, state: CircuitBreakerState) -> CircuitBreaker {
        CircuitBreaker {
            circuit,
            state,
            reason: Some(Reason::Unauthorized),
            detail: None,
            opened_at: None,
            probes: 0,
            is_due: false,
            due_in: Duration::ZERO,
            refused_events: 0,
            rejected_by: Vec::new(),
        }
    }

    #[test]
    fn many_failures_in_a_row_are_an_outage_and_a_success_between_them_is_not() {
        let circuit_breakers = circuit_breakers();
        let unavailable = failed(Some(OutageSign::Possible), RetryAction::RetryNow { after: None });
        for _ in 0..2 {
            tell(&circuit_breakers, Some(&unavailable));
            tell(&circuit_breakers, Some(&unavailable));
            tell(&circuit_breakers, None);
        }
        tell(&circuit_breakers, Some(&unavailable));
        tell(&circuit_breakers, Some(&unavailable));
        assert_eq!(
            (circuit_breakers.wait_reason(&FRESH), circuit_breakers.is_outage(&unavailable, &FRESH)),
            (None, false)
        );
        // A rate limit says nothing about the dependency's health.
        tell(&circuit_breakers, Some(&failed(None, RetryAction::RateLimited { after: None })));
        tell(&circuit_breakers, Some(&unavailable));
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
    fn one_rejected_key_is_enough_for_this_process_and_is_no_outage_of_the_fleet() {
        let circuit_breakers = circuit_breakers();
        let rejected = failed(Some(OutageSign::CredentialRejected), RetryAction::RetryLater { after: None });
        tell(&circuit_breakers, Some(&rejected));
        assert!(circuit_breakers.wait_reason(&FRESH).is_some() && circuit_breakers.is_outage(&rejected, &FRESH));
        let breaker = &circuit_breakers.breakers[0];
        assert_eq!(breaker.known().unreported, None);
        let said = breaker.pause().expect("it is not ready");
        let fingerprint = credential().fingerprint;
        assert!(said.contains(&format!("hubspot.token with the fingerprint {fingerprint} is rejected")), "{said}");
        // Of the others it is known meanwhile that they are well.
        breaker.adopt(None, None);
        assert!(circuit_breakers.wait_reason(&FRESH).is_some());
    }

    #[test]
    fn a_rejection_counts_for_the_credential_that_the_call_was_made_with() {
        let circuit_breakers = circuit_breakers();
        let observer = circuit_breakers.observer(Dependency::HubSpot).expect("an observer");
        let rejected = failed(Some(OutageSign::CredentialRejected), RetryAction::RetryLater { after: None });
        let under_way = observer.credential();
        let new = Credential { fingerprint: Fingerprint::of("1", ["new token"]), ..credential() };
        circuit_breakers.replace_credential(new);
        // The old one was withdrawn, as it has to be.
        observer.record(under_way, Some(&rejected));
        assert_eq!(circuit_breakers.wait_reason(&FRESH), None, "nothing speaks against the new one");
        let schedule = RetrySchedule::new(vec![Duration::from_secs(10)], 3).expect("a schedule");
        let decision = circuit_breakers.decide(&schedule, &rejected, &FRESH);
        assert_eq!(decision, RetryDecision::Defer(Duration::from_secs(10)), "its message comes back");
        let breaker = &circuit_breakers.breakers[0];
        breaker.probe_rejected(under_way, Rejection { reason: Reason::Unauthorized, detail: "401".to_owned() });
        assert_eq!(circuit_breakers.wait_reason(&FRESH), None, "a probe neither");
        observer.record(observer.credential(), Some(&rejected));
        assert!(circuit_breakers.wait_reason(&FRESH).is_some(), "the new one is rejected, too");
    }

    #[test]
    fn an_account_without_money_is_an_outage_at_once() {
        let circuit_breakers = circuit_breakers();
        let exhausted = failed(Some(OutageSign::Certain), RetryAction::RetryLater { after: None });
        tell(&circuit_breakers, Some(&exhausted));
        assert!(circuit_breakers.wait_reason(&FRESH).is_some() && circuit_breakers.is_outage(&exhausted, &FRESH));
        assert!(circuit_breakers.breakers[0].known().unreported.is_some(), "the fleet has to know");
    }

    #[test]
    fn a_circuit_of_the_credential_pauses_its_workers_and_takes_the_place_of_what_they_knew_alone() {
        let circuit_breakers = circuit_breakers();
        let breaker = &circuit_breakers.breakers[0];
        let rejected = failed(Some(OutageSign::CredentialRejected), RetryAction::RetryLater { after: None });
        tell(&circuit_breakers, Some(&rejected));
        let (rejection, _) = breaker.known().own.unreported().expect("the ledger has to know");
        breaker.known().own.mark_reported(&rejection);
        let row = |state| in_the_ledger(credential().circuit(), state);
        breaker.adopt(None, Some(&row(CircuitBreakerState::Open)));
        assert!(circuit_breakers.wait_reason(&FRESH).is_some() && breaker.known().is_rejected());
        breaker.adopt(None, Some(&row(CircuitBreakerState::Closed)));
        assert_eq!(
            (circuit_breakers.wait_reason(&FRESH), breaker.pause()),
            (None, None),
            "who probed it was another one"
        );
    }

    #[test]
    fn the_metrics_say_why_a_circuit_is_paused_and_that_it_is_no_more() {
        let recorder = PrometheusBuilder::new().build_recorder();
        let circuit_breakers = circuit_breakers();
        let breaker = &circuit_breakers.breakers[0];
        let shown = |adopt: &dyn Fn()| {
            metrics::with_local_recorder(&recorder, adopt);
            let page = recorder.handle().render();
            let reasons = page.lines().filter(|line| line.starts_with("leadline_circuit_breaker_reason"));
            reasons.map(ToOwned::to_owned).collect::<std::collections::BTreeSet<_>>()
        };
        let line = |reason, value| {
            format!("leadline_circuit_breaker_reason{{dependency=\"hubspot\",reason=\"{reason}\"}} {value}")
        };
        let row =
            |state, reason| CircuitBreaker { reason: Some(reason), ..in_the_ledger(Dependency::HubSpot.into(), state) };
        let away = row(CircuitBreakerState::Open, Reason::HubSpotUnavailable);
        assert_eq!(shown(&|| breaker.adopt(None, None)), [].into());
        assert_eq!(shown(&|| breaker.adopt(Some(&away), None)), [line("hubspot_unavailable", 1)].into());
        let rejected = row(CircuitBreakerState::HalfOpen, Reason::Unauthorized);
        let both = [line("hubspot_unavailable", 0), line("unauthorized", 1)];
        assert_eq!(shown(&|| breaker.adopt(Some(&rejected), None)), both.into());
        let over = row(CircuitBreakerState::Closed, Reason::Unauthorized);
        let none = [line("hubspot_unavailable", 0), line("unauthorized", 0)];
        assert_eq!(shown(&|| breaker.adopt(Some(&over), None)), none.into());
    }

    #[test]
    fn an_answer_that_rejects_the_call_ends_a_row_of_failures() {
        let circuit_breakers = circuit_breakers();
        let unavailable = failed(Some(OutageSign::Possible), RetryAction::RetryNow { after: None });
        for _ in 0..5 {
            tell(&circuit_breakers, Some(&unavailable));
            tell(&circuit_breakers, Some(&unavailable));
            tell(&circuit_breakers, Some(&failed(None, RetryAction::Park)));
        }
        assert_eq!(circuit_breakers.wait_reason(&FRESH), None);
    }

    #[test]
    fn a_half_open_circuit_takes_a_message_that_has_not_failed() {
        let circuit_breakers = circuit_breakers();
        let half_open = in_the_ledger(Dependency::HubSpot.into(), CircuitBreakerState::HalfOpen);
        circuit_breakers.breakers[0].adopt(Some(&half_open), None);
        let tries = |failures, last_reason| Tries { failures, last_reason, ..FRESH };
        for admitted in [FRESH, tries(0, Some(Reason::HubSpotCircuitOpen)), tries(0, Some(Reason::LeasedElsewhere))] {
            assert_eq!(circuit_breakers.wait_reason(&admitted), None, "{admitted:?}");
        }
        let failed = tries(0, Some(Reason::Unauthorized));
        assert_eq!(circuit_breakers.wait_reason(&failed), Some(Reason::Unauthorized), "it keeps its reason");
        assert!(circuit_breakers.wait_reason(&tries(1, Some(Reason::RecordLocked))).is_some());
        circuit_breakers.breakers[0].adopt(None, None);
        assert_eq!(circuit_breakers.wait_reason(&failed), None, "closed");
    }

    #[test]
    fn a_message_that_opens_the_circuit_again_and_again_while_others_succeed_is_no_outage() {
        let circuit_breakers = circuit_breakers();
        let breaker = &circuit_breakers.breakers[0];
        let schedule = RetrySchedule::new(vec![Duration::from_secs(10)], 3).expect("a schedule");
        let rejected = failed(Some(OutageSign::CredentialRejected), RetryAction::RetryLater { after: None });
        let mut tries = FRESH;
        let mut fail = |expected| {
            tell(&circuit_breakers, Some(&rejected));
            assert_eq!(circuit_breakers.decide(&schedule, &rejected, &tries), expected);
            tries.last_reason = Some(Reason::Unauthorized);
            // A probe is accepted, and time passes.
            breaker.known().own = OwnCredential::Accepted;
        };
        let (excused, counted) =
            (RetryDecision::Defer(Duration::from_secs(10)), RetryDecision::Retry(Duration::from_secs(10)));
        fail(excused);
        // Nothing else was tried meanwhile: the outage may go on.
        fail(excused);
        tell(&circuit_breakers, None);
        fail(counted);
        tell(&circuit_breakers, None);
        fail(counted);
        assert!(circuit_breakers.is_outage(&rejected, &FRESH), "one that has not failed before is not blamed");
    }
}
