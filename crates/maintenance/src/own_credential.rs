//! Whether the credential of this process is accepted, as far as the process has found out by itself.
//!
//! It may be the credential, and then others will find out the same; or this process alone has a wrong one, or a proxy in between
//! answers for the other side. Until that is known, the process leaves the work to others.

use std::time::Duration;

use domain::{CircuitBreakerState, Reason};
use ledger::ProbeDelays;
use tokio::time::Instant;

/// Why a credential is rejected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Rejection {
    pub(crate) reason: Reason,
    pub(crate) detail: String,
}

/// What this process knows of its own credential.
#[derive(Debug, Default)]
pub(crate) enum OwnCredential {
    /// Nothing speaks against it.
    #[default]
    Accepted,
    /// It was rejected: this process calls nothing but probes.
    Rejected {
        rejection: Rejection,
        /// Probes that failed since.
        probes: i32,
        due_at: Instant,
        /// Whether the ledger knew it, and a probe was rejected again.
        is_repeated: bool,
        /// Whether the ledger still has to be told.
        is_unreported: bool,
    },
    /// A probe was accepted: one message at a time, until a call works or this moment comes.
    OnTrial { probes: i32, until: Instant },
}

impl OwnCredential {
    /// What it means for the work of this process.
    pub(crate) fn state(&self) -> CircuitBreakerState {
        match self {
            Self::Accepted => CircuitBreakerState::Closed,
            Self::Rejected { .. } => CircuitBreakerState::Open,
            Self::OnTrial { .. } => CircuitBreakerState::HalfOpen,
        }
    }

    /// Why it is rejected, if it is.
    pub(crate) fn rejection(&self) -> Option<&Rejection> {
        match self {
            Self::Rejected { rejection, .. } => Some(rejection),
            Self::Accepted | Self::OnTrial { .. } => None,
        }
    }

    /// A call or a probe was rejected.
    pub(crate) fn reject(&mut self, rejection: Rejection, delays: ProbeDelays, now: Instant) {
        let (probes, is_repeated) = match self {
            Self::Accepted => (0, false),
            Self::Rejected { probes, is_unreported, .. } => (*probes + 1, !*is_unreported),
            Self::OnTrial { probes, .. } => (*probes + 1, false),
        };
        let due_at = now + delays.after(probes);
        *self = Self::Rejected { rejection, probes, due_at, is_repeated, is_unreported: true };
    }

    /// A probe came to nothing: the dependency is away.
    pub(crate) fn postpone(&mut self, delays: ProbeDelays, now: Instant) {
        if let Self::Rejected { probes, due_at, .. } = self {
            *probes += 1;
            *due_at = now + delays.after(*probes);
        }
    }

    /// A probe was accepted.
    pub(crate) fn try_again(&mut self, trial: Duration, now: Instant) {
        if let Self::Rejected { probes, .. } = *self {
            *self = Self::OnTrial { probes, until: now + trial };
        }
    }

    /// Ends a trial in which no call was rejected for long enough.
    pub(crate) fn end_trial(&mut self, now: Instant) {
        if matches!(self, Self::OnTrial { until, .. } if *until <= now) {
            *self = Self::Accepted;
        }
    }

    /// Whether it is to be probed now.
    pub(crate) fn is_probe_due(&self, now: Instant) -> bool {
        matches!(self, Self::Rejected { due_at, .. } if *due_at <= now)
    }

    /// The rejection that the ledger does not know yet, and whether it is a repeated one.
    pub(crate) fn unreported(&self) -> Option<(Rejection, bool)> {
        match self {
            Self::Rejected { rejection, is_repeated, is_unreported: true, .. } => {
                Some((rejection.clone(), *is_repeated))
            }
            _ => None,
        }
    }

    /// The ledger knows `reported`.
    pub(crate) fn mark_reported(&mut self, reported: &Rejection) {
        if let Self::Rejected { rejection, is_unreported, .. } = self {
            *is_unreported = *rejection != *reported;
        }
    }

    /// The circuit of the credential is open: from now on the workers that have it find out together.
    pub(crate) fn leave_to_fleet(&mut self) {
        if matches!(self, Self::Rejected { is_unreported: false, .. } | Self::OnTrial { .. }) {
            *self = Self::Accepted;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use domain::{CircuitBreakerState, Reason};
    use ledger::ProbeDelays;
    use tokio::time::Instant;

    use super::{OwnCredential, Rejection};

    const DELAYS: ProbeDelays =
        ProbeDelays { first: Duration::from_secs(5), max: Duration::from_secs(15), others_first: Duration::ZERO };

    fn rejection() -> Rejection {
        Rejection { reason: Reason::Unauthorized, detail: "401".to_owned() }
    }

    #[test]
    fn a_rejected_credential_is_probed_at_growing_intervals_and_then_tried_with_care() {
        let (mut own, mut now) = (OwnCredential::default(), Instant::now());
        own.reject(rejection(), DELAYS, now);
        assert_eq!((own.state(), own.unreported()), (CircuitBreakerState::Open, Some((rejection(), false))));
        own.mark_reported(&rejection());
        assert_eq!((own.unreported(), own.is_probe_due(now)), (None, false));
        for wait in [5, 10, 15, 15] {
            now += Duration::from_secs(wait - 1);
            assert!(!own.is_probe_due(now), "{wait}");
            now += Duration::from_secs(1);
            assert!(own.is_probe_due(now), "{wait}");
            own.reject(rejection(), DELAYS, now);
            assert_eq!(own.unreported(), Some((rejection(), true)), "the fleet has to know that it was no accident");
            own.mark_reported(&rejection());
        }
        own.try_again(Duration::from_secs(30), now);
        own.end_trial(now);
        assert_eq!(own.state(), CircuitBreakerState::HalfOpen);
        now += Duration::from_secs(30);
        own.reject(rejection(), DELAYS, now);
        own.end_trial(now);
        assert_eq!(own.state(), CircuitBreakerState::Open, "a call was rejected just before the trial's end");
        assert_eq!(own.unreported(), Some((rejection(), false)), "it had worked meanwhile");
        own.reject(rejection(), DELAYS, now);
        assert_eq!(own.unreported(), Some((rejection(), false)), "nobody could say yet that it works");
        own.try_again(Duration::from_secs(30), now);
        own.end_trial(now + Duration::from_secs(30));
        assert_eq!(own.state(), CircuitBreakerState::Closed, "no call was rejected");
    }

    #[test]
    fn what_the_ledger_does_not_know_yet_is_not_left_to_the_fleet() {
        let mut own = OwnCredential::default();
        own.reject(rejection(), DELAYS, Instant::now());
        own.leave_to_fleet();
        assert_eq!(own.state(), CircuitBreakerState::Open);
        own.mark_reported(&rejection());
        own.leave_to_fleet();
        assert_eq!(own.state(), CircuitBreakerState::Closed);
    }
}
