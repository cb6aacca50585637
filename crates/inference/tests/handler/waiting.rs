//! What is remembered of an event that waits.

use broker::Handler;
use domain::{Event, EventState, Reason};
use ledger::{Claim, ClaimRequest, Claimed, Decision, Ledger, UnusableAnswer, Worker};

use crate::fixtures::{LEASE, delivery, handler, note_event};

async fn claim(ledger: &Ledger, event: &Event, message: &broker::Message) -> Claimed {
    let request = ClaimRequest { event, message_copy_id: message.copy_id, trace_id: None };
    match ledger.claim(&[request], &Worker::named("another"), LEASE).await.expect("asked").remove(0) {
        Claim::Granted(claimed) => claimed,
        Claim::Denied(denied) => panic!("not granted: {denied:?}"),
    }
}

#[tokio::test]
async fn an_answer_that_cannot_be_used_is_remembered_when_the_event_fails_before_it_comes_to_its_runs() {
    let (handler, ledger) = handler().await;
    let event = note_event(1);
    let message = maintenance::event_message(&event).expect("a message");
    let claimed = claim(&ledger, &event, &message).await;
    let unusable = vec![UnusableAnswer {
        playbook: "lead-qualification".to_owned(),
        playbook_version: "1".to_owned(),
        record: "contact 1".to_owned(),
        reason: Reason::Refused,
        detail: "the model refused to answer".to_owned(),
    }];
    let decision = Decision {
        event_id: claimed.event_id,
        attempt: claimed.attempt,
        state: EventState::Waiting,
        reason: Some(Reason::ModelPaused),
        detail: None,
        playbook: None,
        wait: None,
        inferences: vec![],
        commands: vec![],
        charges: vec![],
        unusable: unusable.clone(),
    };
    assert_eq!(ledger.commit_decisions(&[decision]).await.expect("committed"), [true]);

    // HubSpot cannot be reached, so that its records are not known.
    let disposition = handler.handle(delivery(&message, false)).await;
    let story = ledger.event_story(event.key.as_str()).await.expect("asked").expect("there");
    assert_eq!(story.reason, Some(Reason::HubSpotUnreachable), "{disposition:?}");
    assert_eq!(claim(&ledger, &event, &message).await.unusable, unusable);
}
