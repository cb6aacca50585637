//! Begins and ends actions in the ledger. Those of all commands that a writer carries out go together: alone, each would take two
//! transactions.

use std::{sync::Arc, time::Duration};

use batcher::{Batcher, BatcherError, BatcherSettings};
use ledger::{BeginOutcome, BeginRequest, EndedAction, LEDGER_RETRY, Ledger, LedgerError};

/// The most actions in one statement.
const MAX_BATCH: usize = 100;

/// How long a batch waits for more actions. Those of one batch of write commands begin and end within milliseconds of each other.
const LINGER: Duration = Duration::from_millis(10);

/// Batches of one kind in flight. More would only wait for each other's connections.
const MAX_IN_FLIGHT: usize = 4;

/// Begins and ends actions.
pub struct ActionLedger {
    begun: Batcher<BeginRequest, BeginOutcome, LedgerError>,
    ended: Batcher<EndedAction, (), LedgerError>,
}

impl ActionLedger {
    /// Starts the batches.
    pub fn start(ledger: &Ledger) -> Self {
        let begin = |ledger: Ledger, requests: Arc<Vec<_>>| async move { ledger.begin_actions(&requests).await };
        let end = |ledger: Ledger, ended: Arc<Vec<_>>| async move {
            ledger.finish_actions(&ended).await?;
            Ok(vec![(); ended.len()])
        };
        Self {
            begun: ledger.batcher(settings("begin actions"), LEDGER_RETRY, begin),
            ended: ledger.batcher(settings("finish actions"), LEDGER_RETRY, end),
        }
    }

    /// Begin: commits that the call is about to be sent.
    pub async fn begin(&self, request: BeginRequest) -> Result<BeginOutcome, BatcherError<LedgerError>> {
        self.begun.submit(request).await
    }

    /// Finish: commits the result.
    pub async fn finish(&self, ended: EndedAction) -> Result<(), BatcherError<LedgerError>> {
        self.ended.submit(ended).await
    }
}

fn settings(name: &'static str) -> BatcherSettings {
    BatcherSettings {
        name,
        max: MAX_BATCH,
        linger: LINGER,
        extra_linger: None,
        max_in_flight: MAX_IN_FLIGHT,
        long: None,
    }
}
