//! When a message that failed comes back, and when it is parked instead.

use std::time::Duration;

use retry::{Reason, RetryAction};

use crate::handler::Disposition;

/// The delays of the retry queues, how many attempts a message has, and how old it may become.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RetrySchedule {
    /// At least one, in ascending order, in whole seconds.
    delays: Vec<Duration>,
    /// A message that has failed this often is parked. Once all delays were used, the last one repeats.
    max_attempts: u32,
    /// A message that is older and fails is parked, whatever excuses the failure.
    max_age: Duration,
}

/// What a message has behind it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tries {
    /// How often it failed.
    pub failures: u32,
    /// For how long it has been on its way, without the time in which the whole fleet paused. Zero where that is not known.
    pub age: Duration,
    /// Why it came to a retry queue the last time.
    pub last_reason: Option<Reason>,
}

/// Why delays make no retry schedule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RetryScheduleError {
    /// There is none, or one is shorter than a second.
    #[error("needs at least one delay, and each of at least a second")]
    TooShort,
    /// They are not in ascending order, each longer than the one before.
    #[error("delays must ascend")]
    NotAscending,
}

impl RetrySchedule {
    /// A schedule with these `delays`, in ascending order, and for messages of any age.
    ///
    /// # Errors
    /// The delays are not as [`RetryScheduleError`] demands.
    pub fn new(delays: Vec<Duration>, max_attempts: u32) -> Result<Self, RetryScheduleError> {
        if delays.is_empty() || delays.iter().any(|delay| delay.as_secs() == 0) {
            return Err(RetryScheduleError::TooShort);
        }
        if !delays.is_sorted_by(|a, b| a < b) {
            return Err(RetryScheduleError::NotAscending);
        }
        Ok(Self { delays, max_attempts, max_age: Duration::MAX })
    }

    /// The same schedule for messages that are parked when they fail and are older than `max_age`.
    #[must_use]
    pub fn with_max_age(self, max_age: Duration) -> Self {
        Self { max_age, ..self }
    }

    /// The delays of all retry queues, in ascending order.
    pub fn delays(&self) -> &[Duration] {
        &self.delays
    }

    /// The shortest delay, for messages that only have to wait for their turn.
    pub fn shortest(&self) -> Duration {
        self.delays[0]
    }

    /// The longest delay.
    pub fn longest(&self) -> Duration {
        self.delays[self.delays.len() - 1]
    }

    /// The delay for a message that failed `attempts` times before this failure, and not shorter than `after` if a delay is
    /// that long. `None` when no attempt is left.
    pub fn delay(&self, attempts: u32, after: Option<Duration>) -> Option<Duration> {
        if attempts + 1 >= self.max_attempts {
            return None;
        }
        let last = self.delays.len() - 1;
        let by_attempt = usize::try_from(attempts).unwrap_or(last).min(last);
        Some(self.delays[by_attempt].max(self.at_least(after)))
    }

    /// The shortest delay that is not shorter than `after`; the longest one if none is.
    fn at_least(&self, after: Option<Duration>) -> Duration {
        let long_enough = self.delays.iter().find(|delay| **delay >= after.unwrap_or_default());
        *long_enough.unwrap_or(&self.longest())
    }

    /// What becomes of a message whose failure asks for `retry_action`.
    pub fn decide(&self, retry_action: RetryAction, tries: &Tries) -> RetryDecision {
        let decision = match retry_action {
            RetryAction::RetryNow { after } | RetryAction::RetryLater { after } => {
                self.delay(tries.failures, after).map_or(RetryDecision::Exhausted, RetryDecision::Retry)
            }
            RetryAction::RateLimited { after } => RetryDecision::Defer(self.at_least(after)),
            RetryAction::Park => RetryDecision::Park,
            RetryAction::Discard => RetryDecision::Discard,
        };
        self.unless_too_old(decision, tries)
    }

    /// What becomes of a message that comes back after the shortest delay, and whose failure does not count.
    pub fn defer(&self, tries: &Tries) -> RetryDecision {
        self.unless_too_old(RetryDecision::Defer(self.shortest()), tries)
    }

    /// Whether a message is too old to wait any more.
    pub fn is_too_old(&self, tries: &Tries) -> bool {
        tries.age >= self.max_age
    }

    fn unless_too_old(&self, decision: RetryDecision, tries: &Tries) -> RetryDecision {
        match decision {
            RetryDecision::Retry(_) | RetryDecision::Defer(_) if self.is_too_old(tries) => RetryDecision::Exhausted,
            decision => decision,
        }
    }
}

