//! Nothing that the model says is written before it passed the playbook's schema.

use lab::Fleet;
use simulator::{Fault, FaultKind, Target};

use fixtures::{
    BUYER, PlaybookFolder, WITHIN, ask, contact, ended_as, fleet, note, note_event, pipeline, property, questions,
    send_accepted,
};

async fn model_does(fleet: &Fleet, kind: FaultKind, times: Option<u32>) {
    let fault = Fault::new(Target::Openai, kind).times(times);
    fleet.simulator.fault(&fault).await.expect("set");
}

#[tokio::test]
async fn refusals_filtered_and_cut_answers_are_parked_with_their_reason_and_never_written() {
    let fleet = fleet(&pipeline()).await;
    let cases = [
        (1, FaultKind::Refusal, 1, "refused", "refused"),
        (2, FaultKind::ContentFilter, 1, "content_filtered", "filtered"),
        (3, FaultKind::Length, 2, "answer_truncated", "truncated"),
        (4, FaultKind::Prose, 2, "schema_invalid", "invalid"),
    ];
    for (id, kind, times, reason, outcome) in cases {
        contact(&fleet, id, &[BUYER]).await;
        model_does(&fleet, kind, Some(times)).await;
        send_accepted(&fleet, &[note_event(id, 1)]).await;
        let story = ended_as(&fleet, &note_event(id, 1), "parked", Some(reason)).await;
        assert_eq!(story.inferences.len(), 1, "what was paid for is in the ledger");
        assert_eq!(story.inferences[0].outcome.as_str(), outcome);
        assert_eq!(property(&fleet, id, "lead_score").await, None);
        fleet.simulator.clear_faults().await.expect("cleared");
    }
    fleet.until_parked("leadline.events", 4, WITHIN).await.expect("all are in the parking lot");
    let messages = fleet.namespace.take_messages("leadline.events.parked", 4).await.expect("taken");
    let reasons: Vec<_> = messages.iter().map(|m| m["properties"]["headers"]["x-leadline-reason"].clone()).collect();
    assert_eq!(reasons, ["refused", "content_filtered", "answer_truncated", "schema_invalid"]);
}

#[tokio::test]
async fn one_bad_answer_is_repaired_and_one_cut_answer_gets_more_room() {
    let fleet = fleet(&pipeline()).await;
    for (id, kind) in [(1, FaultKind::Prose), (2, FaultKind::Length)] {
        contact(&fleet, id, &[BUYER]).await;
        model_does(&fleet, kind, Some(1)).await;
        send_accepted(&fleet, &[note_event(id, 1)]).await;
        let story = ended_as(&fleet, &note_event(id, 1), "written", None).await;
        assert_eq!(property(&fleet, id, "ai_budget_estimate").await.as_deref(), Some("50000"));
        let tokens: i64 = story.inferences.iter().map(|inference| inference.prompt_tokens).sum();
        assert!(tokens > 500, "both questions are paid for and counted: {tokens}");
    }
    assert_eq!(questions(&fleet).await, 4);
}

#[tokio::test]
async fn json_mode_says_the_schema_in_words_and_works_with_models_that_know_no_schema() {
    let shipped = include_str!("../../deploy/playbooks/lead-qualification.toml");
    let json_mode = shipped
        .replace("mode = \"schema\"", "mode = \"json\"")
        .replace("# name = \"gpt-6-luna\"", "name = \"gpt-4.1\"");
    assert!(json_mode.contains("\nname = \"gpt-4.1\""), "the test is stale");
    assert_ne!(json_mode, shipped);
    let folder = PlaybookFolder::new("json-mode", &[&json_mode]);
    let plan = pipeline().with("inference.playbooks", folder.path());
    let fleet = fleet(&plan).await;
    contact(&fleet, 1, &[BUYER]).await;
    send_accepted(&fleet, &[note_event(1, 1)]).await;
    let story = ended_as(&fleet, &note_event(1, 1), "written", None).await;
    assert_eq!(story.inferences[0].model, "gpt-4.1-2025-04-14");
    assert_eq!(property(&fleet, 1, "ai_budget_estimate").await.as_deref(), Some("50000"));
}

#[tokio::test]
async fn every_write_is_traced_to_event_prompt_raw_answer_model_and_playbook_version() {
    let fleet = fleet(&pipeline()).await;
    contact(&fleet, 1, &[BUYER]).await;
    send_accepted(&fleet, &[note_event(1, 1)]).await;
    let story = ended_as(&fleet, &note_event(1, 1), "written", None).await;
    let inference = &story.inferences[0];
    let prompt = inference.prompt.as_ref().expect("kept").to_string();
    assert!(prompt.contains("$50k ready for Q1") && prompt.contains("<crm_data "), "{prompt}");
    assert!(
        inference.answer.as_deref().expect("kept").contains("\"lead_score\":"),
        "{}",
        inference.answer.as_deref().expect("kept")
    );
    assert_eq!(inference.model, "gpt-6-luna-2026-10-26");
    assert!(inference.cost_micro_dollars.is_some_and(|cost| cost > 0));
    let score = story.writes.iter().find(|write| write.property == "lead_score").expect("written");
    assert_eq!(score.before, None);
    assert_eq!(property(&fleet, 1, "lead_score").await.as_deref(), Some(score.after.as_str()));
    let request: String = ask(&fleet, "select request_id from inference").await;
    assert!(request.starts_with("req_"));

    // The next write knows what this one left behind.
    note(&fleet, 501, 1, "The CTO joins the next call.").await;
    send_accepted(&fleet, &[note_event(1, 2)]).await;
    let next = ended_as(&fleet, &note_event(1, 2), "written", None).await;
    let again = next.writes.iter().find(|write| write.property == "lead_score").expect("written");
    assert_eq!(again.before.as_deref(), Some(score.after.as_str()));
}

#[tokio::test]
async fn nothing_to_say_is_not_paid_for() {
    let fleet = fleet(&pipeline()).await;
    contact(&fleet, 1, &["<p>&nbsp;</p>"]).await;
    contact(&fleet, 2, &[]).await;
    send_accepted(&fleet, &[note_event(1, 1), note_event(2, 1)]).await;
    for id in [1, 2] {
        ended_as(&fleet, &note_event(id, 1), "skipped", Some("empty_context")).await;
    }
    assert_eq!(questions(&fleet).await, 0);
}
