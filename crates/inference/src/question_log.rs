//! What the ledger keeps of the questions about one event: the summaries of a long context's parts, and what each request to
//! the model costs.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crashpoint::crash_point;
use domain::{ChargeId, Event, EventId, Inference, InferenceId, RecordRef, inference::ChargeState};
use ledger::{COMMIT_RETRY, ChargeRequest, Claimed, LEDGER_RETRY, RecordLimits, SettledCharge};
use openai::RequestTag;

use crate::{BatchedLedger, StepError};

/// What the ledger keeps of the questions about one claimed event. It outlives the work on the event, so that what was paid
/// for is settled even when the work is cancelled.
#[derive(Debug, Default)]
pub struct QuestionLog<'a> {
    claim: Option<LoggedClaim<'a>>,
    charges: Mutex<Charges>,
    /// The summaries of parts, of a question that belongs to no event.
    parts: Mutex<Vec<Inference>>,
}

#[derive(Debug, Clone, Copy)]
struct LoggedClaim<'a> {
    ledger: &'a BatchedLedger,
    event_id: EventId,
    event_key: &'a str,
    /// The number of the claim. The ledger rejects a summary of a claim that another worker has taken over.
    attempt: i32,
}

/// The charges whose end is not in the ledger yet.
#[derive(Debug, Default)]
struct Charges {
    /// Requests that are under way, by the id of their charge.
    begun: HashMap<ChargeId, BegunCharge>,
    /// Requests that have ended, with the inference that they are for.
    settled: Vec<(InferenceId, SettledCharge)>,
}

/// A request that is reserved and not settled.
#[derive(Debug)]
struct BegunCharge {
    inference_id: InferenceId,
    most_micro_dollars: i64,
    tag: Arc<RequestTag>,
}

/// A request that is about to be sent.
#[derive(Debug)]
pub(crate) struct PendingRequest<'a> {
    pub(crate) inference_id: InferenceId,
    pub(crate) playbook: &'a str,
    pub(crate) record: &'a RecordRef,
    pub(crate) model: &'a str,
    pub(crate) most_micro_dollars: i64,
    pub(crate) record_limits: RecordLimits,
}

impl<'a> QuestionLog<'a> {
    /// The log of a claimed event.
    pub(crate) fn of(ledger: &'a BatchedLedger, event: &'a Event, claimed: &Claimed) -> Self {
        let Claimed { event_id, attempt, .. } = *claimed;
        let claim = LoggedClaim { ledger, event_id, event_key: event.key.as_str(), attempt };
        Self { claim: Some(claim), ..Self::default() }
    }

    /// A log outside the ledger: for a question that an operator asks, which belongs to no event and has no limit.
    pub fn none() -> Self {
        Self::default()
    }

