//! Begins and ends actions in the ledger. Those of all commands that a writer carries out go together: alone, each would take two
//! transactions.

use std::{sync::Arc, time::Duration};

use batcher::{Batcher, BatcherError, BatcherSettings};
use ledger::{BeginOutcome, BeginRequest, EndedAction, LEDGER_RETRY, Ledger, LedgerError};
use tokio::time::Instant;

/// The most actions in one statement.
const MAX_BATCH: usize = 100;

/// How long a batch waits for more actions. Those of one batch of write commands begin and end within milliseconds of each other.
const LINGER: Duration = Duration::from_millis(10);

/// Batches of one kind in flight. More would only wait for each other's connections.
const MAX_IN_FLIGHT: usize = 4;

/// Begins and ends actions.
pub struct ActionLedger {
    begun: Batcher<TimedRequest, BeginOutcome, LedgerError>,
    ended: Batcher<EndedAction, (), LedgerError>,
}

impl ActionLedger {
    /// Starts the batches.
    pub fn start(ledger: &Ledger) -> Self {
        let begin = |ledger: Ledger, requests: Arc<Vec<TimedRequest>>| async move { begin(&ledger, &requests).await };
        let end = |ledger: Ledger, ended: Arc<Vec<_>>| async move {
            ledger.finish_actions(&ended).await?;
            Ok(vec![(); ended.len()])
        };
        Self {
            begun: ledger.batcher(settings("begin actions"), LEDGER_RETRY, begin),
            ended: ledger.batcher(settings("finish actions"), LEDGER_RETRY, end),
        }
    }

    /// Begin: commits that the call is about to be sent, unless that is later than `not_after`.
    pub async fn begin(
        &self,
        request: BeginRequest,
        not_after: Instant,
    ) -> Result<BeginOutcome, BatcherError<LedgerError>> {
        self.begun.submit((request, not_after)).await
    }

    /// Finish: commits the result.
    pub async fn finish(&self, ended: EndedAction) -> Result<(), BatcherError<LedgerError>> {
        self.ended.submit(ended).await
    }
}

/// A request, and when its answer comes too late.
type TimedRequest = (BeginRequest, Instant);

async fn begin(ledger: &Ledger, requests: &[TimedRequest]) -> Result<Vec<BeginOutcome>, LedgerError> {
    let now = Instant::now();
    let in_time = |(request, not_after): &TimedRequest| (*not_after > now).then_some(*request);
    let begun = ledger.begin_actions(&requests.iter().filter_map(in_time).collect::<Vec<_>>()).await?;
    let mut begun = begun.into_iter();
    Ok(requests
        .iter()
        .map(|request| in_time(request).and_then(|_| begun.next()).unwrap_or(BeginOutcome::Lost))
        .collect())
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
