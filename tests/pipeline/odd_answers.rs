//! Answers as gateways and compatible servers give them: read where they say something, and where not, no other event pays for it.

use domain::EventState;
use lab::Fleet;
use serde_json::{Value, json};
use simulator::{Fault, FaultKind, OddForm, Target};

use fixtures::{
    BUYER, PlaybookFolder, WITHIN, ask, contact, ended_as, fleet, happened, key, note_event, object, pipeline,
    property, questions, send_accepted, until,
};

const LEADS: &str = include_str!("../../deploy/playbooks/lead-qualification.toml");

async fn model_does(fleet: &Fleet, kind: FaultKind, times: impl Into<Option<u32>>) {
    fleet.simulator.fault(&Fault::new(Target::Openai, kind).times(times)).await.expect("set");
}

/// An error answer of OpenAI with these fields.
fn error(code: u16, fields: &Value) -> FaultKind {
    FaultKind::Answer { code, body: json!({ "error": fields }).to_string() }
}

/// What OpenAI billed, and what the ledger says that it cost, in micro-dollars.
async fn billed_and_recorded(fleet: &Fleet) -> (i64, i64) {
    let charges = fleet.simulator.charges().await.expect("the simulator answers");
    let recorded =
        ask(fleet, "select coalesce(sum(cost_micro_dollars), 0)::bigint from cost_by_playbook_and_day").await;
    (charges.iter().map(|charge| charge.micro_dollars).sum(), recorded)
}

/// The APIs through which a model is asked, each with the path of its questions.
const APIS: [(&str, &str); 2] = [("chat_completions", "/v1/chat/completions"), ("responses", "/v1/responses")];

#[tokio::test]
async fn an_answer_in_an_odd_form_is_an_answer_and_paid_for_once() {
    let exact =
        [OddForm::Nulls, OddForm::EmptyRefusal, OddForm::Parts, OddForm::Floats, OddForm::ByteOrderMark, OddForm::Gzip];
    for (api, _) in APIS {
        let fleet = fleet(&pipeline().with("openai.model", "gpt-4o").with("openai.api", api)).await;
        for (id, form) in (1..).zip(exact) {
            contact(&fleet, id, &[BUYER]).await;
            model_does(&fleet, FaultKind::OddForm(form), 1).await;
            send_accepted(&fleet, &[note_event(id, 1)]).await;
            ended_as(&fleet, &note_event(id, 1), "written", None).await;
            assert_eq!(property(&fleet, id, "ai_budget_estimate").await.as_deref(), Some("50000"), "{api} {form:?}");
            let (billed, recorded) = billed_and_recorded(&fleet).await;
            assert_eq!(recorded, billed, "{api}, after {form:?}");
        }
        assert_eq!(questions(&fleet).await, exact.len(), "{api}");
        assert_eq!(ask::<i64>(&fleet, "select count(*) from outage").await, 0, "{api}");
        let models: String = ask(&fleet, "select model from inference order by created_at limit 1").await;
        assert_eq!(models, "gpt-4o", "the model that was asked, where the answer names none");
    }
}

#[tokio::test]
async fn counts_that_cannot_be_are_not_what_an_answer_cost() {
    let fleet = fleet(&pipeline().with("openai.model", "gpt-4o")).await;
    for (id, form) in [(1, OddForm::CachedAbovePrompt), (2, OddForm::HugeCounts)] {
        contact(&fleet, id, &[BUYER]).await;
        model_does(&fleet, FaultKind::OddForm(form), 1).await;
        send_accepted(&fleet, &[note_event(id, 1)]).await;
        ended_as(&fleet, &note_event(id, 1), "written", None).await;
    }
    let states: String = ask(&fleet, "select string_agg(state, ' ' order by created_at) from charge").await;
    assert_eq!(
        states, "answered estimated",
        "more cached than there is: all of it; more than the window: says nothing"
    );
    let (billed, recorded) = billed_and_recorded(&fleet).await;
    assert!((billed / 2..billed * 10).contains(&recorded), "{recorded} µ$ for {billed}");
}

