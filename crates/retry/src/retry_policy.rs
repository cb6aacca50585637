use std::{future::Future, time::Duration};

use tokio_retry::{
    RetryIf,
    strategy::{ExponentialBackoff, jitter},
};

use crate::{Failure, RetryAction};

/// How often and how patiently a call is repeated inside the process.
#[derive(Debug, Clone, Copy)]
pub struct RetryPolicy {
    /// All tries together, the first included; at least 1.
    pub attempts: usize,
    /// The first delay's upper bound; it doubles with every try.
    pub base_delay: Duration,
    /// No single wait is longer. A `Retry-After` beyond it ends the in-process tries at once.
    pub max_delay: Duration,
}

impl RetryPolicy {
    /// Upper bounds of the waits between tries, before jitter.
    fn ceilings(&self) -> impl Iterator<Item = Duration> + use<> {
        let base = u64::try_from(self.base_delay.as_millis()).unwrap_or(u64::MAX).max(1);
        ExponentialBackoff::from_millis(2)
            .factor(base.div_ceil(2))
            .max_delay(self.max_delay)
            .take(self.attempts.saturating_sub(1))
    }

    /// Whether a failure with this retry action is worth another try here.
    fn retries(&self, retry_action: RetryAction) -> bool {
        matches!(retry_action, RetryAction::RetryNow { after } | RetryAction::RateLimited { after } if after.is_none_or(|wait| wait <= self.max_delay))
    }
}

/// Calls `attempt` until it succeeds, fails for good, or `policy` is used up; gives the last error then.
pub async fn run<T, E, F, Fut>(policy: &RetryPolicy, attempt: F) -> Result<T, E>
where
    E: Failure,
    F: Fn() -> Fut,
    Fut: Future<Output = Result<T, E>>,
{
    let mut left = policy.attempts.max(1);
    let attempt = &attempt;
    let again = || {
        left -= 1;
        let last = left == 0;
        async move {
            // Called in here, or the future would hold the call twice: as what it was given and as what it waits for.
            let result = attempt().await;
            if let Err(error) = &result
                && !last
                && policy.retries(error.retry_action())
            {
                tracing::debug!(%error, reason = %error.reason(), "trying again");
                // The other side's wish comes on top of our own jittered delay, never instead of it: clients that
                // were told the same number must not come back at the same moment.
                if let RetryAction::RetryNow { after: Some(wait) } | RetryAction::RateLimited { after: Some(wait) } =
                    error.retry_action()
                {
                    tokio::time::sleep(wait).await;
                }
            }
            result
        }
    };
    RetryIf::start(policy.ceilings().map(jitter), again, |error: &E| policy.retries(error.retry_action())).await
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

    async fn tries_of(retry_action: RetryAction) -> usize {
        let tries = Cell::new(0);
        let result: Result<(), Broken> = run(&POLICY, || {
            tries.set(tries.get() + 1);
            async { Err(Broken(retry_action)) }
        })
        .await;
        assert!(result.is_err());
        tries.get()
    }

    #[tokio::test]
    async fn only_now_is_repeated_and_only_as_often_as_allowed() {
        assert_eq!(tries_of(RetryAction::RetryNow { after: None }).await, 3);
        assert_eq!(tries_of(RetryAction::RetryLater { after: None }).await, 1);
        assert_eq!(tries_of(RetryAction::Park).await, 1);
        assert_eq!(tries_of(RetryAction::Discard).await, 1);
    }

    #[tokio::test]
    async fn retry_after_is_waited_for_but_not_beyond_the_cap() {
        let started = Instant::now();
        assert_eq!(tries_of(RetryAction::RetryNow { after: Some(Duration::from_millis(40)) }).await, 3);
        assert!(started.elapsed() >= Duration::from_millis(80), "two waits of 40 ms");
        assert_eq!(
            tries_of(RetryAction::RetryNow { after: Some(Duration::from_secs(60)) }).await,
            1,
            "too long to hold a worker"
        );
    }
}
