//! Retries inside the process.

use std::{future::Future, time::Duration};

use tokio_retry::{
    RetryIf,
    strategy::{ExponentialBackoff, jitter},
};

use crate::{Failure, RetryAction};

/// How often a call is repeated inside the process, and after which delays.
#[derive(Debug, Clone, Copy)]
pub struct RetryPolicy {
    /// The number of attempts, the first included; at least 1.
    pub attempts: usize,
    /// The upper bound of the first delay. It doubles with every attempt.
    pub base_delay: Duration,
    /// The longest delay. A `Retry-After` that is longer ends the retries in the process at once.
    pub max_delay: Duration,
}

impl RetryPolicy {
    /// The upper bounds of the delays between attempts, before jitter.
    fn delay_bounds(&self) -> impl Iterator<Item = Duration> + use<> {
        let base = u64::try_from(self.base_delay.as_millis()).unwrap_or(u64::MAX).max(1);
        ExponentialBackoff::from_millis(2)
            .factor(base.div_ceil(2))
            .max_delay(self.max_delay)
            .take(self.attempts.saturating_sub(1))
    }

    /// Whether a failure that asks for this action is retried in the process.
    fn should_retry(&self, retry_action: RetryAction) -> bool {
        match retry_action {
            RetryAction::RetryNow { after } | RetryAction::RateLimited { after } => {
                after.is_none_or(|wait| wait <= self.max_delay)
            }
            RetryAction::RetryLater { .. } | RetryAction::Park | RetryAction::Discard => false,
        }
    }
}

/// Calls `attempt` until it succeeds, fails with something that a retry now cannot help, or no attempt of `policy` is left.
///
/// # Errors
/// The last attempt's error.
pub async fn run<T, E, F, Fut>(policy: &RetryPolicy, attempt: F) -> Result<T, E>
where
    E: Failure,
    F: Fn() -> Fut,
    Fut: Future<Output = Result<T, E>>,
{
    let mut remaining = policy.attempts.max(1);
    let attempt = &attempt;
    let next_attempt = || {
        remaining -= 1;
        let is_last = remaining == 0;
        async move {
            // Called inside the async block: outside, the future would hold the call's state twice, as a captured variable
            // and as the future that it awaits.
            let result = attempt().await;
            if is_last { result } else { before_next(policy, result).await }
        }
    };
    RetryIf::start(policy.delay_bounds().map(jitter), next_attempt, |error: &E| {
        policy.should_retry(error.retry_action())
    })
    .await
}

/// Waits for as long as the other side asks before another attempt. Takes the result and returns it, so that the attempt's future has no room
/// for it while it waits for it.
async fn before_next<T, E: Failure>(policy: &RetryPolicy, result: Result<T, E>) -> Result<T, E> {
    if let Err(error) = &result
        && policy.should_retry(error.retry_action())
    {
        tracing::debug!(%error, reason = %error.reason(), "attempt failed; trying again");
        // The other side's `Retry-After` is added to the jittered delay and does not replace it: clients that were given the same number
        // must not all come back at the same moment.
        if let RetryAction::RetryNow { after: Some(wait) } | RetryAction::RateLimited { after: Some(wait) } =
            error.retry_action()
        {
            tokio::time::sleep(wait).await;
        }
    }
    result
}

#[cfg(test)]
mod tests {
    use std::{
        cell::Cell,
        time::{Duration, Instant},
    };

    use super::{RetryPolicy, run};
    use crate::{Failure, Reason, RetryAction};

    #[derive(Debug)]
    struct Broken(RetryAction);
    impl std::fmt::Display for Broken {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("broken")
        }
    }
    impl std::error::Error for Broken {}
    impl Failure for Broken {
        fn retry_action(&self) -> RetryAction {
            self.0
        }
        fn reason(&self) -> Reason {
            Reason::NotApplied
        }
    }

    const POLICY: RetryPolicy =
        RetryPolicy { attempts: 3, base_delay: Duration::from_millis(2), max_delay: Duration::from_millis(60) };

    async fn attempts_for(retry_action: RetryAction) -> usize {
        let attempts = Cell::new(0);
        let result: Result<(), Broken> = run(&POLICY, || {
            attempts.set(attempts.get() + 1);
            async { Err(Broken(retry_action)) }
        })
        .await;
        assert!(result.is_err());
        attempts.get()
    }

    #[tokio::test]
    async fn only_retry_now_is_repeated_and_only_as_often_as_the_policy_allows() {
        assert_eq!(attempts_for(RetryAction::RetryNow { after: None }).await, 3);
        assert_eq!(attempts_for(RetryAction::RetryLater { after: None }).await, 1);
        assert_eq!(attempts_for(RetryAction::Park).await, 1);
        assert_eq!(attempts_for(RetryAction::Discard).await, 1);
    }

    #[tokio::test]
    async fn retry_after_is_waited_for_unless_it_is_longer_than_the_longest_delay() {
        let started = Instant::now();
        assert_eq!(attempts_for(RetryAction::RetryNow { after: Some(Duration::from_millis(40)) }).await, 3);
        assert!(started.elapsed() >= Duration::from_millis(80), "two waits of 40 ms");
        assert_eq!(
            attempts_for(RetryAction::RetryNow { after: Some(Duration::from_secs(60)) }).await,
            1,
            "too long to hold a worker"
        );
    }
}
