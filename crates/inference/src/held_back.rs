//! Versions of playbooks that are held back because a rate of theirs left its bound: what they ask for is reviewed.
//!
//! What counts is in the ledger ([`maintenance::check_drift`] finds it out), so that it survives restarts and holds for all workers.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use domain::{DriftRate, review::WriteMode};
use ledger::{DriftEntry, Ledger, LedgerError};
use maintenance::UsedVersion;
use playbook::Playbook;
use service::Readiness;

use crate::ConfiguredPlaybook;

/// How often a worker looks which versions are held back.
pub const DRIFT_POLL: Duration = Duration::from_secs(10);

/// Which of a worker's playbooks are held back. Cheap to clone; clones share what is known.
#[derive(Clone)]
pub struct HeldBack(Arc<Shared>);

struct Shared {
    ledger: Ledger,
    used: Vec<UsedVersion>,
    /// `None` until the ledger has said it once.
    known: Mutex<Option<Vec<DriftEntry>>>,
}

impl HeldBack {
    /// Those of these playbooks. One in shadow writes nothing that could be held back.
    pub(crate) fn of(playbooks: &[ConfiguredPlaybook], ledger: &Ledger) -> Self {
        let writing = playbooks.iter().map(|one| &one.playbook).filter(|one| one.review.mode != WriteMode::Shadow);
        let used = writing.map(version_of).collect();
        Self(Arc::new(Shared { ledger: ledger.clone(), used, known: Mutex::new(None) }))
    }

    /// The versions that may be held back.
    pub(crate) fn used(&self) -> &[UsedVersion] {
        &self.0.used
    }

    /// The mode that everything has at least that the playbook asks for now.
    ///
    /// # Errors
    /// The ledger has not said it yet, and does not answer.
    pub async fn least_mode(&self, playbook: &Playbook) -> Result<WriteMode, LedgerError> {
        if self.known().is_none() {
            self.refresh().await?;
        }
        let is_held = self.known().iter().flatten().any(|entry| is_of(entry, &playbook.name, &playbook.version));
        Ok(if is_held { WriteMode::Review } else { WriteMode::Live })
    }

    /// Asks the ledger which of the versions are held back, and tells it that they are in use.
    ///
    /// # Errors
    /// The ledger does not answer. What was known stays.
    pub async fn refresh(&self) -> Result<(), LedgerError> {
        let Shared { ledger, used, .. } = &*self.0;
        let mut held = ledger.held_back().await?;
        held.retain(|entry| used.iter().any(|one| is_of(entry, &one.playbook, &one.version)));
        let is_any = !held.is_empty();
        let before = self.known().replace(held).unwrap_or_default();
        self.tell(&before);
        if !is_any {
            return Ok(());
        }
        let versions: Vec<_> = used.iter().map(|one| (one.playbook.clone(), one.version.clone())).collect();
        ledger.note_held_versions_in_use(&versions).await
    }

    /// Logs what is not as it was, and sets the gauges.
    fn tell(&self, before: &[DriftEntry]) {
        let known = self.known();
        let held = known.as_deref().unwrap_or_default();
        for DriftEntry { drift, .. } in held.iter().filter(|entry| !before.iter().any(|old| old.drift == entry.drift)) {
            tracing::warn!("what it asks for is reviewed until it is resumed: {drift}");
        }
        for UsedVersion { playbook, version, .. } in &self.0.used {
            let is_held = |entries: &[DriftEntry]| entries.iter().any(|entry| is_of(entry, playbook, version));
            if is_held(before) && !is_held(held) {
                tracing::info!("{playbook}@{version} goes on as its file says");
            }
            for kind in DriftRate::ALL {
                let is_out = |entry: &DriftEntry| is_of(entry, playbook, version) && entry.drift.kind == *kind;
                let labels = [("playbook", playbook.clone()), ("rate", kind.as_str().to_owned())];
                metrics::gauge!("leadline_playbook_held_back", &labels).set(if held.iter().any(is_out) {
                    1.0
                } else {
                    0.0
                });
            }
        }
    }

    /// Adds a warning to `/readyz` of every version that is held back.
    pub(crate) fn add_note(&self, readiness: Readiness) -> Readiness {
        let held_back = self.clone();
        readiness.with_note(move || held_back.warning())
    }

    /// Which versions are held back, and why; `None` while there are none.
    pub fn warning(&self) -> Option<String> {
        let known = self.known();
        let said: Vec<_> = known.iter().flatten().map(|entry| format!("in review: {}", entry.drift)).collect();
        (!said.is_empty()).then(|| said.join("; "))
    }

    /// Goes on asking the ledger.
    pub(crate) async fn watch(&self) {
        loop {
            if let Err(error) = self.refresh().await {
                tracing::debug!(%error, "the ledger does not say which playbooks are held back");
            }
            tokio::time::sleep(DRIFT_POLL).await;
        }
    }

    fn known(&self) -> MutexGuard<'_, Option<Vec<DriftEntry>>> {
        self.0.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn version_of(Playbook { name, version, drift, .. }: &Playbook) -> UsedVersion {
    UsedVersion { playbook: name.clone(), version: version.clone(), bounds: drift.clone() }
}

fn is_of(DriftEntry { drift, .. }: &DriftEntry, playbook: &str, version: &str) -> bool {
    drift.playbook == playbook && drift.version == version
}