/// What becomes of a message that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RetryDecision {
    /// It comes back after this delay, and the failure counts as an attempt.
    Retry(Duration),
    /// It comes back after this delay, and the failure does not count: a rate limit or an outage.
    Defer(Duration),
    /// A retry may help, but no attempt is left, or the message is too old: park it.
    Exhausted,
    /// A retry cannot help: park it.
    Park,
    /// Nothing is left to do: acknowledge it.
    Discard,
}

impl RetryDecision {
    /// What the consumer does with the message. `detail` is the `reason` in words.
    pub fn disposition(self, reason: Reason, detail: &str) -> Disposition {
        match self {
            Self::Retry(delay) => Disposition::Retry { delay, reason, detail: detail.to_owned() },
            Self::Defer(delay) => Disposition::Defer { delay: Some(delay), reason },
            Self::Exhausted | Self::Park => Disposition::Park { reason, detail: detail.to_owned() },
            Self::Discard => Disposition::Done,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(list: &[u64]) -> Vec<Duration> {
        list.iter().map(|seconds| Duration::from_secs(*seconds)).collect()
    }

    #[test]
    fn delays_grow_with_attempts_respect_retry_after_and_end() {
        let schedule = RetrySchedule::new(seconds(&[10, 60, 600]), 5).expect("valid");
        let delay = |attempts, after| schedule.delay(attempts, after).map(|delay| delay.as_secs());
        assert_eq!(
            [0, 1, 2, 3, 4].map(|attempts| delay(attempts, None)),
            [Some(10), Some(60), Some(600), Some(600), None]
        );
        assert_eq!(delay(0, Some(Duration::from_secs(45))), Some(60));
        assert_eq!(delay(2, Some(Duration::from_secs(1))), Some(600));
        assert_eq!(delay(0, Some(Duration::from_secs(86_400))), Some(600), "the longest there is");
        let tries = |failures| Tries { failures, ..Tries::default() };
        assert_eq!(schedule.decide(RetryAction::RetryNow { after: None }, &tries(9)), RetryDecision::Exhausted);
        assert_eq!(schedule.decide(RetryAction::Park, &tries(0)), RetryDecision::Park);
    }

    #[test]
    fn a_rate_limit_never_uses_up_the_attempts() {
        let schedule = RetrySchedule::new(seconds(&[10, 60, 600]), 5).expect("valid");
        let tries = Tries { failures: 99, ..Tries::default() };
        let rate_limited =
            |seconds| schedule.decide(RetryAction::RateLimited { after: Some(Duration::from_secs(seconds)) }, &tries);
        assert_eq!(rate_limited(1), RetryDecision::Defer(Duration::from_secs(10)));
        assert_eq!(rate_limited(3_600), RetryDecision::Defer(Duration::from_secs(600)));
    }

    #[test]
    fn nothing_that_is_too_old_waits_whatever_excuses_it() {
        let schedule =
            RetrySchedule::new(seconds(&[10, 60]), 5).expect("valid").with_max_age(Duration::from_secs(3_600));
        let at = |age, retry_action| {
            schedule.decide(retry_action, &Tries { age: Duration::from_secs(age), ..Tries::default() })
        };
        let limited = RetryAction::RateLimited { after: None };
        assert_eq!(at(3_599, limited), RetryDecision::Defer(Duration::from_secs(10)));
        assert_eq!(at(3_600, limited), RetryDecision::Exhausted);
        assert_eq!(at(3_600, RetryAction::RetryLater { after: None }), RetryDecision::Exhausted);
        assert_eq!(at(3_600, RetryAction::Discard), RetryDecision::Discard);
        let old = Tries { age: Duration::from_secs(4_000), ..Tries::default() };
        assert_eq!(schedule.defer(&old), RetryDecision::Exhausted);
    }

    #[test]
    fn delays_must_ascend_and_be_at_least_a_second() {
        let error = |list| RetrySchedule::new(seconds(list), 3).expect_err("invalid");
        assert_eq!(error(&[]), RetryScheduleError::TooShort);
        assert_eq!(error(&[0, 10]), RetryScheduleError::TooShort);
        assert_eq!(error(&[60, 10]), RetryScheduleError::NotAscending);
    }

    #[test]
    fn a_decision_says_what_happens_to_the_message() {
        let (reason, delay) = (Reason::HubSpotTimeout, Duration::from_secs(10));
        let disposition = |decision: RetryDecision| decision.disposition(reason, "late");
        let detail = || "late".to_owned();
        assert_eq!(disposition(RetryDecision::Retry(delay)), Disposition::Retry { delay, reason, detail: detail() });
        assert_eq!(disposition(RetryDecision::Defer(delay)), Disposition::Defer { delay: Some(delay), reason });
        for parked in [RetryDecision::Exhausted, RetryDecision::Park] {
            assert_eq!(disposition(parked), Disposition::Park { reason, detail: detail() });
        }
        assert_eq!(disposition(RetryDecision::Discard), Disposition::Done);
    }
}
