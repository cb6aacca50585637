//! What becomes of the copies of one event's message: HubSpot delivers an event again, and RabbitMQ a message.

use broker::{Disposition, Handler, Message};
use domain::{Event, EventState, Reason};
use ledger::{Claim, ClaimRequest, Decision, Ledger, Worker};

use crate::fixtures::{LEASE, delivery, event, handler};

/// Claims `event` under `message` and parks it in the ledger, as a worker does that is killed before the message reaches the
/// parking lot.
async fn park_in_the_ledger(ledger: &Ledger, event: &Event, message: &Message) {
    let request = ClaimRequest { event, message_copy_id: message.copy_id, trace_id: None };
    let claims = ledger.claim(&[request], &Worker::named("killed"), LEASE).await.expect("asked");
    let Claim::Granted(claimed) = &claims[0] else { panic!("not granted: {claims:?}") };
    let decision = Decision {
        event_id: claimed.event_id,
        attempt: claimed.attempt,
        state: EventState::Parked,
        reason: Some(Reason::Refused),
        detail: None,
        playbook: None,
        wait: None,
        inferences: vec![],
        commands: vec![],
        charges: vec![],
        unusable: vec![],
    };
    assert_eq!(ledger.commit_decisions(&[decision]).await.expect("committed"), [true]);
}

#[tokio::test]
async fn an_event_is_parked_once_whatever_its_duplicates_waited_for() {
    let (handler, ledger) = handler().await;
    let event = event(1);
    let message = || maintenance::event_message(&event).expect("a message");
    let (parked, duplicate) = (message(), message());
    park_in_the_ledger(&ledger, &event, &parked).await;

    // A duplicate comes back from a retry queue, where it waited for Postgres or for an outage to end, or is redelivered
    // because its worker lost the connection.
    for reason in [Reason::LedgerUnavailable, Reason::OpenAiCircuitOpen, Reason::LeasedElsewhere] {
        let waited = duplicate.clone().with_reason(reason, "");
        assert_eq!(handler.handle(delivery(&waited, false)).await, Disposition::Done, "after {reason}");
    }
    assert_eq!(handler.handle(delivery(&duplicate, true)).await, Disposition::Done, "redelivered");

    // The message under which it was parked still has to reach the parking lot.
    let disposition = handler.handle(delivery(&parked, true)).await;
    assert!(matches!(disposition, Disposition::Park { reason: Reason::Parked, .. }), "{disposition:?}");
}
