//! The unit of work: one playbook and one record, and what it meets.

use domain::{EventState, Playbook, RecordRef};
use inference::StepError;
use ledger::Standing;
use openai::models::Model;
use retry::{Failure, Remedy};

/// Why a unit needs nothing more; `None` when it has (or had) an answer.
pub type Settled = Option<(EventState, String)>;

/// Whether a unit has been answered already, by this event or a newer one.
pub fn settled(playbook: &Playbook, standing: &Standing) -> Option<Settled> {
    if standing.answered.contains(&playbook.name) {
        return Some(None);
    }
    let is_outdated = standing.answered_newer.contains(&playbook.name);
    is_outdated.then(|| Some((EventState::Superseded, "newer_event_answered".to_owned())))
}

/// One playbook and one record.
pub struct Unit<'a> {
    pub playbook: &'a Playbook,
    pub model: &'a Model,
    pub record: RecordRef,
}

/// A failure, and the playbook whose it is.
pub struct Setback {
    pub error: StepError,
    pub playbook: Option<String>,
}

impl<E: Into<StepError>> From<E> for Setback {
    fn from(error: E) -> Self {
        Self { error: error.into(), playbook: None }
    }
}

/// Of two failures the one whose remedy decides about the event: what can still succeed comes back, and with it the
/// rest; then what a person has to see; a record that is gone concerns nobody else.
pub fn worse(one: Option<Setback>, other: Setback) -> Setback {
    let rank = |setback: &Setback| match setback.error.remedy() {
        Remedy::Now { .. } | Remedy::Later { .. } | Remedy::Throttled { .. } => 2,
        Remedy::Park => 1,
        Remedy::Drop => 0,
    };
    match one {
        Some(one) if rank(&one) >= rank(&other) => one,
        _ => other,
    }
}
