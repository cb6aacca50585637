//! Verifies records whose lease a writer lost during a call.
//!
//! HubSpot has no compare-and-set: such a call may take effect after that of the writer which took the record over. Such
//! a record is read again, and the ledger's newest value is written again where HubSpot has another value that our own
//! app set.

use std::time::Duration;

use broker::Tries;
use domain::{
    Reason, RecordRef,
    write_command::{PropertyChange, WritePolicy},
};
use hubspot::{
    HubSpotClient, HubSpotError,
    client::{CrmObject, ObjectUpdate, PastValue},
};
use ledger::{LatestValue, Ledger, LedgerError, Recovery, Worker};
use maintenance::CircuitBreakers;
use retry::Failure;
use tokio_util::sync::CancellationToken;

use crate::{
    deals::STAGE,
    failure::RecordLeftOut,
    missing::{Found, look_up},
    policy::WriteRules,
};

/// The most records in one pass.
const MAX_RECORDS: i64 = 50;

/// A record is given up after so many passes that failed because of it.
const MAX_FAILURES: i32 = 5;

/// The share of a lease within which a record is verified. The rest is a margin for a call that is slow to end.
const SHARE_FOR_CALLS: f64 = 0.8;

/// Why a record was not verified.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// HubSpot rejected a call or did not answer.
    #[error(transparent)]
    HubSpot(#[from] HubSpotError),
    /// The record is there, and HubSpot's answer to an update of it leaves it out.
    #[error(transparent)]
    LeftOut(#[from] RecordLeftOut),
    /// The ledger does not answer.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}

impl VerifyError {
    /// Whether it concerns one record, and says nothing of the others.
    fn is_of_record(&self) -> bool {
        match self {
            Self::HubSpot(error) => error.outage().is_none(),
            Self::LeftOut(_) => true,
            Self::Ledger(_) => false,
        }
    }
}

/// Verifies records and repairs their values.
pub struct Verifier {
    hubspot: HubSpotClient,
    ledger: Ledger,
    worker: Worker,
    lease: Duration,
    rules: WriteRules,
}

impl Verifier {
    /// Verifies under leases of `lease`. `worker` is the name of the process; the verifier adds to it, so that no batch
    /// returns the verifier's leases.
    pub fn new(hubspot: HubSpotClient, ledger: Ledger, worker: &Worker, lease: Duration, rules: WriteRules) -> Self {
        Self { hubspot, ledger, worker: Worker(format!("{}/verify", worker.0)), lease, rules }
    }

    /// Makes a pass every `interval` until `stop`, except while a circuit breaker is open.
    pub fn start(self, interval: Duration, circuit_breakers: CircuitBreakers, stop: &CancellationToken) {
        tokio::spawn(stop.clone().run_until_cancelled_owned(async move {
            loop {
                tokio::time::sleep(interval).await;
                if circuit_breakers.wait_reason(&Tries::default()).is_none()
                    && let Err(error) = self.pass().await
                {
                    tracing::warn!(%error, "records were not verified; trying again at the next pass");
                }
            }
        }));
    }

    /// Verifies the records that are due now, up to 50.
    ///
    /// # Errors
    ///
    /// When HubSpot or the ledger is away. The remaining records stay marked.
    pub async fn pass(&self) -> Result<(), VerifyError> {
        let records = self.ledger.records_to_verify(MAX_RECORDS).await?;
        if records.is_empty() {
            return Ok(());
        }
        // A lease can be taken once the previous one has expired, and every call under that one has ended by then.
        let locked = self.ledger.lock_records(&records, &self.worker, self.lease).await?;
        let recovery = self.ledger.recovery().await?;
        for record in records.iter().filter(|record| locked.contains(record)) {
            let Ok(repaired) =
                tokio::time::timeout(self.lease.mul_f64(SHARE_FOR_CALLS), self.verify(record, recovery)).await
            else {
                // The lease expires, and the record is still marked.
                return Ok(());
            };
            let outcome = match repaired {
                Ok(0) => "consistent",
                Ok(_) => "repaired",
                // This one stays marked, but not for ever.
                Err(error) if error.is_of_record() => {
                    tracing::warn!(%record, %error, "the record was not verified");
                    if self.ledger.count_failed_verification(record).await? < MAX_FAILURES {
                        continue;
                    }
                    "given_up"
                }
                Err(error) => return Err(error),
            };
            metrics::counter!("leadline_verified_records_total", "outcome" => outcome).increment(1);
            self.ledger.finish_verification(record, &self.worker).await?;
        }
        Ok(())
    }

    /// A deal's stage is protected, and yet written by an action.
    fn may_repair(&self, property: &str) -> bool {
        property == STAGE || !self.rules.protected_properties.contains(property)
    }

    /// Compares a record with the ledger and returns how many properties were written again.
    async fn verify(&self, record: &RecordRef, recovery: Option<Recovery>) -> Result<usize, VerifyError> {
        let mut newest = self.ledger.latest_values(record).await?;
        newest.retain(|write| self.may_repair(&write.property));
        if newest.is_empty() {
            return Ok(0);
        }
        let names: Vec<_> = newest.iter().map(|write| write.property.clone()).collect();
        let read = self.hubspot.read_history(&record.object_type, &[record.object_id], &names).await?;
        let object = match read.into_iter().find(|object| object.id == record.object_id) {
            Some(object) => object,
            None => match self.look_up(record, &names).await? {
                Some(object) => object,
                None => return Ok(0),
            },
        };
        let is_outdated = |write: &&LatestValue| {
            let current = object.properties.get(&write.property).and_then(Option::as_deref).unwrap_or_default();
            let last_set = object.history.get(&write.property).and_then(|history| history.first());
            // What the fleet set before a recovery may be newer than what the ledger still knows.
            let is_late = |set: &PastValue| {
                set.is_by_app(self.rules.app_id) && !recovery.is_some_and(|recovery| recovery.is_after(set.timestamp))
            };
            current != write.value && last_set.is_some_and(is_late)
        };
        let change = |write: &LatestValue| PropertyChange {
            property: write.property.clone(),
            value: write.value.clone(),
            policy: WritePolicy::Always,
            expected: None,
        };
        let changes: Vec<_> = newest.iter().filter(is_outdated).map(change).collect();
        if !changes.is_empty() {
            tracing::warn!(%record, properties = changes.len(), "HubSpot has older values than the ledger; writing the newest");
        }
        self.repair(record, changes).await
    }

    /// Reads a record alone that a batch call leaves out; `None` when nothing is to be repaired in it.
    async fn look_up(&self, record: &RecordRef, names: &[String]) -> Result<Option<CrmObject>, VerifyError> {
        match look_up(&self.hubspot, record, names).await {
            Ok(Found::There(object)) => Ok(Some(object)),
            Ok(Found::Merged(merged)) => {
                // A late call about the old id has changed the record that survived.
                self.ledger.record_merges(&merged.merges).await?;
                let survivor = RecordRef { object_id: merged.survivor, ..record.clone() };
                self.ledger.mark_for_verification(&[survivor]).await?;
                Ok(None)
            }
            // It was deleted.
            Err(error) if error.reason() == Reason::RecordGone => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Writes values again and returns how many. A property that HubSpot refuses costs the record no other one.
    async fn repair(&self, record: &RecordRef, mut changes: Vec<PropertyChange>) -> Result<usize, VerifyError> {
        while !changes.is_empty() {
            let update = ObjectUpdate { id: record.object_id, changes: &changes };
            let error = match self.hubspot.update(&record.object_type, &update).await {
                Ok(true) => break,
                // It was merged or deleted a moment ago.
                Ok(false) => {
                    return self.look_up(record, &[]).await?.map_or(Ok(0), |_| Err(RecordLeftOut.into()));
                }
                Err(error) => error,
            };
            let sent = changes.len();
            changes.retain(|change| !error.api().is_some_and(|refusal| refusal.is_about(&change.property)));
            if changes.len() == sent {
                return Err(error.into());
            }
            tracing::warn!(%record, %error, "HubSpot refuses a value of the ledger; it is left out");
        }
        Ok(changes.len())
    }
}
