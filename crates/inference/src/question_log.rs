//! Where the summaries of the parts of a long context are stored.

use std::{collections::HashMap, future::Future};

use crashpoint::crash_point;
use domain::{EventId, Inference, RecordRef};
use ledger::{COMMIT_RETRY, LEDGER_RETRY, Ledger};

use crate::StepError;

/// Stores the summaries of a context's parts, so that neither a worker that takes an event over nor a later event of the
/// record pays for them again.
pub trait SummaryStore: Sync {
    /// The stored summaries of parts of a context of `record`, by the hash of the part.
    fn load(
        &self,
        record: &RecordRef,
        hashes: &[String],
    ) -> impl Future<Output = Result<HashMap<String, String>, StepError>> + Send;
    /// Stores one summary.
    fn save(&self, inference: &Inference) -> impl Future<Output = Result<(), StepError>> + Send;
}

/// Stores nothing: for a context that is asked about once.
#[derive(Debug, Clone, Copy)]
pub struct NoStore;

impl SummaryStore for NoStore {
    async fn load(&self, _: &RecordRef, _: &[String]) -> Result<HashMap<String, String>, StepError> {
        Ok(HashMap::new())
    }

    async fn save(&self, _: &Inference) -> Result<(), StepError> {
        Ok(())
    }
}

/// The summaries in the ledger, for a claimed event and one playbook.
pub(crate) struct LedgerSummaryStore<'a> {
    pub(crate) ledger: &'a Ledger,
    pub(crate) event_id: EventId,
    /// The number of the claim. The ledger rejects a summary of a claim that another worker has taken over.
    pub(crate) attempt: i32,
    pub(crate) playbook: &'a str,
}

impl SummaryStore for LedgerSummaryStore<'_> {
    async fn load(&self, record: &RecordRef, hashes: &[String]) -> Result<HashMap<String, String>, StepError> {
        Ok(retry::run(&LEDGER_RETRY, || self.ledger.condensed_parts(record, self.playbook, hashes)).await?)
    }

    async fn save(&self, inference: &Inference) -> Result<(), StepError> {
        let store = || self.ledger.store_inference(self.event_id, self.attempt, inference);
        let is_stored = retry::run(&COMMIT_RETRY, store).await?;
        crash_point!("inference.after_part");
        if is_stored { Ok(()) } else { Err(StepError::DeadlineExceeded) }
    }
}
