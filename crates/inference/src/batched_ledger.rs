//! The ledger for single events: collects their requests into batches.

use std::{collections::HashSet, sync::Arc, time::Duration};

use batcher::{Batcher, BatcherError, BatcherSettings};
use domain::{ActionId, Event, ObjectId, RecordRef};
use ledger::{
    COMMIT_RETRY, ChargeRequest, Claim, ClaimRequest, Claimed, Decision, LEDGER_RETRY, Ledger, LedgerError,
    PriorAnswers, PriorAnswersRequest, RecordMerge, Worker,
};
use uuid::Uuid;

/// Batches of one kind in flight. More would only wait for each other's connections.
const MAX_IN_FLIGHT: usize = 4;

/// How requests are collected, and how long what they claim or find is valid.
#[derive(Debug, Clone, Copy)]
pub struct BatchedLedgerSettings {
    /// The most requests in a batch.
    pub batch_max: usize,
    /// How long a batch waits for more requests.
    pub linger: Duration,
    /// How long a claim holds.
    pub lease: Duration,
    /// How long an unchanged context is not asked about again.
    pub unchanged_context_ttl: Duration,
}

/// An event as its message was delivered.
#[derive(Debug, Clone)]
struct DeliveredEvent {
    event: Arc<Event>,
    message_copy_id: Uuid,
    /// The trace in which it arrived.
    trace_id: Option<String>,
}

/// Claims events, finds earlier answers, reserves money and commits decisions, each in batches of its own.
#[derive(Debug)]
pub struct BatchedLedger {
    claims: Batcher<DeliveredEvent, Claim, LedgerError>,
    prior_answers: Batcher<PriorAnswersRequest, PriorAnswers, LedgerError>,
    charges: Batcher<ChargeRequest, bool, LedgerError>,
    decisions: Batcher<Decision, bool, LedgerError>,
    known_actions: Batcher<Vec<ActionId>, HashSet<ActionId>, LedgerError>,
    ledger: Ledger,
}

impl BatchedLedgerSettings {
    /// Those of the batcher of this name.
    fn named(&self, name: &'static str) -> BatcherSettings {
        BatcherSettings {
            name,
            max: self.batch_max,
            linger: self.linger,
            extra_linger: None,
            max_in_flight: MAX_IN_FLIGHT,
            long: None,
        }
    }
}

impl BatchedLedger {
    /// Starts the batchers. Events are claimed for `worker`.
    pub fn start(ledger: Ledger, worker: Worker, settings: BatchedLedgerSettings) -> Self {
        let BatchedLedgerSettings { lease, unchanged_context_ttl, .. } = settings;
        let claims = ledger.batcher(
            settings.named("claim events"),
            LEDGER_RETRY,
            move |ledger, events: Arc<Vec<DeliveredEvent>>| {
                let worker = worker.clone();
                async move {
                    let requests: Vec<_> = events
                        .iter()
                        .map(|DeliveredEvent { event, message_copy_id, trace_id }| ClaimRequest {
                            event,
                            message_copy_id: *message_copy_id,
                            trace_id: trace_id.as_deref(),
                        })
                        .collect();
                    ledger.claim(&requests, &worker, lease).await
                }
            },
        );
        let prior_answers =
            ledger.batcher(
                settings.named("read prior answers"),
                LEDGER_RETRY,
                move |ledger, requests: Arc<Vec<_>>| async move {
                    ledger.prior_answers(&requests, unchanged_context_ttl).await
                },
            );
        let decisions = ledger.batcher(
            settings.named("commit decisions"),
            COMMIT_RETRY,
            |ledger, decisions: Arc<Vec<_>>| async move { ledger.commit_decisions(&decisions).await },
        );
        let charges =
            ledger.batcher(settings.named("begin charges"), LEDGER_RETRY, |ledger, requests: Arc<Vec<_>>| async move {
                ledger.begin_charges(&requests).await
            });
        let known_actions = ledger.batcher(
            settings.named("find known actions"),
            LEDGER_RETRY,
            |ledger, asked: Arc<Vec<Vec<ActionId>>>| async move {
                let known = ledger.known_actions(&asked.concat()).await?;
                let of = |ids: &Vec<ActionId>| ids.iter().copied().filter(|id| known.contains(id)).collect();
                Ok(asked.iter().map(of).collect())
            },
        );
        Self { claims, prior_answers, charges, decisions, known_actions, ledger }
    }

    /// Claims an event under the copy of its message that was delivered.
    pub async fn claim(&self, event: Arc<Event>, message_copy_id: Uuid) -> Result<Claim, BatcherError<LedgerError>> {
        self.claims.submit(DeliveredEvent { event, message_copy_id, trace_id: spans::current_trace_id() }).await
    }

    /// What this event, newer events and earlier contexts of `record` have already been answered with.
    pub async fn prior_answers(
        &self,
        event: &Event,
        claimed: &Claimed,
        record: &RecordRef,
    ) -> Result<PriorAnswers, BatcherError<LedgerError>> {
        let request = PriorAnswersRequest {
            event_id: claimed.event_id,
            occurred_at: event.occurred_at,
            event_key: event.key.clone(),
            record: record.clone(),
        };
        self.prior_answers.submit(request).await
    }

    /// Reserves the money for a request to the model. `false`: the limits of its record do not allow it.
    pub async fn begin_charge(&self, request: ChargeRequest) -> Result<bool, BatcherError<LedgerError>> {
        self.charges.submit(request).await
    }

    /// The ledger, for what happens too seldom to be batched.
    pub(crate) fn unbatched(&self) -> &Ledger {
        &self.ledger
    }

    /// Records that the records with the ids `old` were merged into `survivor`, so that what was written to them counts for its
    /// order of writes.
    pub async fn record_merges(
        &self,
        survivor: &RecordRef,
        old: impl IntoIterator<Item = ObjectId>,
    ) -> Result<(), LedgerError> {
        let merge =
            |old| RecordMerge { old: RecordRef { object_id: old, ..survivor.clone() }, survivor: survivor.object_id };
        let merges: Vec<_> = old.into_iter().map(merge).collect();
        // Boxed: few events tell of a merge, and all have room for it.
        Box::pin(retry::run(&LEDGER_RETRY, || self.ledger.record_merges(&merges))).await
    }

    /// Which of these actions, whose markers stand in texts, are the fleet's own. Asks nothing when there are none.
    pub async fn known_actions(&self, marked: Vec<ActionId>) -> Result<HashSet<ActionId>, BatcherError<LedgerError>> {
        if marked.is_empty() {
            return Ok(HashSet::new());
        }
        self.known_actions.submit(marked).await
    }

    /// Commits a decision. `false`: the lease had expired and another worker has taken the event over; nothing is committed.
    pub async fn commit_decision(&self, decision: Decision) -> Result<bool, BatcherError<LedgerError>> {
        self.decisions.submit(decision).await
    }
}
