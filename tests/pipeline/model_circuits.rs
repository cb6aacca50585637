//! A model that is gone, forbidden or refuses a parameter pauses its playbook, parks nothing, and costs other work nothing.

use domain::EventState;
use fixtures::{
    BUYER, PlaybookFolder, WITHIN, ask, contact, ended_as, fleet, key, note_event, others_are_written, pipeline,
    property, questions, send_accepted, until,
};
use lab::{Fleet, FleetPlan};
use simulator::{Fault, FaultKind, OddForm, Target, admin::ModelAccess};

/// The model that goes away.
const MORTAL: &str = "gpt-4o";

/// Probes and retries come every second or two, and two failures that count would park.
fn plan(playbooks: &PlaybookFolder) -> FleetPlan {
    pipeline()
        .with("inference.playbooks", playbooks.path())
        .with("broker.max_attempts", "2")
        .with("circuit_breaker.poll_ms", "50")
        .with("circuit_breaker.probe_first_seconds", "1")
        .with("circuit_breaker.probe_max_seconds", "2")
        .with("circuit_breaker.model_probe_max_seconds", "2")
}

/// The shipped lead qualification as a playbook of this name, with these keys of `[model]`.
fn playbook(name: &str, options: &str) -> String {
    include_str!("../../deploy/playbooks/lead-qualification.toml")
        .replace("name = \"lead-qualification\"", &format!("name = \"{name}\""))
        .replace("mode = \"schema\"", &format!("{options}\nmode = \"schema\""))
}

/// One that asks the model that goes away.
fn mortal(options: &str) -> String {
    playbook("mortal", &format!("name = \"{MORTAL}\"\n{options}"))
}

fn shut_down() -> ModelAccess {
    ModelAccess { shut_down: vec![MORTAL.to_owned()], ..ModelAccess::default() }
}

async fn set(fleet: &Fleet, access: ModelAccess) {
    fleet.simulator.models(&access).await.expect("set");
}

/// Waits until an event waits for a model.
async fn paused(fleet: &Fleet, event: &serde_json::Value) {
    let waits = |state| state == EventState::Waiting;
    let story = fleet.until_event(&key(event), waits, WITHIN).await.expect("waits");
    assert_eq!(story.reason.map(domain::Reason::as_str), Some("model_paused"), "{story:?}");
    let said = story.detail.unwrap_or_default();
    assert!(said.contains(MORTAL), "the operator is told which model: {said}");
}

/// How often a model answered a question of a playbook.
async fn answers(fleet: &Fleet, playbook: &str, model: &str) -> usize {
    let calls = fleet.simulator.calls(0).await.expect("asked");
    let is_of = |body: &str| body.contains(&format!("\"name\":\"{playbook}\"")) && body.contains(model);
    calls.iter().filter(|call| call.status == 200 && is_of(&call.request.to_string())).count()
}

/// How often a question was refused.
async fn refusals(fleet: &Fleet) -> usize {
    let calls = fleet.simulator.calls(0).await.expect("asked");
    calls.iter().filter(|call| call.path == "/v1/chat/completions" && matches!(call.status, 400..=404)).count()
}

async fn parked(fleet: &Fleet) -> i64 {
    ask(fleet, "select count(*) from event_history where state = 'parked'").await
}

#[tokio::test]
async fn a_model_that_is_shut_down_pauses_its_playbook_alone_until_it_answers_again() {
    let playbooks = PlaybookFolder::new("model-gone", &[&mortal(""), &playbook("other", "")]);
    let fleet = fleet(&plan(&playbooks).with("circuit_breaker.model_probe_max_seconds", "600")).await;
    set(&fleet, shut_down()).await;
    let events: Vec<_> = (1..=8).map(|id| note_event(id, 1)).collect();
    for id in 1..=8 {
        contact(&fleet, id, &[BUYER]).await;
    }
    send_accepted(&fleet, &events[..4]).await;
    for event in &events[..4] {
        paused(&fleet, event).await;
    }
    // The other playbook answers the same events, and what it answered is written.
    for id in 1..=4 {
        until("written", async || property(&fleet, id, "lead_score").await.is_some()).await;
    }
    let before = refusals(&fleet).await;
    send_accepted(&fleet, &events[4..]).await;
    for event in &events[4..] {
        paused(&fleet, event).await;
    }
    assert_eq!(refusals(&fleet).await, before, "events that come during the pause do not ask");

    set(&fleet, ModelAccess::default()).await;
    for event in &events {
        ended_as(&fleet, event, "written", None).await;
    }
    assert_eq!(parked(&fleet).await, 0);
    assert_eq!(answers(&fleet, "mortal", MORTAL).await, 8);
    assert_eq!(answers(&fleet, "other", "gpt-6-luna").await, 8, "nothing was paid for twice");
    let closed = "select bool_and(state = 'closed') from circuit_breaker where playbook = 'mortal'";
    assert!(ask::<bool>(&fleet, closed).await);
}