#[tokio::test]
async fn calls_of_a_function_are_read_in_every_form_and_never_by_half() {
    let playbook = LEADS.replace("mode = \"schema\"", "mode = \"function\"");
    assert_ne!(playbook, LEADS);
    let folder = PlaybookFolder::new("function-calls", &[&playbook]);
    let plan = pipeline().with("openai.model", "gpt-4o").with("inference.playbooks", folder.path());
    for (api, path) in APIS {
        let fleet = fleet(&plan.clone().with("openai.api", api)).await;
        for (id, form) in [(1, OddForm::ArgumentsObject), (2, OddForm::TwoCalls)] {
            contact(&fleet, id, &[BUYER]).await;
            model_does(&fleet, FaultKind::OddForm(form), 1).await;
            send_accepted(&fleet, &[note_event(id, 1)]).await;
            ended_as(&fleet, &note_event(id, 1), "written", None).await;
            assert_eq!(property(&fleet, id, "ai_budget_estimate").await.as_deref(), Some("50000"), "{api} {form:?}");
        }
        let calls = fleet.simulator.calls(0).await.expect("asked");
        let asked: Vec<_> = calls.iter().filter(|call| call.path == path).collect();
        assert_eq!(asked.len(), 2, "{api}");
        assert!(asked.iter().all(|call| call.request["parallel_tool_calls"] == json!(false)), "one call is asked for");
    }
}

#[tokio::test]
async fn an_answer_that_cannot_be_read_is_asked_for_once_more_and_pauses_nobody() {
    let fleet = fleet(&pipeline().with("openai.model", "gpt-4o").with("circuit_breaker.failure_threshold", "2")).await;
    contact(&fleet, 1, &["<p>This one is odd. They have $50k ready for Q1.</p>"]).await;
    contact(&fleet, 2, &[BUYER]).await;
    let odd = Fault::new(Target::Openai, FaultKind::OddForm(OddForm::NullChoices)).containing("This one is odd");
    fleet.simulator.fault(&odd).await.expect("set");
    send_accepted(&fleet, &[note_event(1, 1)]).await;
    ended_as(&fleet, &note_event(1, 1), "parked", Some("openai_unreadable")).await;
    assert_eq!(questions(&fleet).await, 2, "once, and once more");
    let states: String = ask(&fleet, "select string_agg(state, ' ') from charge").await;
    assert_eq!(states, "estimated estimated");
    let (billed, recorded) = billed_and_recorded(&fleet).await;
    assert!((billed..billed * 10).contains(&recorded), "{recorded} µ$ for {billed}");
    send_accepted(&fleet, &[note_event(2, 1)]).await;
    ended_as(&fleet, &note_event(2, 1), "written", None).await;
    assert_eq!(ask::<i64>(&fleet, "select count(*) from outage").await, 0);
}

#[tokio::test]
async fn one_event_whose_answer_is_a_page_of_a_proxy_pauses_nobody_and_several_do() {
    let plan =
        pipeline().with("circuit_breaker.failure_threshold", "3").with("circuit_breaker.probe_first_seconds", "1");
    let fleet = fleet(&plan).await;
    contact(&fleet, 1, &["<p>This one is blocked. They have $50k ready for Q1.</p>"]).await;
    let page = || FaultKind::Answer { code: 200, body: "<html>Blocked, says a proxy</html>".to_owned() };
    let blocked = Fault::new(Target::Openai, page()).on_path("/chat/completions").containing("This one is blocked");
    fleet.simulator.fault(&blocked).await.expect("set");
    send_accepted(&fleet, &[note_event(1, 1)]).await;
    ended_as(&fleet, &note_event(1, 1), "parked", Some("openai_unreadable")).await;
    assert_eq!(questions(&fleet).await, 4, "broker.max_attempts, each paid for once");
    assert_eq!(ask::<i64>(&fleet, "select count(*) from outage").await, 0, "one event is no outage");

    fleet.simulator.fault(&Fault::new(Target::Openai, page())).await.expect("set");
    let ids: Vec<i64> = (2..=5).collect();
    for id in &ids {
        contact(&fleet, *id, &[BUYER]).await;
    }
    send_accepted(&fleet, &ids.iter().map(|id| note_event(*id, 1)).collect::<Vec<_>>()).await;
    until("an outage", async || ask::<i64>(&fleet, "select count(*) from outage").await > 0).await;
    fleet.simulator.clear_faults().await.expect("cleared");
    for id in ids {
        ended_as(&fleet, &note_event(id, 1), "written", None).await;
    }
}

