//! What was answered is not asked (and paid for) again.

use std::time::Duration;

use domain::{Event, EventState, Inference, Reason, inference::InferenceOutcome};
use ledger::{Claimed, Decision, PriorAnswers, PriorAnswersRequest};
use serde_json::json;

use crate::{
    fixtures::{PLAYBOOK, TestLedger, decision, decision_with_commands, event, inference},
    undo::{request, undo_to},
};

const DAY: Duration = Duration::from_secs(86_400);

async fn prior_answers(test: &TestLedger, event: &Event, claimed: &Claimed) -> PriorAnswers {
    let request = PriorAnswersRequest {
        event_id: claimed.event_id,
        occurred_at: event.occurred_at,
        event_key: event.key.clone(),
        record: event.record(),
    };
    test.ledger.prior_answers(&[request], DAY).await.expect("asked").remove(0)
}

#[tokio::test]
async fn answers_of_earlier_claims_and_of_newer_events_are_known() {
    let test = TestLedger::new().await;
    let (older, newer) = (event(1, 1), event(1, 2));
    let claimed = test.claimed(&older, "a").await;
    assert_eq!(prior_answers(&test, &older, &claimed).await, PriorAnswers::default());

    let mut waits = decision_with_commands(&older, &claimed, 1);
    (waits.state, waits.reason) = (EventState::Waiting, Some(Reason::OpenAiUnavailable));
    assert!(test.commit(&waits).await);
    let again = test.claimed(&older, "a").await;
    let answers = prior_answers(&test, &older, &again).await;
    let answer = answers.answered.get(PLAYBOOK).expect("answered");
    assert_eq!((answer.inference_id, answer.has_commands), (waits.inferences[0].id, true));
    assert!(answers.answered_newer.is_empty(), "{answers:?}");
    assert!(answers.known_contexts[PLAYBOOK].contains("hash of the context"), "{answers:?}");

    test.decided(&newer).await;
    let answers = prior_answers(&test, &older, &again).await;
    assert!(answers.answered_newer.contains(PLAYBOOK), "{answers:?}");
    assert_eq!(answers.newer_waiting, [json!(newer.payload)], "it is not written yet");
    // An event of another record has no prior answers.
    let other = event(2, 1);
    let claimed = test.claimed(&other, "a").await;
    assert_eq!(prior_answers(&test, &other, &claimed).await, PriorAnswers::default());
}

#[tokio::test]
async fn the_newest_five_unfinished_newer_events_are_given_and_finished_ones_are_not() {
    let test = TestLedger::new().await;
    let oldest = event(1, 1);
    let claimed = test.claimed(&oldest, "a").await;
    for n in 2..=8 {
        let newer = test.claimed(&event(1, n), "a").await;
        if n == 8 {
            assert!(test.commit(&decision(&newer, EventState::Skipped, Some(Reason::EmptyContext))).await);
        }
    }
    let waiting = prior_answers(&test, &oldest, &claimed).await.newer_waiting;
    let numbers: Vec<_> = waiting.iter().map(|payload| payload["n"].as_i64().expect("a number")).collect();
    assert_eq!(numbers, [7, 6, 5, 4, 3]);
}

#[tokio::test]
async fn a_context_that_is_older_than_asked_for_does_not_count() {
    let test = TestLedger::new().await;
    test.decided(&event(1, 1)).await;
    let newer = event(1, 2);
    let claimed = test.claimed(&newer, "a").await;
    let answers = prior_answers(&test, &newer, &claimed).await;
    assert!(answers.known_contexts[PLAYBOOK].contains("hash of the context"), "{answers:?}");
    test.run("update inference set created_at = created_at - interval '25 hours'").await;
    assert!(prior_answers(&test, &newer, &claimed).await.known_contexts.is_empty());
}

