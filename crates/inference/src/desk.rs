//! The ledger's desk: questions of single events, asked in batches.

use std::{sync::Arc, time::Duration};

use domain::Event;
use ledger::{Claim, ClaimRequest, Ledger, LedgerError, Settlement, Worker};
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
    settlements: Gather<Settlement, bool, LedgerError>,
}

impl Desk {
    pub fn open(settings: &Settings, ledger: &Ledger) -> Self {
        let limits = GatherLimits {
            max: settings.ledger.gather_max,
            window: Duration::from_millis(settings.ledger.gather_ms),
            parallel: PARALLEL,
        };
        let lease = Duration::from_secs(settings.inference.lease_seconds);
        let worker = Worker::named("inference");
        let claiming = ledger.clone();
        let claims = Gather::start(
            limits,
            move |asked: Vec<Ask>| {
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
        let settling = ledger.clone();
        let settlements = Gather::start(
            limits,
            move |settlements: Vec<Settlement>| {
                let ledger = settling.clone();
                async move { retry::run(&MORE_PATIENCE, || ledger.settle(&settlements)).await }
            },
            |error| !error.is_away(),
        );
        Self { claims, settlements }
    }

    /// Claims an event.
    pub async fn claim(&self, event: Arc<Event>) -> Result<Claim, GatherError<LedgerError>> {
        self.claims.ask((event, broker::current_trace_id())).await
    }

    /// Commits a decision; `false` when the claim no longer held.
    pub async fn settle(&self, settlement: Settlement) -> Result<bool, GatherError<LedgerError>> {
        self.settlements.ask(settlement).await
    }
}
