//! Handles one message: reads which write command it is about, and puts the command into a batch.

use std::{convert::Infallible, sync::Arc};

use batcher::{Batcher, BatcherSettings};
use broker::{Delivery, Disposition, Handler, Message};
use domain::{Reason, WriteCommandId, write_command::CommandMessage};
use maintenance::CircuitBreakers;

use crate::{
    batch::{BatchExecutor, QueuedCommand},
    failure::BatchLost,
};

/// Handles messages about write commands: parse → batch.
pub struct WriteHandler {
    circuit_breakers: CircuitBreakers,
    executor: Arc<BatchExecutor>,
    batcher: Batcher<QueuedCommand, Disposition, Infallible>,
}

impl WriteHandler {
    /// Collects commands into batches for `executor`, of the size and at the pace of `batching`.
    pub fn new(circuit_breakers: CircuitBreakers, executor: BatchExecutor, batching: BatcherSettings) -> Self {
        let executor = Arc::new(executor);
        let of_batcher = executor.clone();
        let execute = move |batch: Arc<Vec<QueuedCommand>>| {
            let executor = of_batcher.clone();
            async move { Ok(executor.execute(&batch).await) }
        };
        Self { circuit_breakers, executor, batcher: Batcher::start(batching, execute, |_| false) }
    }
}

impl Handler for WriteHandler {
    async fn handle(&self, delivery: Delivery) -> Disposition {
        // The message was delivered just before the circuit breaker opened.
        let tries = delivery.tries();
        if let Some(reason) = self.circuit_breakers.wait_reason(&tries) {
            return Disposition::defer(reason);
        }
        let id = match parse(&delivery.message) {
            Ok(id) => id,
            Err(disposition) => return disposition,
        };
        // The batch ends without an answer when it panics. Its leases expire, and the message comes back. It is not known
        // which of its commands was the cause, so it counts for all of them.
        let lost = || self.executor.failures.decide(&BatchLost, &tries);
        self.batcher.submit(QueuedCommand { id, tries }).await.unwrap_or_else(|_| lost())
    }
}

fn parse(message: &Message) -> Result<WriteCommandId, Disposition> {
    let parsed = serde_json::from_slice::<CommandMessage>(&message.body);
    parsed.map(|message| message.id).map_err(|error| {
        tracing::warn!(id = message.id, %error, "the message names no write command and is parked");
        let detail = format!("the message names no write command: {error}");
        Disposition::Park { reason: Reason::CommandInvalid, detail }
    })
}
