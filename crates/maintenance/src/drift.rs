//! Drift: a version of a playbook one of whose rates leaves its bound is held back, and what it asks for is reviewed.

use std::{collections::BTreeMap, time::Duration};

use domain::DriftRate;
use ledger::{Drift, Ledger, LedgerError, PlaybookFigures, Worker};
use settings::DriftSection;

/// A version of a playbook that is in use.
#[derive(Debug, Clone, PartialEq)]
pub struct UsedVersion {
    /// The playbook's name.
    pub playbook: String,
    /// The hash of its file.
    pub version: String,
    /// The bounds in percent that are others than those of the settings.
    pub bounds: BTreeMap<DriftRate, f64>,
}

/// Holds the version back if its rates have left their bounds. Returns what was not known before.
///
/// # Errors
/// The ledger does not answer. What was found out before stays.
pub async fn check_drift(
    ledger: &Ledger,
    settings: &DriftSection,
    version: &UsedVersion,
    worker: &Worker,
) -> Result<Vec<Drift>, LedgerError> {
    let window = Duration::from_secs(settings.window_hours * 3_600);
    let from = ledger.drift_counted_from((&version.playbook, &version.version), window).await?;
    let figures = ledger.drift_figures(&version.playbook, from).await?;
    let mut held = Vec::new();
    for drift in drifts(settings, version, &figures) {
        if ledger.hold_back(&drift, from, worker).await? {
            tracing::warn!("held back, and what it asks for is reviewed: {drift}");
            held.push(drift);
        }
    }
    Ok(held)
}

/// The rates of one version that have left their bounds, each once: those of all models together come before those of one, because
/// `figures` are in this order.
fn drifts(settings: &DriftSection, used: &UsedVersion, figures: &[PlaybookFigures]) -> Vec<Drift> {
    let mut drifts: Vec<Drift> = Vec::new();
    for figures in figures.iter().filter(|figures| figures.version == used.version) {
        for kind in DriftRate::ALL.iter().copied() {
            let bound_percent = used.bounds.get(&kind).copied().unwrap_or_else(|| bound_percent(settings, kind));
            let rate = figures.rate(kind);
            let is_known = drifts.iter().any(|known| known.kind == kind);
            if is_known || rate.whole() < settings.min_sample.into() || !rate.is_surely_above(bound_percent / 100.0) {
                continue;
            }
            let UsedVersion { playbook, version, .. } = used.clone();
            drifts.push(Drift { playbook, version, model: figures.model.clone(), kind, rate, bound_percent });
        }
    }
    drifts
}

fn bound_percent(settings: &DriftSection, kind: DriftRate) -> f64 {
    match kind {
        DriftRate::Overridden => settings.max_overridden_percent,
        DriftRate::Refused => settings.max_refused_percent,
        DriftRate::Unverified => settings.max_unverified_percent,
        DriftRate::Parked => settings.max_parked_percent,
    }
}
