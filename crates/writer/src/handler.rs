//! Handles one message: parses its write command, checks the portal, and puts the command into a batch.

use std::{convert::Infallible, sync::Arc};

use batcher::{Batcher, BatcherSettings};
use broker::{Delivery, Disposition, Handler, Message};
use domain::{PortalId, Reason, WriteCommand};
use maintenance::CircuitBreakers;

use crate::{
    batch::{BatchExecutor, QueuedCommand},
    failure::BatchLost,
};

/// Handles messages with write commands: parse → check the portal → batch.
pub struct WriteHandler {
    portal_id: PortalId,
    circuit_breakers: CircuitBreakers,
    executor: Arc<BatchExecutor>,
    batcher: Batcher<QueuedCommand, Disposition, Infallible>,
}

impl WriteHandler {
    /// Collects commands of the portal `portal_id` into batches for `executor`, of the size and at the pace of `batching`.
    pub fn new(
        portal_id: PortalId,
        circuit_breakers: CircuitBreakers,
        executor: BatchExecutor,
        batching: BatcherSettings,
    ) -> Self {
        let executor = Arc::new(executor);
        let of_batcher = executor.clone();
        let execute = move |batch: Arc<Vec<QueuedCommand>>| {
            let executor = of_batcher.clone();
            async move { Ok(executor.execute(&batch).await) }
        };
        Self { portal_id, circuit_breakers, executor, batcher: Batcher::start(batching, execute, |_| false) }
    }

    fn check_portal(&self, command: &WriteCommand) -> Result<(), Disposition> {
        let (of_command, ours) = (command.record.portal_id, self.portal_id);
        if of_command == ours {
            return Ok(());
        }
        let detail = format!("the write command is for portal {of_command}, hubspot.portal_id is {ours}");
        Err(Disposition::Park { reason: Reason::WrongPortal, detail })
    }
}

impl Handler for WriteHandler {
    async fn handle(&self, delivery: Delivery) -> Disposition {
        // The message was delivered just before the circuit breaker opened.
        let tries = delivery.tries();
        if let Some(reason) = self.circuit_breakers.wait_reason(&tries) {
            return Disposition::defer(reason);
        }
        let command = match parse(&delivery.message) {
            Ok(command) => command,
            Err(disposition) => return disposition,
        };
        if let Err(disposition) = self.check_portal(&command) {
            return disposition;
        }
        // The batch ends without an answer when it panics. Its leases expire, and the message comes back. Nobody knows which of
        // its commands was the cause, so it counts for all of them.
        let lost = || self.executor.failures.decide(&BatchLost, &tries);
        self.batcher.submit(QueuedCommand { command, tries }).await.unwrap_or_else(|_| lost())
    }
}

fn parse(message: &Message) -> Result<WriteCommand, Disposition> {
    serde_json::from_slice(&message.body).map_err(|error| {
        tracing::warn!(id = message.id, %error, "the message is not a valid write command and is parked");
        let detail = format!("the message is not a valid write command: {error}");
        Disposition::Park { reason: Reason::CommandInvalid, detail }
    })
}
