//! How long webhooks are refused while a RabbitMQ of several nodes has a majority.

use std::time::{Duration, Instant};

/// Webhooks are taken again within this time after what happened to a cluster that has a majority.
pub const TAKEN_AGAIN_WITHIN: Duration = Duration::from_secs(5);

/// A time in which nothing new happened to the cluster. It ends where the next one begins.
#[derive(Debug, Clone, Copy)]
pub struct Phase {
    began: Instant,
    kind: PhaseKind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PhaseKind {
    /// Most nodes are up, and all know which.
    Majority,
    /// Most nodes are up, but one of them says nothing: the others notice it after this time at most.
    OneSilent(Duration),
    /// Too few nodes are up to take anything.
    Minority,
}

impl Phase {
    /// A node went, or came, just now; most nodes are up.
    pub fn majority() -> Self {
        Self { began: Instant::now(), kind: PhaseKind::Majority }
    }

    /// A node fell silent just now, and the others notice it within `noticed_within`.
    pub fn one_silent(noticed_within: Duration) -> Self {
        Self { began: Instant::now(), kind: PhaseKind::OneSilent(noticed_within) }
    }

    /// Too few nodes are up since just now.
    pub fn minority() -> Self {
        Self { began: Instant::now(), kind: PhaseKind::Minority }
    }

    /// How long webhooks may be refused in it.
    fn bound(self) -> Option<Duration> {
        match self.kind {
            PhaseKind::Majority => Some(TAKEN_AGAIN_WITHIN),
            PhaseKind::OneSilent(noticed_within) => Some(TAKEN_AGAIN_WITHIN + noticed_within),
            PhaseKind::Minority => None,
        }
    }
}

/// How long webhooks were refused in one phase.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refused {
    /// From the phase's beginning to the last answer other than 200 that followed from it.
    pub until: Duration,
    /// What it may be.
    pub bound: Duration,
}

/// For each phase with a majority, its place among all and how long webhooks were refused in it. `phases` are in order of time; `end` is
/// when no more was sent.
pub fn refused(phases: &[Phase], refusals: &[Instant], end: Instant) -> Vec<(usize, Refused)> {
    let ends = phases.iter().skip(1).map(|next| next.began).chain([end]);
    let in_phase = |(place, (phase, end)): (usize, (&Phase, Instant))| {
        let within = refusals.iter().copied().filter(|at| (phase.began..end).contains(at));
        Some((place, Refused { until: longest(phase.began, within), bound: phase.bound()? }))
    };
    phases.iter().zip(ends).enumerate().filter_map(in_phase).collect()
}

/// The longest time of refusals, of which the first begins at `began`. One that comes after [`TAKEN_AGAIN_WITHIN`] without any is another
/// trouble, for example a machine that is busy: it begins a new time.
fn longest(began: Instant, refusals: impl Iterator<Item = Instant>) -> Duration {
    let (mut since, mut last, mut longest) = (began, began, Duration::ZERO);
    for at in refusals {
        if at - last > TAKEN_AGAIN_WITHIN {
            since = at;
        }
        longest = longest.max(at - since);
        last = at;
    }
    longest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_count_from_what_happened_last_and_only_while_most_nodes_are_up() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let phase = |seconds, kind| Phase { began: at(seconds), kind };
        let silent = PhaseKind::OneSilent(Duration::from_secs(5));
        let phases = [phase(0, PhaseKind::Minority), phase(20, PhaseKind::Majority), phase(30, silent)];
        let found = refused(&phases, &[at(1), at(15), at(21), at(22), at(29), at(33), at(37), at(50)], at(40));
        let seconds = |(place, one): &(usize, Refused)| (*place, one.until.as_secs(), one.bound.as_secs());
        assert_eq!(found.iter().map(seconds).collect::<Vec<_>>(), [(1, 2, 5), (2, 7, 10)]);
    }
}
