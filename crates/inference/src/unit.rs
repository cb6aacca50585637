//! The unit of work: one playbook and one record, and what it meets.

use domain::{Event, EventState, Playbook, RecordRef};
use inference::StepError;
use ledger::Standing;
use openai::models::Model;
use retry::{Failure, Remedy};

use crate::loop_guard::LoopGuard;

/// Why a unit needs nothing more; `None` when it has (or had) an answer.
pub type Settled = Option<(EventState, String)>;

/// Whether a unit has been answered already, by this event or a newer one, or is about to be by a newer one.
pub fn settled(playbook: &Playbook, standing: &Standing, loop_guard: &LoopGuard) -> Option<Settled> {
    if standing.answered.contains(&playbook.name) {
        return Some(None);
    }
    let because = match () {
        () if standing.answered_newer.contains(&playbook.name) => "newer_event_answered",
        () if waiting(standing)
            .any(|newer| loop_guard.stops(&newer).is_none() && playbook.is_made_pointless_by(&newer)) =>
        {
            "newer_event_waits"
        }
        () => return None,
    };
    Some(Some((EventState::Superseded, because.to_owned())))
}

/// The newer events of the record that somebody has begun with.
fn waiting(standing: &Standing) -> impl Iterator<Item = Event> {
    standing.newer_waiting.iter().filter_map(|payload| {
        let body = serde_json::to_vec(&[payload]).ok()?;
        hubspot::webhook::parse(&body).ok()?.pop()?.event.ok()
    })
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
