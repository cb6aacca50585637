//! An answer that was paid for has its effect, or its event says truthfully why not; and nobody pays for it twice.

use fixtures::{
    BUYER, PlaybookFolder, WITHIN, ask, contact, ended_as, fleet, key, note, note_event, object, pipeline, property,
    questions, send_accepted, sql, until,
};
use lab::{Fleet, FleetPlan};
use simulator::{Fault, FaultKind, Target, admin::Edit};

/// Fails where the contact's job title is no number.
const FAILING: &str =
    "\n[[writes]]\nproperty = \"ai_sentiment_score\"\ntext = \"{{ (record.jobtitle or 1) | int }}\"\n";

/// A fleet with these playbooks.
fn plan(playbooks: &PlaybookFolder) -> FleetPlan {
    pipeline().with("inference.playbooks", playbooks.path())
}

/// The shipped lead qualification, and a write whose text cannot be rendered for every record.
fn failing() -> String {
    include_str!("../../deploy/playbooks/lead-qualification.toml").to_owned() + FAILING
}

/// A contact about whom the text of [`FAILING`] cannot be rendered.
async fn unrenderable(fleet: &Fleet, id: i64) {
    object(fleet, "contact", id, &[("firstname", "Ada"), ("jobtitle", "Head of sales")], &[]).await;
    note(fleet, 500 + id, id, BUYER).await;
}

#[tokio::test]
async fn an_answer_whose_plan_failed_is_planned_again_when_its_event_is_replayed() {
    let playbooks = PlaybookFolder::new("planned-again", &[&failing()]);
    let fleet = fleet(&plan(&playbooks)).await;
    unrenderable(&fleet, 1).await;
    send_accepted(&fleet, &[note_event(1, 1)]).await;
    let parked = ended_as(&fleet, &note_event(1, 1), "parked", Some("template_failed")).await;
    assert_eq!(parked.inferences[0].outcome.as_str(), "valid", "{parked:?}");
    fleet.until_parked("leadline.events", 1, WITHIN).await.expect("parked");

    let mended = Edit {
        properties: [("jobtitle".to_owned(), "7".to_owned())].into(),
        source: "CRM_UI".to_owned(),
        source_id: "userId:42".to_owned(),
        announce: false,
    };
    fleet.simulator.edit("contact", 1, &mended).await.expect("edited");
    let replayed = fleet.leadline(&["parked", "replay", "--all", "--yes"]).await.expect("runs");
    assert!(replayed.status.success(), "{}", String::from_utf8_lossy(&replayed.stderr));
    let written = |state| state == domain::EventState::Written;
    fleet.until_event(&key(&note_event(1, 1)), written, WITHIN).await.expect("written");
    assert_eq!(property(&fleet, 1, "ai_sentiment_score").await.as_deref(), Some("7"));
    assert_eq!(property(&fleet, 1, "ai_budget_estimate").await.as_deref(), Some("50000"));
    assert_eq!(questions(&fleet).await, 1, "the stored answer was used");
}

#[tokio::test]
async fn a_context_whose_answer_could_not_be_planned_is_not_taken_for_answered() {
    let playbooks = PlaybookFolder::new("not-answered", &[&failing()]);
    let fleet = fleet(&plan(&playbooks)).await;
    unrenderable(&fleet, 1).await;
    for n in 1..=2 {
        send_accepted(&fleet, &[note_event(1, n)]).await;
        ended_as(&fleet, &note_event(1, n), "parked", Some("template_failed")).await;
    }
    assert_eq!(property(&fleet, 1, "lead_score").await, None);
}

#[tokio::test]
async fn a_playbook_whose_plan_failed_says_so_when_another_one_had_to_be_retried() {
    let other = include_str!("../../deploy/playbooks/lead-qualification.toml")
        .replace("name = \"lead-qualification\"", "name = \"second\"");
    let playbooks = PlaybookFolder::new("two-playbooks", &[&failing(), &other]);
    let fleet = fleet(&plan(&playbooks).with("openai.attempts", "1")).await;
    unrenderable(&fleet, 1).await;
    let away = FaultKind::Status { code: 503, retry_after: None };
    let fault = Fault::new(Target::Openai, away).containing("\"name\":\"second\"").times(1);
    fleet.simulator.fault(&fault).await.expect("set");
    send_accepted(&fleet, &[note_event(1, 1)]).await;
    let story = ended_as(&fleet, &note_event(1, 1), "parked", Some("template_failed")).await;
    assert!(story.history.iter().any(|entry| entry.reason.map(domain::Reason::as_str) == Some("openai_unavailable")));
    assert_eq!(questions(&fleet).await, 3, "one of the first playbook, two of the second");
    // What the second one answered is written all the same.
    until("written", async || property(&fleet, 1, "lead_score").await.is_some()).await;
}

/// Postgres takes no answer for a while, with an error that may pass.
#[tokio::test]
async fn an_answer_that_cannot_be_used_is_not_paid_for_again_when_the_ledger_refuses_the_decision() {
    let named = |name: &str| {
        let playbook = include_str!("../../deploy/playbooks/lead-qualification.toml");
        playbook.replace("name = \"lead-qualification\"", &format!("name = \"{name}\""))
    };
    let playbooks = PlaybookFolder::new("refused-decision", &[&named("first"), &named("second")]);
    let fleet = fleet(&plan(&playbooks)).await;
    sql(
        &fleet,
        "create function refuse() returns trigger language plpgsql as $$ begin raise exception 'not now'; end $$;
         create trigger refuse before insert on inference_raw for each row execute function refuse()",
    )
    .await;
    contact(&fleet, 1, &[BUYER]).await;
    let declines = Fault::new(Target::Openai, FaultKind::Refusal).containing("\"name\":\"second\"");
    fleet.simulator.fault(&declines).await.expect("set");
    send_accepted(&fleet, &[note_event(1, 1)]).await;
    let refused = "select exists (select from event_history where state = 'waiting' and reason = 'ledger_refused')";
    until("the decision is refused", async || ask(&fleet, refused).await).await;
    sql(&fleet, "drop trigger refuse on inference_raw").await;
    ended_as(&fleet, &note_event(1, 1), "parked", Some("refused")).await;
    let calls = fleet.simulator.calls(0).await.expect("asked");
    let second = calls.iter().filter(|call| call.request.to_string().contains("\"name\":\"second\"")).count();
    assert_eq!(second, 1);
}