#[tokio::test]
async fn a_stream_that_nobody_asked_for_is_parked_with_words_and_asked_for_once() {
    let fleet = fleet(&pipeline()).await;
    contact(&fleet, 1, &[BUYER]).await;
    model_does(&fleet, FaultKind::OddForm(OddForm::EventStream), None).await;
    send_accepted(&fleet, &[note_event(1, 1)]).await;
    let story = ended_as(&fleet, &note_event(1, 1), "parked", Some("openai_unreadable")).await;
    assert!(story.detail.as_deref().is_some_and(|detail| detail.contains("server-sent events")), "{:?}", story.detail);
    assert_eq!(questions(&fleet).await, 1);
    assert_eq!(ask::<i64>(&fleet, "select count(*) from outage").await, 0);
}

#[tokio::test]
async fn an_error_within_an_answer_of_success_is_the_error_that_it_says() {
    let fleet = fleet(&pipeline()).await;
    contact(&fleet, 1, &[BUYER]).await;
    model_does(&fleet, FaultKind::OddForm(OddForm::ErrorWithin), 1).await;
    send_accepted(&fleet, &[note_event(1, 1)]).await;
    let story = ended_as(&fleet, &note_event(1, 1), "written", None).await;
    assert_eq!(story.history.len(), 3, "retried at once: {:?}", story.history);
}

#[tokio::test]
async fn an_answer_without_a_word_is_asked_for_with_more_room_and_then_parked() {
    let fleet = fleet(&pipeline()).await;
    for (id, times) in [(1, 1), (2, 2)] {
        contact(&fleet, id, &[BUYER]).await;
        model_does(&fleet, FaultKind::OddForm(OddForm::Empty), times).await;
        send_accepted(&fleet, &[note_event(id, 1)]).await;
        let (state, reason) = if times == 1 { ("written", None) } else { ("parked", Some("answer_empty")) };
        let story = ended_as(&fleet, &note_event(id, 1), state, reason).await;
        assert_eq!(story.inferences.len(), 1, "what was paid for is in the ledger");
        assert_eq!(story.inferences[0].outcome.as_str(), if times == 1 { "valid" } else { "empty" });
    }
    assert_eq!(questions(&fleet).await, 4);
    let calls = fleet.simulator.calls(0).await.expect("asked");
    let room: Vec<_> = calls.iter().filter_map(|call| call.request["max_completion_tokens"].as_i64()).collect();
    assert_eq!((room[1], room[3]), (2 * room[0], 2 * room[2]));
    assert_eq!(property(&fleet, 2, "lead_score").await, None);
}

#[tokio::test]
async fn a_part_that_is_condensed_to_nothing_leads_to_no_answer() {
    let fleet = fleet(&pipeline()).await;
    contact(&fleet, 1, &[]).await;
    object(&fleet, "ticket", 30, &[("content", "It is broken.")], &[("contact", 1)]).await;
    for n in 0..8 {
        let text = format!("It was the {n}th time that we spoke about the weather. ").repeat(1_000);
        let at = format!("2026-11-{:02}T10:00:00Z", n + 1);
        let properties = [("hs_timestamp", at.as_str()), ("hs_email_text", text.as_str())];
        object(&fleet, "email", 60 + n, &properties, &[("ticket", 30)]).await;
    }
    // Text is condensed without a schema; the answer of the question has one.
    model_does(&fleet, FaultKind::OddForm(OddForm::Empty), None).await;
    let event = happened("ticket", 30, "creation", None, 1);
    send_accepted(&fleet, std::slice::from_ref(&event)).await;
    let story = ended_as(&fleet, &event, "parked", Some("answer_empty")).await;
    assert!(story.inferences.iter().all(|inference| inference.part.is_some()), "nothing was answered: {story:?}");
    let calls = fleet.simulator.calls(0).await.expect("asked");
    let with_schema = calls.iter().filter(|call| !call.request["response_format"].is_null()).count();
    assert_eq!(with_schema, 0, "the question about nothing was not asked");
}

