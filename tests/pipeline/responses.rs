//! The same playbooks through the Responses API, and what an answer costs: in the service tier that it names, and with the cache.

use domain::model::ServiceTier;
use lab::{Fleet, FleetPlan};
use serde_json::json;
use simulator::{Call, Fault, FaultKind, Target};

use fixtures::{
    BUYER, PlaybookFolder, ask, contact, ended_as, fleet, happened, held, note_event, object, pipeline, property,
    questions, send_accepted,
};

const LEADS: &str = include_str!("../../deploy/playbooks/lead-qualification.toml");
const CALLS: &str = include_str!("../../deploy/playbooks/call-summary.toml");

/// A fleet that asks through the Responses API.
fn through_responses() -> FleetPlan {
    pipeline().with("openai.api", "responses")
}

async fn model_does(fleet: &Fleet, kind: FaultKind) {
    fleet.simulator.fault(&Fault::new(Target::Openai, kind).times(1)).await.expect("set");
}

/// The questions that reached the model, with their answers.
async fn asked(fleet: &Fleet) -> Vec<Call> {
    let calls = fleet.simulator.calls(0).await.expect("asked");
    calls.into_iter().filter(|call| call.path.starts_with("/v1/") && call.method == "POST").collect()
}

/// What OpenAI billed and what the ledger says, in micro-dollars.
async fn billed_and_recorded(fleet: &Fleet) -> (i64, i64) {
    let charges = fleet.simulator.charges().await.expect("asked");
    let recorded = "select sum(cost_micro_dollars)::bigint from cost_by_playbook_and_day";
    (charges.iter().map(|charge| charge.micro_dollars).sum(), ask(fleet, recorded).await)
}

#[tokio::test]
async fn a_playbook_is_answered_through_the_responses_api_and_nothing_is_stored_there() {
    let fleet = fleet(&through_responses().with("openai.model", "gpt-6-luna")).await;
    contact(&fleet, 1, &[BUYER]).await;
    send_accepted(&fleet, &[note_event(1, 1)]).await;
    let story = ended_as(&fleet, &note_event(1, 1), "written", None).await;
    assert_eq!(property(&fleet, 1, "ai_budget_estimate").await.as_deref(), Some("50000"));
    assert_eq!(story.inferences[0].service_tier, Some(ServiceTier::Default));
    let asked = asked(&fleet).await;
    assert_eq!((asked.len(), asked[0].path.as_str()), (1, "/v1/responses"));
    let request = &asked[0].request;
    assert_eq!((&request["store"], &request["reasoning"]), (&json!(false), &json!({"effort": "low"})));
    assert_eq!(request["text"]["format"]["type"], "json_schema");
    assert_eq!(request["prompt_cache_key"], format!("leadline-{}", story.inferences[0].playbook_version));
    let (billed, recorded) = billed_and_recorded(&fleet).await;
    assert_eq!(billed, recorded);
}

#[tokio::test]
async fn refused_filtered_cut_and_misshapen_answers_mean_the_same_through_both_apis() {
    let fleet = fleet(&through_responses().with("openai.model", "gpt-4o")).await;
    for (id, kind, state, reason, asked) in [
        (1, FaultKind::Refusal, "parked", Some("refused"), 1),
        (2, FaultKind::ContentFilter, "parked", Some("content_filtered"), 1),
        (3, FaultKind::Length, "written", None, 2),
        (4, FaultKind::Prose, "written", None, 2),
        (5, FaultKind::NoChoices, "written", None, 2),
        (6, FaultKind::NoUsage, "written", None, 1),
    ] {
        let before = questions(&fleet).await;
        contact(&fleet, id, &[BUYER]).await;
        model_does(&fleet, kind.clone()).await;
        send_accepted(&fleet, &[note_event(id, 1)]).await;
        ended_as(&fleet, &note_event(id, 1), state, reason).await;
        assert_eq!(questions(&fleet).await - before, asked, "{kind:?}");
    }
}

#[tokio::test]
async fn a_model_that_calls_no_functions_in_chat_completions_calls_them_through_responses_while_it_reasons() {
    let playbook = CALLS.replace("effort = \"none\"", "name = \"gpt-6-astra\"\neffort = \"high\"");
    assert_ne!(playbook, CALLS);
    let folder = PlaybookFolder::new("responses-functions", &[&playbook]);
    let fleet = fleet(&through_responses().with("inference.playbooks", folder.path())).await;
    contact(&fleet, 1, &[]).await;
    object(&fleet, "deal", 20, &[("dealname", "Pilot")], &[("contact", 1)]).await;
    let call = [("hs_call_body", "They liked the demo. We will send the offer by 2026-12-01.")];
    object(&fleet, "call", 40, &call, &[("contact", 1), ("deal", 20)]).await;
    let event = happened("call", 40, "creation", None, 1);
    send_accepted(&fleet, std::slice::from_ref(&event)).await;
    ended_as(&fleet, &event, "written", None).await;
    let summary = held(&fleet, "contact", 1, "ai_call_summary").await.expect("a summary");
    assert!(summary.contains("liked the demo"), "{summary}");
    let asked = asked(&fleet).await;
    let request = &asked[0].request;
    assert_eq!(request["tool_choice"], json!({"type": "function", "name": "call-summary"}));
    assert_eq!((&request["parallel_tool_calls"], &request["reasoning"]["effort"]), (&json!(false), &json!("high")));
    let (billed, recorded) = billed_and_recorded(&fleet).await;
    assert_eq!(billed, recorded, "with its reasoning");
}

