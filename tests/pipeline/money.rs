//! A paid answer leaves a trace, always; and what a record, a playbook and the fleet may spend in a day has an end.

use lab::Fleet;
use simulator::{Fault, FaultKind, Target};

use domain::EventState;
use fixtures::{
    BUYER, WITHIN, ask, contact, ended_as, fleet, happened, key, note_event, object, pipeline, property, questions,
    send_accepted, sql, until,
};

async fn model_does(fleet: &Fleet, kind: FaultKind, times: impl Into<Option<u32>>) {
    fleet.simulator.fault(&Fault::new(Target::Openai, kind).times(times)).await.expect("set");
}

/// What OpenAI billed, in micro-dollars.
async fn charged(fleet: &Fleet) -> i64 {
    let charges = fleet.simulator.charges().await.expect("the simulator answers");
    charges.iter().map(|charge| charge.micro_dollars).sum()
}

/// What the ledger says that it cost.
async fn recorded(fleet: &Fleet) -> i64 {
    ask(fleet, "select coalesce(sum(cost_micro_dollars), 0)::bigint from cost_by_playbook_and_day").await
}

#[tokio::test]
async fn characters_that_postgres_cannot_store_are_replaced_in_answers() {
    let fleet = fleet(&pipeline()).await;
    contact(&fleet, 1, &[BUYER]).await;
    model_does(&fleet, FaultKind::Unstorable, 1).await;
    send_accepted(&fleet, &[note_event(1, 1)]).await;
    ended_as(&fleet, &note_event(1, 1), "written", None).await;
    let summary = property(&fleet, 1, "ai_lead_summary").await.expect("written");
    assert!(summary.starts_with("\u{fffd}\u{fffd}They have $50k"), "{summary}");
    assert_eq!(questions(&fleet).await, 1);
    assert_eq!(recorded(&fleet).await, charged(&fleet).await);
}

/// Postgres refuses one answer of many. Which one does not matter here, only that it does.
#[tokio::test]
async fn what_the_ledger_refuses_parks_its_event_alone_and_its_cost_is_recorded() {
    let fleet = fleet(&pipeline()).await;
    sql(
        &fleet,
        "create function refuse() returns trigger language plpgsql as $$ begin
             if new.answer like '%Plugh%' then raise exception 'unsupported Unicode' using errcode = '22P05'; end if;
             return new;
         end $$;
         create trigger refuse before insert on inference_raw for each row execute function refuse()",
    )
    .await;
    let ids: Vec<i64> = (1..=12).collect();
    for id in &ids {
        contact(&fleet, *id, &[if *id == 7 { "<p>Plugh. They have $50k ready.</p>" } else { BUYER }]).await;
    }
    send_accepted(&fleet, &ids.iter().map(|id| note_event(*id, 1)).collect::<Vec<_>>()).await;
    for id in ids.iter().filter(|id| **id != 7) {
        ended_as(&fleet, &note_event(*id, 1), "written", None).await;
    }
    ended_as(&fleet, &note_event(7, 1), "parked", Some("ledger_refused")).await;
    assert_eq!(questions(&fleet).await, 12, "each is paid for once");
    fleet.until_parked("leadline.events", 1, WITHIN).await.expect("its message is in the parking lot");
    assert_eq!(recorded(&fleet).await, charged(&fleet).await, "the refused one, too");
}

#[tokio::test]
async fn an_answer_is_recorded_when_the_next_question_of_its_conversation_fails() {
    let fleet = fleet(&pipeline()).await;
    // A repair, and a second question with more room.
    for (id, first) in [(1, FaultKind::Prose), (2, FaultKind::Length)] {
        contact(&fleet, id, &[BUYER]).await;
        model_does(&fleet, first, 1).await;
        model_does(&fleet, FaultKind::Status { code: 400, retry_after: None }, 1).await;
        send_accepted(&fleet, &[note_event(id, 1)]).await;
        let story = ended_as(&fleet, &note_event(id, 1), "parked", Some("openai_invalid_request")).await;
        let outcomes: Vec<_> = story.inferences.iter().map(|inference| inference.outcome.as_str()).collect();
        assert_eq!(outcomes, [if id == 1 { "invalid" } else { "truncated" }]);
        assert!(story.inferences[0].cost_micro_dollars.is_some_and(|cost| cost > 0));
        fleet.simulator.clear_faults().await.expect("cleared");
    }
    assert_eq!(recorded(&fleet).await, charged(&fleet).await);
}