#[tokio::test]
async fn a_model_that_the_project_may_not_use_pauses_its_playbook_until_it_may() {
    let playbooks = PlaybookFolder::new("model-forbidden", &[&mortal("")]);
    let fleet = fleet(&plan(&playbooks)).await;
    contact(&fleet, 1, &[BUYER]).await;
    set(&fleet, ModelAccess { forbidden: vec![MORTAL.to_owned()], ..ModelAccess::default() }).await;
    send_accepted(&fleet, &[note_event(1, 1)]).await;
    paused(&fleet, &note_event(1, 1)).await;
    // It is described all the same: the event itself finds out, again and again, and none of it counts.
    until("asked again", async || refusals(&fleet).await >= 4).await;
    set(&fleet, ModelAccess::default()).await;
    ended_as(&fleet, &note_event(1, 1), "written", None).await;
    assert_eq!(parked(&fleet).await, 0);
}

#[tokio::test]
async fn a_model_that_is_said_not_to_be_there_is_asked_all_the_same_after_the_longest_wait() {
    let playbooks = PlaybookFolder::new("model-undescribed", &[&mortal("")]);
    let fleet = fleet(&plan(&playbooks)).await;
    contact(&fleet, 1, &[BUYER]).await;
    set(&fleet, shut_down()).await;
    send_accepted(&fleet, &[note_event(1, 1)]).await;
    paused(&fleet, &note_event(1, 1)).await;
    set(&fleet, ModelAccess { undescribed: vec![MORTAL.to_owned()], ..ModelAccess::default() }).await;
    ended_as(&fleet, &note_event(1, 1), "written", None).await;
}

#[tokio::test]
async fn a_fallback_that_is_too_dear_to_be_asked_does_not_park_what_waits_for_its_own_model() {
    let options = "fallback = [\"gpt-6-astra\"]\nmax_micro_dollars_per_day = 50_000";
    let playbooks = PlaybookFolder::new("dear-fallback", &[&mortal(options)]);
    let fleet = fleet(&plan(&playbooks)).await;
    contact(&fleet, 1, &[BUYER]).await;
    set(&fleet, shut_down()).await;
    send_accepted(&fleet, &[note_event(1, 1)]).await;
    paused(&fleet, &note_event(1, 1)).await;
    set(&fleet, ModelAccess::default()).await;
    ended_as(&fleet, &note_event(1, 1), "written", None).await;
    assert_eq!(parked(&fleet).await, 0);
}

#[tokio::test]
async fn a_parameter_that_one_model_refuses_is_put_to_the_next_before_the_event_parks() {
    let playbooks = PlaybookFolder::new("parameter-fallback", &[&mortal("fallback = [\"gpt-4.1\"]")]);
    let fleet = fleet(&plan(&playbooks)).await;
    contact(&fleet, 1, &[BUYER]).await;
    let body = r#"{"error":{"code":"unsupported_value","param":"temperature","type":"invalid_request_error"}}"#;
    let refused = FaultKind::Answer { code: 400, body: body.to_owned() };
    let of_mortal = format!("\"model\":\"{MORTAL}\"");
    fleet.simulator.fault(&Fault::new(Target::Openai, refused).containing(&of_mortal)).await.expect("set");
    send_accepted(&fleet, &[note_event(1, 1)]).await;
    ended_as(&fleet, &note_event(1, 1), "written", None).await;
    assert_eq!(ask::<String>(&fleet, "select string_agg(model_requested, ' ') from inference").await, "gpt-4.1");
}

