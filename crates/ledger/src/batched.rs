//! Requests of many callers at once, each kind in statements of its own.

use std::sync::Arc;

use batcher::{Batcher, BatcherSettings};
use retry::RetryPolicy;

use crate::{Ledger, LedgerError};

impl Ledger {
    /// A batcher whose batches `call` carries out, with retries while Postgres is away. When Postgres rejects a batch, or one of its rows
    /// is locked, its halves are tried on their own, so that one request fails or waits alone.
    pub fn batcher<I, O, F, Fut>(
        &self,
        settings: BatcherSettings,
        policy: RetryPolicy,
        call: F,
    ) -> Batcher<I, O, LedgerError>
    where
        I: Clone + Send + Sync + 'static,
        O: Send + 'static,
        F: Fn(Self, Arc<Vec<I>>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Vec<O>, LedgerError>> + Send + 'static,
    {
        let (ledger, call, name) = (self.clone(), Arc::new(call), settings.name);
        let carry_out = move |batch: Arc<Vec<I>>| {
            let (ledger, call) = (ledger.clone(), call.clone());
            let size = batch.len();
            async move {
                // The outer error is repeated, the inner one is split first.
                let once = || async {
                    match ledger.traced(name, size, call(ledger.clone(), batch.clone())).await {
                        Err(error) if size > 1 && is_held_up(&error) => Ok(Err(error)),
                        result => result.map(Ok),
                    }
                };
                retry::run(&policy, once).await?
            }
        };
        Batcher::start(settings, carry_out, |error| !error.is_away() || is_held_up(error))
    }
}

/// Whether another process held a row of the batch for too long.
fn is_held_up(error: &LedgerError) -> bool {
    error.is_locked() || error.is_timed_out()
}