#[tokio::test]
async fn an_answer_that_does_not_say_what_it_cost_is_used_and_counts_as_its_estimate() {
    let fleet = fleet(&pipeline()).await;
    contact(&fleet, 1, &[BUYER]).await;
    model_does(&fleet, FaultKind::NoUsage, 1).await;
    send_accepted(&fleet, &[note_event(1, 1)]).await;
    let story = ended_as(&fleet, &note_event(1, 1), "written", None).await;
    let (charged, recorded) = (charged(&fleet).await, recorded(&fleet).await);
    assert!((charged..charged * 10).contains(&recorded), "{recorded} µ$ for {charged}");
    assert!(story.inferences[0].prompt_tokens > 300, "{:?}", story.inferences);
}

#[tokio::test]
async fn answers_that_are_unreadable_or_lost_count_as_their_estimate() {
    let fleet = fleet(&pipeline().with("openai.timeout_seconds", "2")).await;
    contact(&fleet, 1, &[BUYER]).await;
    model_does(&fleet, FaultKind::NoChoices, 1).await;
    model_does(&fleet, FaultKind::LostAnswer, 1).await;
    // Later than the client waits.
    model_does(&fleet, FaultKind::LateAnswer(2_500), 1).await;
    send_accepted(&fleet, &[note_event(1, 1)]).await;
    ended_as(&fleet, &note_event(1, 1), "written", None).await;
    let charges = fleet.simulator.charges().await.expect("asked");
    assert_eq!(charges.len(), 4, "three answers were billed and not read");
    let (charged, recorded) = (charged(&fleet).await, recorded(&fleet).await);
    assert!((charged..charged * 10).contains(&recorded), "{recorded} µ$ for {charged}");
}

/// OpenAI's limit is held, so that the question waits for its turn until its event's time is over.
#[tokio::test]
async fn a_question_that_is_cancelled_before_it_is_sent_gives_its_money_back() {
    let plan = pipeline()
        .with("hubspot.timeout_seconds", "1")
        .with("openai.timeout_seconds", "1")
        .with("inference.lease_seconds", "7")
        .with("rate_limit.batch_linger_at_limit_ms", "0")
        .with("rate_limit.max_wait_seconds", "600")
        .with("broker.max_attempts", "1");
    let fleet = fleet(&plan).await;
    sql(
        &fleet,
        "select define_rate_limit('openai/gpt-6-luna/requests', 60000, 200, 0.9, 500);
         update rate_limit set held_until = now() + interval '2 minutes' where name = 'openai/gpt-6-luna/requests'",
    )
    .await;
    contact(&fleet, 1, &[BUYER]).await;
    send_accepted(&fleet, &[note_event(1, 1)]).await;
    ended_as(&fleet, &note_event(1, 1), "parked", Some("deadline_exceeded")).await;
    assert_eq!(ask::<String>(&fleet, "select string_agg(state, ' ') from charge").await, "free");
    let spent = "select sum(micro_dollars_spent)::bigint from spend_limits";
    until("nothing is set aside", async || ask::<i64>(&fleet, spent).await == 0).await;
    assert_eq!(questions(&fleet).await, 0);
}

#[tokio::test]
async fn an_answer_that_a_gateway_gave_up_counts_as_its_estimate_and_what_openai_could_not_process_costs_nothing() {
    let fleet = fleet(&pipeline()).await;
    contact(&fleet, 1, &[BUYER]).await;
    model_does(&fleet, FaultKind::GatewayGaveUp(504), 1).await;
    model_does(&fleet, FaultKind::Status { code: 503, retry_after: None }, 1).await;
    send_accepted(&fleet, &[note_event(1, 1)]).await;
    ended_as(&fleet, &note_event(1, 1), "written", None).await;
    let charges = fleet.simulator.charges().await.expect("asked");
    assert_eq!(charges.len(), 2, "the one that the gateway gave up, and the one that was used");
    let states: String = ask(&fleet, "select string_agg(state, ' ' order by created_at) from charge").await;
    assert_eq!(states, "estimated free answered");
    let (charged, recorded) = (charged(&fleet).await, recorded(&fleet).await);
    assert!((charged..charged * 10).contains(&recorded), "{recorded} µ$ for {charged}");
}

/// A mail on a ticket, each with words of its own, and the event about it.
async fn mail(fleet: &Fleet, ticket: i64, n: i64, words: usize) -> serde_json::Value {
    let text = format!("Mail {n}. {}", format!("It was the {n}th time that it rained. ").repeat(words / 8));
    let at = format!("2026-10-{:02}T{:02}:00:00Z", n / 24 + 1, n % 24);
    let properties = [("hs_timestamp", at.as_str()), ("hs_email_text", text.as_str())];
    object(fleet, "email", 1_000 + n, &properties, &[("ticket", ticket)]).await;
    happened("email", 1_000 + n, "creation", None, n)
}