/// Why the second request of a part failed decides: the empty first answer is none of the model.
#[tokio::test]
async fn a_part_whose_second_request_fails_waits_and_is_condensed_later() {
    let fleet = fleet(&pipeline()).await;
    contact(&fleet, 1, &[]).await;
    object(&fleet, "ticket", 30, &[("content", "It is broken.")], &[("contact", 1)]).await;
    for n in 0..8 {
        let begins = if n == 7 { "This one is odd. " } else { "" };
        let text =
            begins.to_owned() + &format!("It was the {n}th time that we spoke about the weather. ").repeat(1_000);
        let at = format!("2026-11-{:02}T10:00:00Z", n + 1);
        let properties = [("hs_timestamp", at.as_str()), ("hs_email_text", text.as_str())];
        object(&fleet, "email", 60 + n, &properties, &[("ticket", 30)]).await;
    }
    for (kind, times) in
        [(FaultKind::OddForm(OddForm::Empty), Some(1)), (FaultKind::Status { code: 409, retry_after: None }, None)]
    {
        let fault = Fault::new(Target::Openai, kind).containing("This one is odd").times(times);
        fleet.simulator.fault(&fault).await.expect("set");
    }
    let event = happened("ticket", 30, "creation", None, 1);
    send_accepted(&fleet, std::slice::from_ref(&event)).await;
    let has_failed = |state| matches!(state, EventState::Waiting | EventState::Parked);
    let story = fleet.until_event(&key(&event), has_failed, WITHIN).await.expect("fails");
    assert_eq!(story.reason.map(domain::Reason::as_str), Some("openai_unavailable"), "{story:?}");
    fleet.simulator.clear_faults().await.expect("mended");
    ended_as(&fleet, &event, "written", None).await;
}

#[tokio::test]
async fn an_account_without_money_or_a_country_without_openai_pauses_and_parks_nothing() {
    let fleet = fleet(&pipeline().with("circuit_breaker.probe_first_seconds", "1")).await;
    let exhausted = json!({"message": null, "type": "insufficient_quota", "code": "credit_balance_exhausted"});
    let region = json!({"message": "no", "type": "request_forbidden", "code": "unsupported_country_region_territory"});
    let pauses = [
        (error(429, &exhausted), "insufficient_quota"),
        (error(402, &json!({"message": "Payment required", "code": 402})), "insufficient_quota"),
        (error(403, &region), "openai_region"),
    ];
    for (id, (kind, reason)) in (1..).zip(pauses) {
        contact(&fleet, id, &[BUYER]).await;
        model_does(&fleet, kind, None).await;
        send_accepted(&fleet, &[note_event(id, 1)]).await;
        let open = async || {
            let circuits = fleet.ledger.circuit_breakers().await.expect("asked");
            let is_open = |circuit: &ledger::CircuitBreaker| circuit.state == domain::CircuitBreakerState::Open;
            circuits.iter().any(|one| is_open(one) && one.reason.map(domain::Reason::as_str) == Some(reason))
        };
        until(reason, open).await;
        fleet.simulator.clear_faults().await.expect("cleared");
        ended_as(&fleet, &note_event(id, 1), "written", None).await;
    }
}

#[tokio::test]
async fn a_prompt_that_a_filter_refuses_is_parked_as_filtered_and_a_page_of_a_proxy_passes() {
    let fleet = fleet(&pipeline()).await;
    contact(&fleet, 1, &[BUYER]).await;
    let azure = json!({"message": "The response was filtered", "type": null, "param": "prompt", "code": "content_filter",
        "status": 400, "innererror": {"code": "ResponsibleAIPolicyViolation"}});
    model_does(&fleet, error(400, &azure), 1).await;
    send_accepted(&fleet, &[note_event(1, 1)]).await;
    ended_as(&fleet, &note_event(1, 1), "parked", Some("content_filtered")).await;
    contact(&fleet, 2, &[BUYER]).await;
    for code in [520, 403] {
        let body = "<!DOCTYPE html><title>Just a moment...</title>".to_owned();
        model_does(&fleet, FaultKind::Answer { code, body }, 1).await;
    }
    send_accepted(&fleet, &[note_event(2, 1)]).await;
    ended_as(&fleet, &note_event(2, 1), "written", None).await;
}