#[tokio::test]
async fn an_answer_costs_what_the_tier_that_it_names_costs_and_the_dearest_is_reserved() {
    let playbook =
        LEADS.replace("mode = \"schema\"", "name = \"gpt-6.1-terra\"\nservice_tier = \"fast\"\nverbosity = \"low\"");
    let folder = PlaybookFolder::new("service-tiers", &[&playbook]);
    let fleet = fleet(&pipeline().with("inference.playbooks", folder.path())).await;
    let mut costs = Vec::new();
    for (id, answered) in [(1, ServiceTier::Priority), (2, ServiceTier::Default), (3, ServiceTier::Flex)] {
        contact(&fleet, id, &[BUYER]).await;
        if answered != ServiceTier::Priority {
            model_does(&fleet, FaultKind::Tier(answered.to_string())).await;
        }
        send_accepted(&fleet, &[note_event(id, 1)]).await;
        let story = ended_as(&fleet, &note_event(id, 1), "written", None).await;
        assert_eq!(story.inferences[0].service_tier, Some(answered));
        costs.push(story.inferences[0].cost_micro_dollars.expect("priced"));
    }
    // The prompts differ by a few tokens.
    let ratio = |index: usize| costs[index] * 100 / costs[1];
    assert!((190..=210).contains(&ratio(0)) && (45..=55).contains(&ratio(2)), "{costs:?}");
    let (billed, recorded) = billed_and_recorded(&fleet).await;
    assert_eq!(billed, recorded);
    let too_low = "select count(*) from charge where reserved_micro_dollars < micro_dollars";
    assert_eq!(ask::<i64>(&fleet, too_low).await, 0);
    let asked = asked(&fleet).await;
    let said = asked.iter().map(|call| (&call.request["service_tier"], &call.request["verbosity"]));
    assert!(said.into_iter().all(|said| said == (&json!("priority"), &json!("low"))));
}

#[tokio::test]
async fn a_surcharge_is_on_top_and_compatible_servers_get_no_parameter_that_they_do_not_know() {
    let plan = pipeline()
        .with("openai.model", "gpt-4o")
        .with("openai.surcharge_percent", "10")
        .with("openai.service_tier", "auto")
        .with("openai.prompt_cache", "false");
    let fleet = fleet(&plan).await;
    contact(&fleet, 1, &[BUYER]).await;
    send_accepted(&fleet, &[note_event(1, 1)]).await;
    ended_as(&fleet, &note_event(1, 1), "written", None).await;
    let (billed, recorded) = billed_and_recorded(&fleet).await;
    let expected = (billed * 110).div_euclid(100);
    assert!((expected - 1..=expected + 1).contains(&recorded), "{recorded} µ$ for {billed} and a tenth");
    let asked = asked(&fleet).await;
    let request = asked[0].request.as_object().expect("an object");
    for parameter in ["service_tier", "prompt_cache_key", "verbosity", "reasoning_effort"] {
        assert!(!request.contains_key(parameter), "{request:?}");
    }
}

#[tokio::test]
async fn long_instructions_are_read_from_the_cache_and_no_data_is_written_to_it() {
    let rules =
        "- Judge what the notes say about budget, authority, need and time, and nothing that they do not say.\n"
            .repeat(60);
    let playbook = LEADS.replace("Answer with JSON only.", &format!("{rules}\nAnswer with JSON only."));
    let folder = PlaybookFolder::new("cached-instructions", &[&playbook]);
    for api in ["chat_completions", "responses"] {
        let plan = pipeline().with("inference.playbooks", folder.path()).with("openai.api", api);
        let fleet = fleet(&plan.with("openai.model", "gpt-6-luna")).await;
        let long = format!("{BUYER} {}", "Nothing new. We talked about the weather and the summer. ".repeat(200));
        for id in [1, 2] {
            contact(&fleet, id, &[&long]).await;
            send_accepted(&fleet, &[note_event(id, 1)]).await;
            ended_as(&fleet, &note_event(id, 1), "written", None).await;
        }
        let asked = asked(&fleet).await;
        let details = |call: &Call| {
            let usage = &call.response["usage"];
            let details = [&usage["prompt_tokens_details"], &usage["input_tokens_details"]];
            let of = |kind: &str| details.iter().find_map(|details| details[kind].as_i64()).expect("a number");
            (of("cached_tokens"), of("cache_write_tokens"))
        };
        let instructions = details(&asked[0]).1;
        assert!((1_024..2_000).contains(&instructions), "{instructions}: without the data, of 2,000 tokens and more");
        assert_eq!([details(&asked[0]), details(&asked[1])], [(0, instructions), (instructions, 0)], "{api}");
        let (billed, recorded) = billed_and_recorded(&fleet).await;
        assert_eq!(billed, recorded);
        let share = "select cached_percent::float8 from cost_by_playbook_and_day";
        assert!(ask::<f64>(&fleet, share).await > 10.0);
    }
}
