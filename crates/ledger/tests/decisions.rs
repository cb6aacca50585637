//! A decision commits all that belongs to it, or nothing.

use std::time::Duration;

use domain::{CommandState, EventState, InferenceId, Reason, inference::InferenceOutcome};

use ledger::{Decision, UnusableAnswer};

use crate::fixtures::{TestLedger, decision, decision_with_commands, event, inference, result};

const ROWS: &str =
    "select format('%s inferences, %s prompts, %s commands, %s actions', (select count(*) from inference),
    (select count(*) from inference_raw), (select count(*) from write_command), (select count(*) from action))";

#[tokio::test]
async fn a_decision_commits_inferences_commands_and_actions_together() {
    let test = TestLedger::new().await;
    let event = event(1, 1);
    let claimed = test.claimed(&event, "a").await;
    assert!(test.commit(&decision_with_commands(&event, &claimed, 2)).await);
    assert_eq!(test.state(&event).await, (EventState::Decided, None));
    assert_eq!(test.value::<String>(ROWS).await, "2 inferences, 2 prompts, 2 commands, 2 actions");
    let story = test.ledger.event_story(event.key.as_str()).await.expect("asked").expect("known");
    let states: Vec<_> = story.history.iter().map(|entry| (entry.from_state, entry.state)).collect();
    assert_eq!(states, [(None, EventState::Claimed), (Some(EventState::Claimed), EventState::Decided)]);
    assert_eq!(story.inferences[0].outcome, InferenceOutcome::Valid);
    assert_eq!(story.inferences[0].answer.as_deref(), Some(r#"{"lead_score": 85}"#));
}

#[tokio::test]
async fn a_late_decision_of_an_old_attempt_commits_nothing() {
    let test = TestLedger::new().await;
    let (taken_over, own) = (event(1, 1), event(2, 1));
    let late = test.claimed(&taken_over, "a").await;
    test.end_event_leases().await;
    let newer = test.claimed(&taken_over, "b").await;
    let still_held = test.claimed(&own, "a").await;
    let decisions = [decision_with_commands(&taken_over, &late, 1), decision_with_commands(&own, &still_held, 1)];
    let committed = test.ledger.commit_decisions(&decisions).await.expect("committed");
    assert_eq!(committed, [false, true], "the other one of the batch counts");
    assert_eq!(test.value::<String>(ROWS).await, "1 inferences, 1 prompts, 1 commands, 1 actions");
    assert_eq!(test.state(&taken_over).await, (EventState::Claimed, None));

    assert!(test.commit(&decision(&newer, EventState::Skipped, Some(Reason::Guard))).await);
    let again = test.ledger.commit_decisions(&decisions).await.expect("committed");
    assert_eq!(again, [false, false], "nothing is decided twice");
}

#[tokio::test]
async fn a_decision_that_cannot_be_stored_leaves_nothing() {
    let test = TestLedger::new().await;
    let event = event(1, 1);
    let claimed = test.claimed(&event, "a").await;
    let mut decision = decision_with_commands(&event, &claimed, 1);
    decision.commands[0].inference_id = InferenceId::new();
    let error = test.ledger.commit_decisions(&[decision]).await.expect_err("a command of an unknown inference");
    assert!(!error.is_away(), "{error}");
    assert_eq!(test.value::<String>(ROWS).await, "0 inferences, 0 prompts, 0 commands, 0 actions");
    assert_eq!(test.state(&event).await, (EventState::Claimed, None));
}

#[tokio::test]
async fn a_valid_answer_is_stored_once_and_others_as_often_as_they_were_paid_for() {
    let test = TestLedger::new().await;
    let event = event(1, 1);
    let record = event.record();
    for attempt in 1..=2 {
        let claimed = test.claimed(&event, "a").await;
        assert_eq!(claimed.attempt, attempt);
        let mut waits = decision(&claimed, EventState::Waiting, Some(Reason::OpenAiUnavailable));
        let mut invalid = inference(&record);
        invalid.outcome = InferenceOutcome::Invalid;
        waits.inferences = vec![inference(&record), invalid];
        assert!(test.commit(&waits).await);
    }
    let counts: String = test
        .value(
            "select string_agg(format('%s %s', n, outcome), ', ' order by outcome) from
        (select count(*) as n, outcome from inference group by outcome) as counts",
        )
        .await;
    assert_eq!(counts, "2 invalid, 1 valid");
    assert_eq!(test.value::<i64>("select count(*) from inference_raw").await, 3, "one prompt for each that is stored");
}

#[tokio::test]
async fn a_zero_character_in_an_answer_is_stored_as_a_replacement() {
    let test = TestLedger::new().await;
    let event = event(1, 1);
    let claimed = test.claimed(&event, "a").await;
    let mut decision = decision_with_commands(&event, &claimed, 1);
    decision.inferences[0].answer = "a\0b".to_owned();
    decision.inferences[0].unverified = vec!["lead_score".to_owned(), "stage".to_owned()];
    assert!(test.commit(&decision).await);
    let story = test.ledger.event_story(event.key.as_str()).await.expect("asked").expect("known");
    assert_eq!(story.inferences[0].answer.as_deref(), Some("a\u{fffd}b"));
    assert_eq!(story.inferences[0].unverified, ["lead_score", "stage"]);
}

#[tokio::test]
async fn a_waiting_event_says_when_its_message_comes_out_of_the_retry_queue() {
    let test = TestLedger::new().await;
    let event = event(1, 1);
    let claimed = test.claimed(&event, "a").await;
    let mut waits = decision(&claimed, EventState::Waiting, Some(Reason::HubSpotTimeout));
    (waits.wait, waits.detail) = (Some(Duration::from_secs(300)), Some("no answer within 10 s".to_owned()));
    assert!(test.commit(&waits).await);
    let is_right: bool = test
        .value("select due_at between now() + '4 minutes' and now() + '5 minutes' and finished_at is null from event")
        .await;
    assert!(is_right);
    test.claimed(&event, "b").await;
    assert!(test.value::<bool>("select due_at is null from event").await);
}

/// What one claim decided may be carried out while the event still waits for another playbook.
#[tokio::test]
async fn a_decision_ends_the_event_when_the_commands_of_earlier_claims_are_finished() {
    let test = TestLedger::new().await;
    let event = event(1, 1);
    let claimed = test.claimed(&event, "a").await;
    let mut waits = decision_with_commands(&event, &claimed, 1);
    (waits.state, waits.reason) = (EventState::Waiting, Some(Reason::OpenAiUnavailable));
    assert!(test.commit(&waits).await);
    let again = test.claimed(&event, "b").await;
    let attempt = test.claimed_command(&waits.commands[0], "writer").await;
    let dropped = result(&waits.commands[0], attempt, CommandState::Dropped, Some(Reason::RecordGone));
    assert!(test.finish(&dropped, "writer").await);
    assert_eq!(test.state(&event).await, (EventState::Claimed, None), "it is not decided yet");
    assert!(test.commit(&decision(&again, EventState::Decided, None)).await);
    assert_eq!(test.state(&event).await, (EventState::Dropped, Some(Reason::RecordGone)));
}

/// A server may say megabytes about an error.
#[tokio::test]
async fn a_detail_is_stored_up_to_a_length() {
    let test = TestLedger::new().await;
    let claimed = test.claimed(&event(1, 1), "a").await;
    let detail = Some("é".repeat(1_000_000));
    let parked = decision(&claimed, EventState::Parked, Some(Reason::OpenAiInvalidRequest));
    assert!(test.commit(&Decision { detail, ..parked }).await);
    let longest = "select greatest(max(length(e.detail)), max(length(h.detail)))
                   from event e join event_history h on h.event_id = e.id";
    assert_eq!(test.value::<i32>(longest).await, 2_000);
}

#[tokio::test]
async fn answers_that_cannot_be_used_are_remembered_while_the_event_waits_and_no_longer() {
    let test = TestLedger::new().await;
    let event = event(1, 1);
    let claimed = test.claimed(&event, "a").await;
    assert_eq!(claimed.unusable, []);
    let unusable = UnusableAnswer {
        playbook: "leads".to_owned(),
        playbook_version: "1".to_owned(),
        record: event.record().to_string(),
        reason: Reason::SchemaInvalid,
        detail: "no number".to_owned(),
    };
    let waits =
        |claimed, unusable| Decision { unusable, ..decision(claimed, EventState::Waiting, Some(Reason::ModelPaused)) };
    assert!(test.commit(&waits(&claimed, vec![unusable.clone()])).await);
    let claimed = test.claimed(&event, "b").await;
    assert_eq!(claimed.unusable, std::slice::from_ref(&unusable));
    assert!(unusable.is_of("leads", "1", &event.record()) && !unusable.is_of("leads", "2", &event.record()));
    assert!(test.commit(&waits(&claimed, claimed.unusable.clone())).await);
    let claimed = test.claimed(&event, "b").await;
    assert!(test.commit(&decision(&claimed, EventState::Parked, Some(Reason::SchemaInvalid))).await);
    let left: i64 = test.value("select count(*) from event where unusable_answers is not null").await;
    assert_eq!(left, 0, "a replay asks again");
}
