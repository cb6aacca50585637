//! Record: commits what became of the commands of a batch, and then decides about their messages.

use std::sync::Arc;

use broker::Disposition;
use domain::{CommandState, Reason};
use ledger::{CommandResult, LEDGER_RETRY, LedgerError, Worker};

use crate::{batch::BatchExecutor, outcome::CommandOutcome};

/// Whether a result counted, or why the ledger did not take it.
type Recorded = Result<bool, Arc<LedgerError>>;

impl BatchExecutor {
    /// Commits the outcomes with the values before, and then decides about the messages. Returns the places in the batch of the
    /// commands whose record was merged: they can be carried out for the record that survived; and of those that a rule approved.
    ///
    /// An outcome does not count when another writer has taken the command or the record over. If it wrote something, an
    /// older value may have replaced a newer one, so the record is marked for verification. One that the ledger refuses is
    /// that command's failure alone: the others of the batch are committed.
    pub(crate) async fn record(
        &self,
        mut outcomes: Vec<CommandOutcome>,
        worker: &Worker,
        dispositions: &mut [Disposition],
    ) -> Result<Vec<usize>, LedgerError> {
        outcomes.iter_mut().for_each(|outcome| self.failures.park_if_too_old(outcome));
        let merged = outcomes.iter().filter_map(|outcome| outcome.merged.as_ref());
        let merges: Vec<_> = merged.flat_map(|merged| merged.merges.iter().cloned()).collect();
        if !merges.is_empty() {
            retry::run(&LEDGER_RETRY, || self.ledger.record_merges(&merges)).await?;
        }
        let mut recorded = self.finish(&outcomes, worker).await;
        let mut unrecorded = Vec::new();
        for (outcome, result) in outcomes.iter_mut().zip(&mut recorded) {
            if let Err(error) = result
                && !error.is_away()
            {
                if !outcome.row.written.is_empty() {
                    unrecorded.push(outcome.record.clone());
                }
                self.failures.refuse(outcome, error);
                *result = self.finish(std::slice::from_ref(outcome), worker).await.pop().unwrap_or(Ok(false));
            }
        }
        let lost = outcomes.iter().zip(&recorded);
        let lost = lost.filter(|(outcome, result)| matches!(result, Ok(false)) && !outcome.row.written.is_empty());
        let lost: Vec<_> = lost.map(|(outcome, _)| outcome.record.clone()).chain(unrecorded).collect();
        if !lost.is_empty() {
            retry::run(&LEDGER_RETRY, || self.ledger.mark_for_verification(&lost)).await?;
        }
        let mut moved = Vec::new();
        for (outcome, result) in outcomes.into_iter().zip(recorded) {
            dispositions[outcome.index] = match result {
                Ok(true) => {
                    let state = outcome.row.state.as_str();
                    metrics::counter!("leadline_write_commands_total", "state" => state).increment(1);
                    let goes_on = outcome.merged.is_some() || outcome.is_approved;
                    if goes_on && outcome.row.state == CommandState::Waiting {
                        moved.push(outcome.index);
                    }
                    outcome.disposition
                }
                Ok(false) => {
                    let command = outcome.row.id;
                    tracing::warn!(%command, "the lease expired and another writer took over the command or its record");
                    Disposition::defer(Reason::LeaseLost)
                }
                // Its lease ends, and it is taken again.
                Err(error) if error.is_away() => Disposition::defer(Reason::LedgerUnavailable),
                Err(error) => {
                    tracing::error!(%error, command = %outcome.row.id, "the ledger refuses to record a refusal");
                    outcome.disposition
                }
            };
        }
        Ok(moved)
    }

    /// Commits the rows of outcomes, in as many parts as it takes to find those that the ledger refuses.
    async fn finish(&self, outcomes: &[CommandOutcome], worker: &Worker) -> Vec<Recorded> {
        let row =
            |outcome: &CommandOutcome| CommandResult { wait: self.failures.delay(outcome), ..outcome.row.clone() };
        let mut recorded: Vec<Recorded> = outcomes.iter().map(|_| Ok(false)).collect();
        if outcomes.is_empty() {
            return recorded;
        }
        let commit = |rows: Arc<Vec<CommandResult>>| async move {
            let finish = || self.ledger.finish_commands(&rows, worker);
            self.ledger.traced_until_answered("finish commands", rows.len(), finish).await
        };
        let may_be_one = |error: &LedgerError| !error.is_away();
        let rows = outcomes.iter().map(row).collect();
        batcher::bisect(rows, commit, may_be_one, |index, result| recorded[index] = result).await;
        recorded
    }
}
