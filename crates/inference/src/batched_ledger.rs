//! The ledger's batched_ledger: questions of single events, asked in batches.

use std::{collections::HashMap, sync::Arc, time::Duration};

use batcher::{Batcher, BatcherError, BatcherSettings};
use crashpoint::crash_point;
use domain::{Event, Inference, RecordRef};
use inference::{StepError, SummaryStore};
use ledger::{Claim, ClaimRequest, Claimed, Decision, Ledger, LedgerError, PriorAnswers, PriorAnswersRequest, Worker};
use retry::RetryPolicy;
use settings::Settings;

/// While Postgres restarts, a delivery waits here rather than going round the retry queues.
const LEDGER_RETRY: RetryPolicy =
    RetryPolicy { attempts: 20, base_delay: Duration::from_millis(50), max_delay: Duration::from_secs(2) };

/// A decision was paid for; more patience before it is given up.
const COMMIT_RETRY: RetryPolicy = RetryPolicy { attempts: 60, ..LEDGER_RETRY };

/// Batches at the ledger at once: more only wait for each other's connections.
const PARALLEL: usize = 4;

type ClaimInput = (Arc<Event>, Option<String>);

/// Claims and settles events.
pub struct BatchedLedger {
    claims: Batcher<ClaimInput, Claim, LedgerError>,
    prior_answers: Batcher<PriorAnswersRequest, PriorAnswers, LedgerError>,
    decisions: Batcher<Decision, bool, LedgerError>,
    ledger: Ledger,
}

impl BatchedLedger {
    pub fn open(settings: &Settings, ledger: &Ledger) -> Self {
        let limits = BatcherSettings {
            max: settings.ledger.batch_max,
            linger: Duration::from_millis(settings.ledger.batch_linger_ms),
            extra_linger: None,
            max_in_flight: PARALLEL,
        };
        let lease = Duration::from_secs(settings.inference.lease_seconds);
        let worker = Worker::named("inference");
        let claiming = ledger.clone();
        let claims = Batcher::start(
            limits.clone(),
            move |asked: Arc<Vec<ClaimInput>>| {
                let (ledger, worker) = (claiming.clone(), worker.clone());
                async move {
                    let requests: Vec<_> = asked
                        .iter()
                        .map(|(event, trace_id)| ClaimRequest { event, trace_id: trace_id.as_deref() })
                        .collect();
                    retry::run(&LEDGER_RETRY, || ledger.claim(&requests, &worker, lease)).await
                }
            },
            |error| !error.is_away(),
        );
        let asking = ledger.clone();
        let context_age = Duration::from_secs(3_600 * u64::from(settings.inference.unchanged_context_ttl_hours));
        let prior_answers = Batcher::start(
            limits.clone(),
            move |requests: Arc<Vec<PriorAnswersRequest>>| {
                let ledger = asking.clone();
                async move { retry::run(&LEDGER_RETRY, || ledger.prior_answers(&requests, context_age)).await }
            },
            |error| !error.is_away(),
        );
        let settling = ledger.clone();
        let decisions = Batcher::start(
            limits.clone(),
            move |decisions: Arc<Vec<Decision>>| {
                let ledger = settling.clone();
                async move { retry::run(&COMMIT_RETRY, || ledger.commit_decisions(&decisions)).await }
            },
            |error| !error.is_away(),
        );
        Self { claims, prior_answers, decisions, ledger: ledger.clone() }
    }

    /// Claims an event.
    pub async fn claim(&self, event: Arc<Event>) -> Result<Claim, BatcherError<LedgerError>> {
        self.claims.submit((event, broker::current_trace_id())).await
    }

    /// Where the playbooks stand with an event and one of its records.
    pub async fn prior_answers(
        &self,
        event: &Event,
        claimed: &Claimed,
        record: &RecordRef,
    ) -> Result<PriorAnswers, StepError> {
        let request = PriorAnswersRequest {
            event_id: claimed.event_id,
            occurred_at: event.occurred_at,
            event_key: event.key.clone(),
            record: record.clone(),
        };
        self.prior_answers.submit(request).await.map_err(|error| StepError::LedgerAway(error.to_string()))
    }

    /// The memory of one claim.
    pub fn memory<'a>(&'a self, claimed: &'a Claimed, playbook: &'a str) -> impl SummaryStore + 'a {
        ClaimSummaryStore { ledger: &self.ledger, claimed, playbook }
    }

    /// Commits a decision; `false` when the claim no longer held.
    pub async fn commit_decisions(&self, decision: Decision) -> Result<bool, BatcherError<LedgerError>> {
        self.decisions.submit(decision).await
    }
}

/// What was answered about parts of a context, in the ledger.
struct ClaimSummaryStore<'a> {
    ledger: &'a Ledger,
    claimed: &'a Claimed,
    playbook: &'a str,
}

impl SummaryStore for ClaimSummaryStore<'_> {
    async fn load(&self) -> Result<HashMap<String, String>, StepError> {
        Ok(retry::run(&LEDGER_RETRY, || self.ledger.condensed_parts(self.claimed.event_id, self.playbook)).await?)
    }

    async fn save(&self, inference: &Inference) -> Result<(), StepError> {
        let Claimed { event_id, attempt, .. } = *self.claimed;
        let held = retry::run(&COMMIT_RETRY, || self.ledger.store_inference(event_id, attempt, inference)).await?;
        crash_point!("inference.after_part");
        if held { Ok(()) } else { Err(StepError::DeadlineExceeded) }
    }
}