#[tokio::test]
async fn a_new_mail_on_a_long_ticket_does_not_pay_for_all_the_others_again() {
    let fleet = fleet(&pipeline()).await;
    object(&fleet, "ticket", 30, &[("content", "It began on Monday.")], &[]).await;
    for n in 0..36 {
        mail(&fleet, 30, n, 2_500).await;
    }
    let first = happened("ticket", 30, "creation", None, 1);
    send_accepted(&fleet, std::slice::from_ref(&first)).await;
    ended_as(&fleet, &first, "written", None).await;
    let before = questions(&fleet).await;
    assert!(before >= 8, "{before} questions about the whole ticket");
    // The thirty newest are read: one more comes, and the oldest is no longer read.
    let event = mail(&fleet, 30, 36, 2_500).await;
    send_accepted(&fleet, std::slice::from_ref(&event)).await;
    ended_as(&fleet, &event, "written", None).await;
    let asked = questions(&fleet).await - before;
    assert!((2..=4).contains(&asked), "{asked} questions about one new mail, after {before} about all");
}

#[tokio::test]
async fn a_context_of_many_parts_is_condensed_in_as_many_as_the_setting_allows() {
    let fleet = fleet(&pipeline().with("inference.max_parts", "3")).await;
    object(&fleet, "ticket", 30, &[("content", "It began on Monday.")], &[]).await;
    for n in 0..30 {
        mail(&fleet, 30, n, 2_500).await;
    }
    let event = happened("ticket", 30, "creation", None, 1);
    send_accepted(&fleet, std::slice::from_ref(&event)).await;
    let story = ended_as(&fleet, &event, "written", None).await;
    assert_eq!(questions(&fleet).await, 4, "three parts, and the question");
    let prompt = story.inferences[3].prompt.as_ref().expect("kept").to_string();
    assert!(prompt.contains("older parts]"), "the model is told that something is left out: {prompt}");
}

/// A stranger writes a hundred mails, each with other words, so that no answer serves for the next one.
#[tokio::test]
async fn a_hundred_mails_on_one_ticket_cost_no_more_than_a_record_may_cost() {
    const LIMIT: i64 = 20_000;
    let plan = pipeline()
        .with("openai.model", "gpt-4o")
        .with("spend.micro_dollars_per_record_and_day", &LIMIT.to_string())
        // What waits for tomorrow is not asked for every second.
        .with("broker.retry_delays_seconds", "60,120");
    let fleet = fleet(&plan).await;
    object(&fleet, "ticket", 30, &[("content", "It began on Monday.")], &[]).await;
    object(&fleet, "ticket", 31, &[("content", "Another customer is excited.")], &[]).await;
    for n in 0..100 {
        let event = mail(&fleet, 30, n, 40).await;
        send_accepted(&fleet, std::slice::from_ref(&event)).await;
        if n < 20 {
            let is_seen = |state: EventState| state.is_final() || state == EventState::Waiting;
            fleet.until_event(&key(&event), is_seen, WITHIN).await.expect("looked at");
        }
    }
    let settled = "select count(distinct h.event_id) = 100 and bool_or(h.reason = 'record_paused')
                   from event_history h join event e on e.id = h.event_id
                   where e.object_type = '0-49' and h.state <> 'claimed'";
    until("all are answered or wait", async || ask(&fleet, settled).await).await;
    let (billed, recorded) = (charged(&fleet).await, recorded(&fleet).await);
    assert_eq!(recorded, billed);
    assert!((LIMIT / 2..=LIMIT).contains(&billed), "{billed} µ$ of {LIMIT}");
    // Another record has money of its own.
    let event = happened("ticket", 31, "creation", None, 500);
    send_accepted(&fleet, std::slice::from_ref(&event)).await;
    ended_as(&fleet, &event, "written", None).await;
}

#[tokio::test]
async fn a_question_that_costs_more_than_a_record_may_is_parked_and_not_asked() {
    let plan = pipeline().with("openai.model", "gpt-4o").with("spend.micro_dollars_per_record_and_day", "1000");
    let fleet = fleet(&plan).await;
    contact(&fleet, 1, &[BUYER]).await;
    send_accepted(&fleet, &[note_event(1, 1)]).await;
    let story = ended_as(&fleet, &note_event(1, 1), "parked", Some("spend_limit_too_low")).await;
    assert!(story.detail.as_deref().is_some_and(|detail| detail.contains("1000 µ$")), "{:?}", story.detail);
    assert_eq!(questions(&fleet).await, 0);
}
