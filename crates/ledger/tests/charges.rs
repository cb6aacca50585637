//! A request to the model is in the ledger before it is sent, and what it cost when its answer is known. What the questions
//! about one record may cost in a day has an end.

use domain::{
    ChargeId, Event, EventState, Inference, InferenceId, Reason, RecordRef,
    inference::{ChargeState, TokenUsage},
    model::ServiceTier,
};
use ledger::{ChargeRequest, Claimed, Decision, EventCost, RecordLimits, SettledCharge};

use crate::fixtures::{PLAYBOOK, TestLedger, contact, decision, event, inference};

fn request(claimed: &Claimed, record: &RecordRef, micro_dollars: i64) -> ChargeRequest {
    ChargeRequest {
        id: ChargeId::new(),
        event_id: claimed.event_id,
        attempt: claimed.attempt,
        inference_id: InferenceId::new(),
        playbook: PLAYBOOK.to_owned(),
        record: record.clone(),
        model: "gpt-4o".to_owned(),
        most_micro_dollars: micro_dollars,
        record_limits: RecordLimits { all: Some(1_000), playbook: None },
    }
}

fn settled(request: &ChargeRequest, state: ChargeState, micro_dollars: i64) -> SettledCharge {
    SettledCharge { id: request.id, state, micro_dollars }
}

async fn begin(test: &TestLedger, requests: &[ChargeRequest]) -> Vec<bool> {
    test.ledger.begin_charges(requests).await.expect("asked")
}

async fn cost(test: &TestLedger, event: &Event) -> EventCost {
    test.ledger.event_story(event.key.as_str()).await.expect("asked").expect("known").cost
}

#[tokio::test]
async fn a_reservation_counts_until_it_is_settled() {
    let test = TestLedger::new().await;
    let event = event(1, 1);
    let claimed = test.claimed(&event, "a").await;
    let requests = [700, 200, 100].map(|most| request(&claimed, &contact(1), most));
    assert_eq!(begin(&test, &requests).await, [true, true, true]);
    let all = EventCost { requests: 3, micro_dollars: Some(1_000), estimated_micro_dollars: 1_000 };
    assert_eq!(cost(&test, &event).await, all);
    assert_eq!(begin(&test, &requests).await, [true, true, true], "the same batch again, whose answer was lost");
    assert_eq!(cost(&test, &event).await, all);

    let mut decided = decision(&claimed, EventState::Waiting, Some(Reason::OpenAiUnavailable));
    decided.charges = vec![
        settled(&requests[0], ChargeState::Answered, 300),
        settled(&requests[1], ChargeState::Estimated, 200),
        settled(&requests[2], ChargeState::Free, 0),
    ];
    assert!(test.commit(&decided).await);
    let some = EventCost { requests: 2, micro_dollars: Some(500), estimated_micro_dollars: 200 };
    assert_eq!(cost(&test, &event).await, some);
    let by_day = "select (cost_micro_dollars, estimated_micro_dollars)::text from cost_by_playbook_and_day";
    assert_eq!(test.value::<String>(by_day).await, "(500,200)");
}

#[tokio::test]
async fn what_a_model_without_a_price_costs_is_unknown_and_not_nothing() {
    let by_day = "select cost_micro_dollars from cost_by_playbook_and_day";
    for price in [None, Some(0)] {
        let test = TestLedger::new().await;
        let event = event(1, 1);
        let claimed = test.claimed(&event, "a").await;
        let answered = Inference { cost_micro_dollars: price, ..inference(&contact(1)) };
        let request = ChargeRequest { inference_id: answered.id, ..request(&claimed, &contact(1), 0) };
        begin(&test, std::slice::from_ref(&request)).await;
        let mut decided = decision(&claimed, EventState::Skipped, Some(Reason::NothingIntended));
        decided.inferences = vec![answered];
        decided.charges = vec![settled(&request, ChargeState::Answered, 0)];
        assert!(test.commit(&decided).await);
        let expected = EventCost { requests: 1, micro_dollars: price, estimated_micro_dollars: 0 };
        assert_eq!(cost(&test, &event).await, expected);
        assert_eq!(
            test.value::<Option<i64>>(by_day).await,
            price,
            "the model costs nothing only where that is its price"
        );
    }
}