/// OpenAI answers 429 to a request that is larger than the limit on tokens, as to any other that comes too early.
#[tokio::test]
async fn a_request_that_never_fits_the_limit_is_shortened_and_parked_if_that_does_not_help() {
    let long = LEADS.replace("max_tokens = 24_000", "max_tokens = 9_000");
    let folder = PlaybookFolder::new("too-large", &[&long]);
    let plan = pipeline().with("openai.model", "gpt-4o").with("inference.playbooks", folder.path());
    let arguments = ["--tokens-per-minute", "7000"].map(ToOwned::to_owned).to_vec();
    let plan = lab::FleetPlan { simulator_arguments: arguments, ..plan };
    let fleet = fleet(&plan.with("rate_limit.openai_share", "1.0")).await;
    let talk = "We spoke about the weather in some detail, and then again. ";
    let notes: Vec<String> = (0..20).map(|n| format!("<p>Talk {n}. {}</p>", talk.repeat(40))).collect();
    let notes: Vec<&str> = notes.iter().map(String::as_str).collect();
    contact(&fleet, 1, &notes).await;
    send_accepted(&fleet, &[note_event(1, 1)]).await;
    ended_as(&fleet, &note_event(1, 1), "written", None).await;
    let calls = fleet.simulator.calls(0).await.expect("asked");
    let statuses: Vec<_> = calls.iter().filter(|c| c.path == "/v1/chat/completions").map(|c| c.status).collect();
    assert_eq!(statuses, [429, 200], "asked with half of it, and at once");
}

#[tokio::test]
async fn what_is_too_large_in_any_form_is_parked_and_not_asked_for_ever() {
    let fleet = fleet(&pipeline()).await;
    let forms = [
        (413, json!({"message": "Request too large", "type": "tokens", "code": "rate_limit_exceeded"})),
        (400, json!({"message": "too long", "param": "messages[1].content", "code": "string_above_max_length"})),
        (400, json!({"message": "too long", "param": "messages", "code": "context_length_exceeded"})),
    ];
    for (id, (code, fields)) in (1..).zip(forms) {
        contact(&fleet, id, &[BUYER]).await;
        model_does(&fleet, error(code, &fields), None).await;
        send_accepted(&fleet, &[note_event(id, 1)]).await;
        ended_as(&fleet, &note_event(id, 1), "parked", Some("context_too_long")).await;
        fleet.simulator.clear_faults().await.expect("cleared");
    }
    assert_eq!(questions(&fleet).await, 9, "whole, half, and a quarter");
}

#[tokio::test]
async fn an_overload_is_waited_for_and_counts_as_no_attempt() {
    let fleet = fleet(&pipeline().with("broker.max_attempts", "2").with("openai.attempts", "1")).await;
    contact(&fleet, 1, &[BUYER]).await;
    let overloaded = json!({"message": "Overloaded", "type": "server_error", "code": "server_is_overloaded"});
    model_does(&fleet, error(503, &overloaded), 4).await;
    send_accepted(&fleet, &[note_event(1, 1)]).await;
    let waiting = |state: domain::EventState| state == domain::EventState::Waiting;
    fleet.until_event(&key(&note_event(1, 1)), waiting, WITHIN).await.expect("it waits");
    let story = ended_as(&fleet, &note_event(1, 1), "written", None).await;
    let claims = story.history.iter().filter(|entry| entry.state == domain::EventState::Claimed).count();
    assert_eq!(claims, 5, "four times it waited: {:?}", story.history);
}

#[tokio::test]
async fn a_wait_of_a_day_is_obeyed_for_a_minute() {
    let fleet = fleet(&pipeline().with("broker.retry_delays_seconds", "1,61,3600")).await;
    contact(&fleet, 1, &[BUYER]).await;
    model_does(&fleet, FaultKind::Status { code: 429, retry_after: Some(86_400) }, 1).await;
    send_accepted(&fleet, &[note_event(1, 1)]).await;
    let waiting = |state: domain::EventState| state == domain::EventState::Waiting;
    fleet.until_event(&key(&note_event(1, 1)), waiting, WITHIN).await.expect("it waits");
    let wait: i64 = ask(&fleet, "select extract(epoch from due_at - now())::bigint from event").await;
    assert!((0..=61).contains(&wait), "{wait} s");
}
