//! One call for all that need its result at the moment.

use std::{
    fmt,
    future::Future,
    sync::{Arc, Mutex, PoisonError},
};

use futures_util::{
    FutureExt,
    future::{BoxFuture, Shared},
};

type Call<T, E> = Shared<BoxFuture<'static, Result<T, Arc<E>>>>;

/// Lets all callers that come while a call is under way wait for its result, also for its failure: no caller waits for one failing call
/// after the other. Keeps no result; who comes later makes a call of their own.
pub struct SharedCall<T: Clone, E>(Mutex<Option<Call<T, E>>>);

impl<T: Clone, E> Default for SharedCall<T, E> {
    fn default() -> Self {
        Self(Mutex::new(None))
    }
}

impl<T: Clone, E> fmt::Debug for SharedCall<T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SharedCall")
    }
}

impl<T, E> SharedCall<T, E>
where
    T: Clone + Send + Sync + 'static,
    E: Send + Sync + 'static,
{
    /// The result of the call that is under way, or of `call` if none is.
    ///
    /// # Errors
    /// That of the call.
    pub async fn join(&self, call: impl Future<Output = Result<T, E>> + Send + 'static) -> Result<T, Arc<E>> {
        let shared = {
            let mut under_way = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            match under_way.as_ref().filter(|call| call.peek().is_none()) {
                Some(call) => call.clone(),
                None => under_way.insert(call.map(|result| result.map_err(Arc::new)).boxed().shared()).clone(),
            }
        };
        shared.await
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    };

    use futures_util::future::join_all;
    use tokio::sync::Notify;

    use super::SharedCall;

    #[tokio::test]
    async fn all_that_come_meanwhile_share_one_call_and_its_failure() {
        let (shared, calls) = (SharedCall::<u32, String>::default(), Arc::new(AtomicU32::new(0)));
        for succeeds in [false, true] {
            let answered = Arc::new(Notify::new());
            let call = || {
                let (calls, answered) = (calls.clone(), answered.clone());
                async move {
                    answered.notified().await;
                    let number = calls.fetch_add(1, Ordering::Relaxed) + 1;
                    if succeeds { Ok(number) } else { Err("away".to_owned()) }
                }
            };
            let all = join_all((0..10).map(|_| shared.join(call())));
            let (results, ()) = tokio::join!(all, async { answered.notify_one() });
            let expected = if succeeds { Ok(2) } else { Err(Arc::new("away".to_owned())) };
            assert_eq!(results, vec![expected; 10], "who comes later makes a call of their own");
        }
    }
}