#[tokio::test]
async fn an_answer_that_is_stored_before_the_decision_survives_its_worker() {
    let test = TestLedger::new().await;
    let event = event(1, 1);
    let part = |hash: &str, outcome| Inference {
        part: Some(hash.to_owned()),
        context_hash: None,
        answer: format!("summary of {hash}"),
        outcome,
        ..inference(&event.record())
    };
    let claimed = test.claimed(&event, "a").await;
    let store = async |attempt, inference: &Inference| {
        test.ledger.store_inference(claimed.event_id, attempt, inference, &[]).await.expect("stored")
    };
    assert!(store(1, &part("first", InferenceOutcome::Valid)).await);
    assert!(store(1, &part("second", InferenceOutcome::Invalid)).await);
    assert!(store(1, &part("first", InferenceOutcome::Valid)).await, "twice is once");

    test.end_event_leases().await;
    let newer = test.claimed(&event, "b").await;
    assert!(!store(1, &part("third", InferenceOutcome::Valid)).await, "the claim is not the worker's any more");
    let hashes = ["first", "second", "third"].map(ToOwned::to_owned);
    let parts = async |contact| {
        let record = crate::fixtures::contact(contact);
        let parts = test.ledger.condensed_parts(&record, PLAYBOOK, &hashes).await.expect("asked");
        parts.into_iter().collect::<Vec<_>>()
    };
    let known = [("first".to_owned(), "summary of first".to_owned())];
    assert_eq!(parts(1).await, known, "for whichever event of the record");
    assert_eq!(parts(2).await, []);
    let answers = prior_answers(&test, &event, &newer).await;
    assert!(answers.answered.is_empty(), "a part is no answer about the record: {answers:?}");
}

/// The handler stores such an answer without the hash of its context.
#[tokio::test]
async fn an_answer_without_a_plan_is_given_back_and_stands_in_for_nothing_else() {
    let test = TestLedger::new().await;
    let (older, newer, newest) = (event(1, 1), event(1, 2), event(1, 3));
    let claimed = test.claimed(&newer, "a").await;
    let unplanned =
        Inference { context_hash: None, unverified: vec!["budget".to_owned()], ..inference(&newer.record()) };
    let inferences = vec![unplanned.clone()];
    let parked = decision(&claimed, EventState::Parked, Some(Reason::TemplateFailed));
    assert!(test.commit(&Decision { inferences, ..parked }).await);
    let own = prior_answers(&test, &newer, &claimed).await;
    let answer = &own.answered[PLAYBOOK];
    assert_eq!((answer.inference_id, answer.has_commands), (unplanned.id, false));
    assert_eq!((&answer.model, &answer.unverified), (&unplanned.model, &unplanned.unverified));
    assert_eq!(answer.fields.clone().map(serde_json::Value::Object), Some(unplanned.fields.clone()));
    // Neither an older nor a newer event of the record is told that the playbook has done its work.
    for other in [&older, &newest] {
        let claimed = test.claimed(other, "a").await;
        let answers = prior_answers(&test, other, &claimed).await;
        assert!(answers.answered_newer.is_empty() && answers.known_contexts.is_empty(), "{answers:?}");
    }
    // A playbook that was changed since may answer once more; then that answer is the one that counts.
    assert!(test.ledger.replay_event(newer.key.as_str()).await.expect("replayed"));
    let again = test.claimed(&newer, "b").await;
    let mut mended = decision_with_commands(&newer, &again, 1);
    mended.inferences[0].playbook_version = "def456".to_owned();
    assert!(test.commit(&mended).await);
    let answer = prior_answers(&test, &newer, &again).await.answered[PLAYBOOK].clone();
    assert_eq!((answer.inference_id, answer.has_commands), (mended.inferences[0].id, true));
}

/// An older answer's context may be there again because its values are: what was undone would be written once more.
#[tokio::test]
async fn a_context_whose_answer_was_undone_is_known_also_when_it_is_not_the_last_one() {
    let test = TestLedger::new().await;
    let (first, second, third) = (event(1, 1), event(1, 2), event(1, 3));
    let mut commands = Vec::new();
    for (event, hash) in [(&first, "first"), (&second, "second")] {
        let claimed = test.claimed(event, "a").await;
        let mut decision = decision_with_commands(event, &claimed, 1);
        decision.inferences[0].context_hash = Some(hash.to_owned());
        assert!(test.commit(&decision).await);
        test.written(&decision.commands[0], "a").await;
        commands.push(decision.commands.remove(0));
    }
    let claimed = test.claimed(&third, "a").await;
    let known = async || {
        let mut known: Vec<_> =
            prior_answers(&test, &third, &claimed).await.known_contexts[PLAYBOOK].iter().cloned().collect();
        known.sort();
        known
    };
    assert_eq!(known().await, ["second"]);
    // One command takes both writes back.
    let mut undo = undo_to(&commands[1], "");
    undo.undone_writes.push((commands[0].id, "lead_score".to_owned()));
    assert_eq!(test.ledger.record_undo(&request(), std::slice::from_ref(&undo)).await.expect("recorded"), [undo.id]);
    assert_eq!(known().await, ["first", "second"]);
}
