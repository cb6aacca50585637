//! Records that a writer lost while a call was out: that call may have landed after somebody else's, and HubSpot has no
//! compare-and-set. They are read again, and the ledger's newest value is written again where HubSpot holds another one
//! that no person set.

use std::time::Duration;

use domain::{
    AppId, RecordRef,
    write_command::{PropertyChange, WritePolicy},
};
use hubspot::{HubSpotClient, client::ObjectUpdate};
use ledger::{Ledger, LedgerError, Worker};
use maintenance::CircuitBreakers;
use settings::Settings;
use tokio_util::sync::CancellationToken;

/// Records looked at in one pass.
const BATCH: i64 = 50;

/// Why a record was not verified yet.
#[derive(Debug, thiserror::Error)]
enum VerifyError {
    #[error(transparent)]
    HubSpot(#[from] hubspot::HubSpotError),
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}

/// Verifies what is to be verified, every few minutes, until `stop`.
pub fn keep(
    settings: &Settings,
    hubspot: HubSpotClient,
    ledger: Ledger,
    circuit_breakers: CircuitBreakers,
    worker: &Worker,
    stop: &CancellationToken,
) -> Result<(), String> {
    let every = Duration::from_secs(settings.reconcile.interval_seconds.min(30));
    let verifier = Verifier {
        hubspot,
        ledger,
        // Not a writer's name: its batches must not give back what this holds.
        worker: Worker(format!("{}/verify", worker.0)),
        lease: Duration::from_secs(settings.writer.lease_seconds),
        ours: AppId(settings.hubspot.app_id.ok_or("hubspot.app_id is not set")?),
    };
    tokio::spawn(stop.clone().run_until_cancelled_owned(async move {
        loop {
            tokio::time::sleep(every).await;
            if circuit_breakers.open().is_none()
                && let Err(error) = verifier.pass().await
            {
                tracing::warn!(%error, "records are still to be verified");
            }
        }
    }));
    Ok(())
}

struct Verifier {
    hubspot: HubSpotClient,
    ledger: Ledger,
    worker: Worker,
    lease: Duration,
    ours: AppId,
}

impl Verifier {
    async fn pass(&self) -> Result<(), VerifyError> {
        let records = self.ledger.records_to_verify(BATCH).await?;
        if records.is_empty() {
            return Ok(());
        }
        // The calls of whoever lost the record are over: they end before their lease does.
        let locked = self.ledger.lock_records(&records, &self.worker, self.lease).await?;
        for record in records.iter().filter(|record| locked.contains(record)) {
            let mended = tokio::time::timeout(self.lease.mul_f64(0.8), self.verify(record)).await;
            match mended {
                Ok(Ok(mended)) => {
                    let outcome = if mended > 0 { "mended" } else { "right" };
                    metrics::counter!("leadline_verified_records_total", "outcome" => outcome).increment(1);
                    self.ledger.verified(record, &self.worker).await?;
                }
                // The lease ends by itself, and the record is still marked.
                Ok(Err(error)) => return Err(error),
                Err(_) => return Ok(()),
            }
        }
        Ok(())
    }

    /// Gives how many properties held something else than they should.
    async fn verify(&self, record: &RecordRef) -> Result<usize, VerifyError> {
        let newest = self.ledger.newest_values(record).await?;
        if newest.is_empty() {
            return Ok(0);
        }
        let names: Vec<_> = newest.iter().map(|write| write.property.clone()).collect();
        let read = self.hubspot.read_history(&record.object_type, &[record.object_id], &names).await?;
        // Gone, or merged away: there is nothing to mend.
        let Some(object) = read.found.into_iter().find(|object| object.id == record.object_id) else { return Ok(0) };
        let is_wrong = |write: &&ledger::LatestValue| {
            let held = object.properties.get(&write.property).and_then(Option::as_deref).unwrap_or_default();
            let last_set = object.history.get(&write.property).and_then(|history| history.first());
            let is_ours = last_set.is_some_and(|set| {
                set.source_type == "INTEGRATION" && set.source_id.as_deref() == Some(self.ours.to_string().as_str())
            });
            held != write.value && is_ours
        };
        let wrong: Vec<_> = newest.iter().filter(is_wrong).collect();
        if wrong.is_empty() {
            return Ok(0);
        }
        tracing::warn!(%record, properties = wrong.len(), "an older value had landed on a newer one; writing it again");
        let change = |write: &&ledger::LatestValue| PropertyChange {
            property: write.property.clone(),
            value: write.value.clone(),
            policy: WritePolicy::Always,
        };
        let changes: Vec<_> = wrong.iter().map(change).collect();
        self.hubspot.update(&record.object_type, &ObjectUpdate { id: record.object_id, changes: &changes }).await?;
        Ok(changes.len())
    }
}