    /// The key of the event; `None` for a question that belongs to none.
    pub(crate) fn event_key(&self) -> Option<&'a str> {
        self.claim.map(|claim| claim.event_key)
    }

    /// Whether something was asked about the event before, under this claim or an earlier one.
    fn has_asked(&self) -> bool {
        let charges = self.charges();
        self.claim.is_some_and(|claim| claim.attempt > 1) || !charges.begun.is_empty() || !charges.settled.is_empty()
    }

    /// What a question that belongs to no event has cost in micro-dollars, with the requests whose answer was lost, and the
    /// inferences about parts of its context.
    pub fn into_cost_and_parts(mut self) -> (i64, Vec<Inference>) {
        let parts = std::mem::take(self.parts.get_mut().unwrap_or_else(PoisonError::into_inner));
        (self.into_settled().iter().map(|charge| charge.micro_dollars).sum(), parts)
    }

    fn charges(&self) -> MutexGuard<'_, Charges> {
        self.charges.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The stored summaries of parts of a context of `record`, by the hash of the part.
    pub(crate) async fn summaries(
        &self,
        record: &RecordRef,
        playbook: &str,
        hashes: &[String],
    ) -> Result<HashMap<String, String>, StepError> {
        let Some(LoggedClaim { ledger, .. }) = self.claim else { return Ok(HashMap::new()) };
        Ok(retry::run(&LEDGER_RETRY, || ledger.unbatched().condensed_parts(record, playbook, hashes)).await?)
    }

    /// Stores the summary of one part, so that neither a worker that takes the event over nor a later event of the record
    /// pays for it again.
    pub(crate) async fn save_part(&self, inference: &Inference) -> Result<(), StepError> {
        let Some(LoggedClaim { ledger, event_id, attempt, .. }) = self.claim else {
            self.parts.lock().unwrap_or_else(PoisonError::into_inner).push(inference.clone());
            return Ok(());
        };
        let charges: Vec<_> = self.settled_of(inference.id);
        let store = || ledger.unbatched().store_inference(event_id, attempt, inference, &charges);
        let is_stored = retry::run(&COMMIT_RETRY, store).await?;
        crash_point!("inference.after_part");
        self.charges().settled.retain(|(id, _)| *id != inference.id);
        if is_stored { Ok(()) } else { Err(StepError::DeadlineExceeded) }
    }

    fn settled_of(&self, inference_id: InferenceId) -> Vec<SettledCharge> {
        self.charges().settled.iter().filter(|(id, _)| *id == inference_id).map(|(_, charge)| *charge).collect()
    }

    /// Reserves the most that a request can cost, before it is sent.
    ///
    /// # Errors
    /// The request must not be sent: the record has used up its day's money, or the ledger did not store the reservation.
    pub(crate) async fn begin(&self, request: PendingRequest<'_>) -> Result<(ChargeId, Arc<RequestTag>), StepError> {
        let id = ChargeId::new();
        let tag = RequestTag::new(id.0);
        let tag = Arc::new(if self.has_asked() { tag.repeated() } else { tag });
        let PendingRequest { inference_id, most_micro_dollars, .. } = request;
        let begun = BegunCharge { inference_id, most_micro_dollars, tag: tag.clone() };
        // Before the statement: it may be cancelled and take effect all the same.
        self.charges().begun.insert(id, begun);
        let Some(LoggedClaim { ledger, event_id, attempt, .. }) = self.claim else { return Ok((id, tag)) };
        let charge = ChargeRequest {
            id,
            event_id,
            attempt,
            inference_id,
            playbook: request.playbook.to_owned(),
            record: request.record.clone(),
            model: request.model.to_owned(),
            most_micro_dollars,
            record_limits: request.record_limits,
        };
        match ledger.begin_charge(charge).await {
            Ok(true) => Ok((id, tag)),
            Ok(false) => {
                self.charges().begun.remove(&id);
                Err(StepError::record_limit_reached())
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Records what became of a request.
    pub(crate) fn settle(&self, id: ChargeId, state: ChargeState, micro_dollars: i64) {
        let mut charges = self.charges();
        if let Some(begun) = charges.begun.remove(&id) {
            charges.settled.push((begun.inference_id, SettledCharge { id, state, micro_dollars }));
        }
    }

    /// What became of all requests that are not settled in the ledger yet. Call it when the work on the event has ended. A
    /// request that was cancelled may have been answered: the most that it can cost counts.
    pub(crate) fn into_settled(self) -> Vec<SettledCharge> {
        let Charges { begun, settled } = self.charges.into_inner().unwrap_or_else(PoisonError::into_inner);
        let cancelled = begun.into_iter().map(|(id, BegunCharge { most_micro_dollars, tag, .. })| {
            if tag.was_sent() {
                SettledCharge { id, state: ChargeState::Estimated, micro_dollars: most_micro_dollars }
            } else {
                SettledCharge { id, state: ChargeState::Free, micro_dollars: 0 }
            }
        });
        settled.into_iter().map(|(_, charge)| charge).chain(cancelled).collect()
    }
}
