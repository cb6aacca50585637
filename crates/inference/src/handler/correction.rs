//! What a person's change of a property means that a playbook writes.

use domain::{Correction, CorrectionSource, Event, PortalId};
use hubspot::{client::ChangeAuthor, webhook::CUT};
use ledger::LEDGER_RETRY;

use crate::{BatchedLedger, StepError};

/// Records the value that a person set in place of the fleet's; of any other change nothing is stored. Nothing else follows
/// from it. Done again, it changes nothing: a worker may die before the event has ended.
pub(super) async fn record(ledger: &BatchedLedger, ours: PortalId, event: &Event) -> Result<(), StepError> {
    let Some(correction) = by_person(event).filter(|correction| correction.record.portal_id == ours) else {
        return Ok(());
    };
    let corrections = std::slice::from_ref(&correction);
    let record = || ledger.unbatched().record_corrections(corrections, CorrectionSource::Webhook);
    // Boxed, as in `deletion`.
    let recorded = Box::pin(retry::run(&LEDGER_RETRY, record)).await?;
    tracing::debug!(is_new = !recorded.is_empty(), "a person changed a property that a playbook writes");
    Ok(())
}

/// What a person set a property to. `None` for a change of anybody else, and for a value that may have been cut as it arrived: a
/// writer sees the whole of it when it reads the property.
fn by_person(event: &Event) -> Option<Correction> {
    let source = event.change_source.as_deref().map(ChangeAuthor::of);
    let property = event.property_name.clone().filter(|_| source == Some(ChangeAuthor::Person))?;
    let value = event.payload.get("propertyValue")?;
    let value = value.as_str().filter(|value| !value.ends_with(CUT))?;
    let value = Some(value).filter(|value| !value.is_empty()).map(ToOwned::to_owned);
    Some(Correction { record: event.record(), property, value, changed_at: event.occurred_at })
}
