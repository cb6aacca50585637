//! The ledger's desk: questions of single events, asked in batches.

use std::{collections::HashMap, sync::Arc, time::Duration};

use crashpoint::crash_point;
use domain::{Event, Inference, RecordRef};
use inference::{Memory, StepError};
use ledger::{Claim, ClaimRequest, Claimed, Ledger, LedgerError, Settlement, Standing, StandingRequest, Worker};
use retry::Policy;
use runtime::{Gather, GatherError, GatherLimits, config::Settings};

/// While Postgres restarts, a delivery waits here rather than going round the waiting rooms.
const PATIENCE: Policy = Policy { attempts: 20, base: Duration::from_millis(50), cap: Duration::from_secs(2) };

/// A decision was paid for; more patience before it is given up.
const MORE_PATIENCE: Policy = Policy { attempts: 60, ..PATIENCE };

/// Batches at the ledger at once: more only wait for each other's connections.
const PARALLEL: usize = 4;

type Ask = (Arc<Event>, Option<String>);

/// Claims and settles events.
pub struct Desk {
    claims: Gather<Ask, Claim, LedgerError>,
    standings: Gather<StandingRequest, Standing, LedgerError>,
    settlements: Gather<Settlement, bool, LedgerError>,
    ledger: Ledger,
}

impl Desk {
    pub fn open(settings: &Settings, ledger: &Ledger) -> Self {
        let limits = GatherLimits {
            max: settings.ledger.gather_max,
            window: Duration::from_millis(settings.ledger.gather_ms),
            stretch: None,
            parallel: PARALLEL,
        };
        let lease = Duration::from_secs(settings.inference.lease_seconds);
        let worker = Worker::named("inference");
        let claiming = ledger.clone();
        let claims = Gather::start(
            limits.clone(),
            move |asked: Arc<Vec<Ask>>| {
                let (ledger, worker) = (claiming.clone(), worker.clone());
                async move {
                    let requests: Vec<_> = asked
                        .iter()
                        .map(|(event, trace_id)| ClaimRequest { event, trace_id: trace_id.as_deref() })
                        .collect();
                    retry::run(&PATIENCE, || ledger.claim(&requests, &worker, lease)).await
                }
            },
            |error| !error.is_away(),
        );
        let asking = ledger.clone();
        let context_age = Duration::from_secs(3_600 * u64::from(settings.inference.same_context_hours));
        let standings = Gather::start(
            limits.clone(),
            move |requests: Arc<Vec<StandingRequest>>| {
                let ledger = asking.clone();
                async move { retry::run(&PATIENCE, || ledger.standing(&requests, context_age)).await }
            },
            |error| !error.is_away(),
        );
        let settling = ledger.clone();
        let settlements = Gather::start(
            limits.clone(),
            move |settlements: Arc<Vec<Settlement>>| {
                let ledger = settling.clone();
                async move { retry::run(&MORE_PATIENCE, || ledger.settle(&settlements)).await }
            },
            |error| !error.is_away(),
        );
        Self { claims, standings, settlements, ledger: ledger.clone() }
    }

    /// Claims an event.
    pub async fn claim(&self, event: Arc<Event>) -> Result<Claim, GatherError<LedgerError>> {
        self.claims.ask((event, broker::current_trace_id())).await
    }

    /// Where the playbooks stand with an event and one of its records.
    pub async fn standing(&self, event: &Event, claimed: &Claimed, record: &RecordRef) -> Result<Standing, StepError> {
        let request = StandingRequest {
            event_id: claimed.event_id,
            occurred_at: event.occurred_at,
            event_key: event.key.clone(),
            record: record.clone(),
        };
        self.standings.ask(request).await.map_err(|error| StepError::LedgerAway(error.to_string()))
    }

    /// The memory of one claim.
    pub fn memory<'a>(&'a self, claimed: &'a Claimed, playbook: &'a str) -> impl Memory + 'a {
        ClaimMemory { ledger: &self.ledger, claimed, playbook }
    }

    /// Commits a decision; `false` when the claim no longer held.
    pub async fn settle(&self, settlement: Settlement) -> Result<bool, GatherError<LedgerError>> {
        self.settlements.ask(settlement).await
    }
}

/// What was answered about parts of a context, in the ledger.
struct ClaimMemory<'a> {
    ledger: &'a Ledger,
    claimed: &'a Claimed,
    playbook: &'a str,
}

impl Memory for ClaimMemory<'_> {
    async fn recall(&self) -> Result<HashMap<String, String>, StepError> {
        Ok(retry::run(&PATIENCE, || self.ledger.condensed_parts(self.claimed.event_id, self.playbook)).await?)
    }

    async fn keep(&self, inference: &Inference) -> Result<(), StepError> {
        let Claimed { event_id, attempt, .. } = *self.claimed;
        let held = retry::run(&MORE_PATIENCE, || self.ledger.store_inference(event_id, attempt, inference)).await?;
        crash_point!("inference.after_part");
        if held { Ok(()) } else { Err(StepError::OutOfTime) }
    }
}