#[tokio::test]
async fn a_403_that_says_nothing_parks_one_event_and_pauses_for_several() {
    let playbooks = PlaybookFolder::new("unexplained", &[&mortal("")]);
    let fleet = fleet(&plan(&playbooks)).await;
    let blocked = FaultKind::Answer { code: 403, body: r#"{"message":"Forbidden"}"#.to_owned() };
    fleet.simulator.fault(&Fault::new(Target::Openai, blocked).containing("They have")).await.expect("set");
    for id in 1..=3 {
        contact(&fleet, id, &["They have $70k ready."]).await;
        send_accepted(&fleet, &[note_event(id, 1)]).await;
        if id < 3 {
            ended_as(&fleet, &note_event(id, 1), "parked", Some("openai_forbidden")).await;
        }
    }
    paused(&fleet, &note_event(3, 1)).await;
}

#[tokio::test]
async fn a_parameter_that_is_refused_once_parks_and_for_several_events_pauses() {
    let playbooks = PlaybookFolder::new("parameter", &[&mortal("temperature = 0.0")]);
    let fleet = fleet(&plan(&playbooks)).await;
    for id in 1..=4 {
        contact(&fleet, id, &[BUYER]).await;
    }
    let refused = || ModelAccess { refused_parameters: vec!["temperature".to_owned()], ..ModelAccess::default() };
    set(&fleet, refused()).await;
    for id in 1..=2 {
        send_accepted(&fleet, &[note_event(id, 1)]).await;
        ended_as(&fleet, &note_event(id, 1), "parked", Some("openai_invalid_request")).await;
    }
    send_accepted(&fleet, &[note_event(3, 1)]).await;
    paused(&fleet, &note_event(3, 1)).await;
    send_accepted(&fleet, &[note_event(4, 1)]).await;
    paused(&fleet, &note_event(4, 1)).await;
    let before = refusals(&fleet).await;
    until("one event at a time tries", async || refusals(&fleet).await >= before + 2).await;
    set(&fleet, ModelAccess::default()).await;
    for id in 3..=4 {
        ended_as(&fleet, &note_event(id, 1), "written", None).await;
    }
    assert_eq!(parked(&fleet).await, 2);
}

#[tokio::test]
async fn an_answer_between_two_refusals_of_a_parameter_starts_the_count_anew() {
    let playbooks = PlaybookFolder::new("parameter-counted", &[&mortal("temperature = 0.0")]);
    let fleet = fleet(&plan(&playbooks).with("circuit_breaker.refusal_threshold", "2")).await;
    let refused = || ModelAccess { refused_parameters: vec!["temperature".to_owned()], ..ModelAccess::default() };
    for id in [1, 3, 5] {
        for (id, access) in [(id, refused()), (id + 1, ModelAccess::default())] {
            contact(&fleet, id, &[BUYER]).await;
            let is_refused = !access.refused_parameters.is_empty();
            set(&fleet, access).await;
            send_accepted(&fleet, &[note_event(id, 1)]).await;
            let (state, reason) =
                if is_refused { ("parked", Some("openai_invalid_request")) } else { ("written", None) };
            ended_as(&fleet, &note_event(id, 1), state, reason).await;
        }
        let forgotten = "select cardinality(refused_events) = 0 from circuit_breaker where playbook = 'mortal'";
        until("forgotten", async || ask(&fleet, forgotten).await).await;
    }
}

#[tokio::test]
async fn the_next_model_answers_while_one_is_away_and_the_ledger_says_which() {
    let playbooks = PlaybookFolder::new("fallback", &[&mortal("fallback = [\"gpt-4.1\", \"gpt-6.1-terra\"]")]);
    let fleet = fleet(&plan(&playbooks)).await;
    for id in 1..=3 {
        contact(&fleet, id, &[BUYER]).await;
    }
    let away = [MORTAL.to_owned(), "gpt-4.1".to_owned()];
    set(&fleet, ModelAccess { shut_down: away.to_vec(), ..ModelAccess::default() }).await;
    send_accepted(&fleet, &[note_event(1, 1)]).await;
    let story = ended_as(&fleet, &note_event(1, 1), "written", None).await;
    assert_eq!(story.history.len(), 3, "it did not wait: {:?}", story.history);
    let models = "select string_agg(model_requested || ' ' || model, ', ' order by created_at) from inference";
    assert_eq!(ask::<String>(&fleet, models).await, "gpt-6.1-terra gpt-6.1-terra-2026-10-26");
    let charged = "select string_agg(model || ' ' || state, ', ' order by created_at) from charge";
    assert_eq!(ask::<String>(&fleet, charged).await, "gpt-4o free, gpt-4.1 free, gpt-6.1-terra answered");
    send_accepted(&fleet, &[note_event(2, 1)]).await;
    ended_as(&fleet, &note_event(2, 1), "written", None).await;

    set(&fleet, ModelAccess::default()).await;
    let half_open = "select bool_or(state <> 'open') from circuit_breaker where model = 'gpt-4o'";
    until("the first model is found again", async || ask(&fleet, half_open).await).await;
    let times = std::cell::Cell::new(1);
    until("it answers again", async || {
        let n = times.get() + 1;
        times.set(n);
        fixtures::note(&fleet, 500 + n, 3, &format!("Call {n}: they have $70k ready.")).await;
        send_accepted(&fleet, &[note_event(3, n)]).await;
        ended_as(&fleet, &note_event(3, n), "written", None).await;
        answers(&fleet, "mortal", MORTAL).await > 0
    })
    .await;
    assert_eq!(parked(&fleet).await, 0);
}

#[tokio::test]
async fn what_the_first_model_could_read_is_shortened_for_a_fallback_that_reads_less() {
    // gpt-4.1 reads a million tokens, gpt-4o 128,000.
    let options = "name = \"gpt-4.1\"\nfallback = [\"gpt-4o\"]";
    let roomy = playbook("roomy", options).replace("max_tokens = 24_000", "max_tokens = 500_000");
    let playbooks = PlaybookFolder::new("fallback-window", &[&roomy]);
    let limits = plan(&playbooks).with("rate_limit.openai_tokens_per_minute", "10000000");
    let fleet = fleet(&limits).await;
    // A token a word: nine notes are some 160,000 tokens.
    let notes: Vec<_> = (1..=9).map(|day| format!("Day {day}. {BUYER} {}", "so it is ".repeat(6_000))).collect();
    contact(&fleet, 1, &notes.iter().map(String::as_str).collect::<Vec<_>>()).await;
    set(&fleet, ModelAccess { shut_down: vec!["gpt-4.1".to_owned()], ..ModelAccess::default() }).await;
    send_accepted(&fleet, &[note_event(1, 1)]).await;
    ended_as(&fleet, &note_event(1, 1), "written", None).await;
    assert_eq!(answers(&fleet, "roomy", "gpt-4o").await, 1);
    assert_eq!(refusals(&fleet).await, 1, "the first model's alone: it is not there");
    let read: i64 = ask(&fleet, "select prompt_tokens from inference").await;
    assert!((60_000..128_000).contains(&read), "{read} tokens");
}

#[tokio::test]
async fn an_answer_of_another_playbook_that_cannot_be_used_is_not_paid_for_again_while_the_event_waits() {
    let playbooks = PlaybookFolder::new("unusable", &[&mortal(""), &playbook("other", "")]);
    let fleet = fleet(&plan(&playbooks)).await;
    contact(&fleet, 1, &[BUYER]).await;
    set(&fleet, shut_down()).await;
    let declines = Fault::new(Target::Openai, FaultKind::Refusal).containing("\"name\":\"other\"");
    fleet.simulator.fault(&declines).await.expect("set");
    send_accepted(&fleet, &[note_event(1, 1)]).await;
    let waits = "select count(*) from event_history where state = 'waiting' and reason = 'model_paused'";
    until("it came back several times", async || ask::<i64>(&fleet, waits).await >= 3).await;
    set(&fleet, ModelAccess::default()).await;
    ended_as(&fleet, &note_event(1, 1), "parked", Some("refused")).await;
    assert_eq!(answers(&fleet, "other", "gpt-6-luna").await, 1);
    // What the first playbook answered is written all the same.
    until("written", async || property(&fleet, 1, "lead_score").await.is_some()).await;
    assert_eq!(ask::<i64>(&fleet, "select count(*) from event where unusable_answers is not null").await, 0);
}

#[tokio::test]
async fn an_answer_of_another_playbook_that_cannot_be_read_is_not_asked_for_again_while_the_event_waits() {
    let playbooks = PlaybookFolder::new("unreadable", &[&mortal(""), &playbook("other", "")]);
    let fleet = fleet(&plan(&playbooks)).await;
    contact(&fleet, 1, &[BUYER]).await;
    set(&fleet, shut_down()).await;
    let odd = Fault::new(Target::Openai, FaultKind::OddForm(OddForm::NullChoices));
    fleet.simulator.fault(&odd.containing("\"name\":\"other\"")).await.expect("set");
    send_accepted(&fleet, &[note_event(1, 1)]).await;
    let waits = "select count(*) from event_history where state = 'waiting' and reason = 'model_paused'";
    until("it came back several times", async || ask::<i64>(&fleet, waits).await >= 3).await;
    set(&fleet, ModelAccess::default()).await;
    ended_as(&fleet, &note_event(1, 1), "parked", Some("openai_unreadable")).await;
    assert_eq!(answers(&fleet, "other", "gpt-6-luna").await, 2, "once, and once more");
}

/// One event that is answered 404 whatever happens, as by a gateway that does not like its text.
#[tokio::test]
async fn an_event_that_pauses_the_model_again_and_again_is_parked_and_the_others_go_on() {
    let playbooks = PlaybookFolder::new("own-doing", &[&mortal("")]);
    let fleet = fleet(&plan(&playbooks).with("broker.max_attempts", "3")).await;
    contact(&fleet, 1, &["The one that is blocked."]).await;
    let blocked = Fault::new(Target::Openai, FaultKind::Status { code: 404, retry_after: None });
    fleet.simulator.fault(&blocked.containing("The one that is blocked")).await.expect("set");
    send_accepted(&fleet, &[note_event(1, 1)]).await;
    let event = note_event(1, 1);
    tokio::select! {
        _ = ended_as(&fleet, &event, "parked", Some("model_paused")) => {}
        () = others_are_written(&fleet) => {}
    }
    assert!(questions(&fleet).await > 3);
}
