//! What the deletion of a record means for what waits for it, and for what is known about it.

use domain::{
    Event, PortalId, Reason, RecordRef,
    event::{EventKind, Subject},
    inference::ErasureCause,
};
use ledger::LEDGER_RETRY;

use crate::{BatchedLedger, NothingToDo, StepError};

/// Cancels what waits for a record that was deleted. A privacy deletion (GDPR) also asks for everything that is known about
/// the record to be erased, which maintenance does within a minute; nothing else follows from it.
///
/// HubSpot sends `contact.privacyDeletion` and `contact.deletion` for the same record, in any order or batch (its guide to
/// webhooks), and each has its effect alone. Who made the change does not matter: an app may delete by our own token.
pub(super) async fn take(
    ledger: &BatchedLedger,
    ours: PortalId,
    event: &Event,
) -> Result<Option<NothingToDo>, StepError> {
    let Subject::Record { object_type, object_id } = &event.subject else { return Ok(None) };
    if event.portal_id != ours {
        return Ok(None);
    }
    let record = RecordRef { portal_id: ours, object_type: object_type.clone(), object_id: *object_id };
    let ledger = ledger.unbatched();
    match event.kind {
        EventKind::PrivacyDeletion => {
            // Boxed, as all that few events need: thousands of others wait in a future that must have room for it.
            let request = || ledger.request_erasure(&record, ErasureCause::PrivacyDeletion);
            Box::pin(retry::run(&LEDGER_RETRY, request)).await?;
            Ok(Some(NothingToDo::dropped(Reason::RecordErased)))
        }
        EventKind::Deletion => {
            let cancel = || ledger.cancel_waiting(&record, event.occurred_at);
            let cancelled = Box::pin(retry::run(&LEDGER_RETRY, cancel)).await?;
            tracing::debug!(cancelled, "cancelled what waited for a deleted record");
            Ok(None)
        }
        _ => Ok(None),
    }
}