#[tokio::test]
async fn a_charge_is_settled_also_when_another_worker_has_taken_the_event_over() {
    let test = TestLedger::new().await;
    let event = event(1, 1);
    let late = test.claimed(&event, "a").await;
    let requests = [700, 200].map(|most| request(&late, &contact(1), most));
    begin(&test, &requests).await;
    test.end_event_leases().await;
    test.claimed(&event, "b").await;
    let mut decided = decision(&late, EventState::Skipped, Some(Reason::Guard));
    decided.charges = vec![settled(&requests[0], ChargeState::Answered, 300)];
    assert!(!test.commit(&decided).await, "the decision does not count");
    let part = inference(&contact(1));
    let charges = [settled(&requests[1], ChargeState::Answered, 50)];
    assert!(!test.ledger.store_inference(late.event_id, late.attempt, &part, &charges).await.expect("asked"));
    assert_eq!(
        cost(&test, &event).await,
        EventCost { requests: 2, micro_dollars: Some(350), estimated_micro_dollars: 0 }
    );
    // A repetition that comes late changes nothing.
    decided.charges = vec![settled(&requests[0], ChargeState::Estimated, 700)];
    test.commit(&decided).await;
    assert_eq!(cost(&test, &event).await.micro_dollars, Some(350));
}

#[tokio::test]
async fn a_record_costs_no_more_in_a_day_than_its_limits() {
    let test = TestLedger::new().await;
    let claimed = test.claimed(&event(1, 1), "a").await;
    let of = |record: i64, most| request(&claimed, &contact(record), most);
    let batch = [of(1, 600), of(1, 600), of(1, 400), of(2, 600), of(1, 1)];
    assert_eq!(begin(&test, &batch).await, [true, false, true, true, false]);
    let limits = |all, playbook| RecordLimits { all, playbook };
    let under =
        |limits, playbook: &str| ChargeRequest { playbook: playbook.to_owned(), record_limits: limits, ..of(2, 300) };
    assert_eq!(begin(&test, &[under(limits(None, Some(800)), PLAYBOOK)]).await, [false]);
    assert_eq!(begin(&test, &[under(limits(None, Some(800)), "another")]).await, [true]);
    assert_eq!(begin(&test, &[under(limits(Some(1_100), Some(800)), "another")]).await, [false], "900 of all together");
    assert_eq!(begin(&test, &[under(limits(None, None), PLAYBOOK)]).await, [true]);
    // The next day.
    test.run("update charge set created_at = created_at - interval '24 hours'").await;
    assert_eq!(begin(&test, &[of(1, 600)]).await, [true]);
}

#[tokio::test]
async fn workers_that_ask_for_one_record_at_once_get_no_more_than_its_limit() {
    let test = TestLedger::new().await;
    let claimed = test.claimed(&event(1, 1), "a").await;
    let batches: Vec<Vec<_>> =
        (0..4).map(|_| (1..=20).map(|n| request(&claimed, &contact(n % 5), 90)).collect()).collect();
    let begun = futures_util::future::join_all(batches.iter().map(|batch| test.ledger.begin_charges(batch))).await;
    let begun: usize =
        begun.into_iter().map(|batch| batch.expect("asked").into_iter().filter(|begun| *begun).count()).sum();
    assert_eq!(begun, 55, "eleven of 90 within 1,000, for each of five records");
}

#[tokio::test]
async fn an_answer_has_its_service_tier_and_the_view_of_costs_the_share_of_the_cache() {
    let test = TestLedger::new().await;
    for (id, tier, cached_tokens) in [(1, Some(ServiceTier::Flex), 700), (2, None, 50)] {
        let event = event(id, 1);
        let claimed = test.claimed(&event, "a").await;
        let usage = TokenUsage { prompt_tokens: 1_000, cached_tokens, ..TokenUsage::default() };
        let inference = Inference { service_tier: tier, usage, ..inference(&contact(id)) };
        let decided = Decision { inferences: vec![inference], ..decision(&claimed, EventState::Skipped, None) };
        assert!(test.commit(&decided).await);
        let story = test.ledger.event_story(event.key.as_str()).await.expect("asked").expect("known");
        assert_eq!(story.inferences[0].service_tier, tier);
    }
    let share = "select cached_percent::text from cost_by_playbook_and_day";
    assert_eq!(test.value::<String>(share).await, "37.5");
}
