//! `leadline playbook`: an operator adds a use case by writing one file.

use lab::{Fleet, FleetPlan};
use simulator::admin::Quirks;
use testbed::workspace;

use fixtures::{
    BUYER, PlaybookFolder, ask, contact, fleet, happened, held, object, pipeline, property, questions, tasks, times_set,
};

pub fn no_services() -> FleetPlan {
    FleetPlan { receivers: 0, inferences: 0, writers: 0, ..pipeline() }
}

/// Runs it and gives whether it succeeded and what it said.
pub async fn playbook(fleet: &Fleet, arguments: &[&str]) -> (bool, String) {
    let output = fleet.leadline(&[&["playbook"], arguments].concat()).await.expect("runs");
    (output.status.success(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
}

pub const LEADS: &str = "deploy/playbooks/lead-qualification.toml";

#[tokio::test]
async fn check_explains_what_a_playbook_would_do_and_what_is_wrong_with_it() {
    let fleet = fleet(&no_services()).await;
    let (good, said) = playbook(&fleet, &["check", LEADS, "deploy/playbooks/churn-risk.toml"]).await;
    assert!(good, "{said}");
    for part in [
        "object.creation  0-46 (note)",
        "contact.propertyChange  0-1 (contact)  notes_last_updated",
        "not when record.lifecyclestage == 'customer'  (customer)",
        "ticket > contact > deal  (at most 3)",
        "\"budget_estimate_quote\"",
        "contact.lead_score ← field lead_score  (unless_human)",
        "call-high-value-prospect: create_task on contact, when answer.lead_score >= 85",
        "deal-at-risk: move_deal to Risk",
        "answer.sentiment <= -0.5  proposed first",
    ] {
        assert!(said.contains(part), "{part} in\n{said}");
    }
    let text = include_str!("../../deploy/playbooks/lead-qualification.toml");
    let folder = PlaybookFolder::new("wrong", &[&text.replace("answer.lead_score >= 85", "answer.leadscore >= 85")]);
    let wrong = folder.file("1.toml");
    let (good, said) = playbook(&fleet, &["check", &wrong]).await;
    let line = text.lines().position(|line| line.contains("answer.lead_score >= 85")).expect("there") + 1;
    assert!(!good && said.contains(&format!(".toml:{line}: when: `answer.leadscore` is undefined")), "{said}");
    // Right on its own, but it would wait for ever for what the other one writes.
    let waits = text
        .replace("name = \"lead-qualification\"", "name = \"waits\"")
        .replace("[\"notes_last_updated\"]", "[\"ai_sentiment_score\"]");
    folder.write("1.toml", &waits);
    assert!(playbook(&fleet, &["check", &wrong]).await.0);
    let (good, said) = playbook(&fleet, &["check", &wrong, "deploy/playbooks/churn-risk.toml"]).await;
    assert!(
        !good && said.contains("contact.ai_sentiment_score starts nothing, because the playbook `churn-risk`"),
        "{said}"
    );
}

#[tokio::test]
async fn provision_prints_its_plan_creates_what_is_missing_and_changes_nothing() {
    let plan = FleetPlan { simulator_arguments: vec!["--without-ai-properties".to_owned()], ..no_services() };
    let fleet = fleet(&plan).await;
    let (good, said) = playbook(&fleet, &["provision", "--dry-run"]).await;
    assert!(good && said.contains("nothing was created: this was a dry run"), "{said}");
    let (good, json) = playbook(&fleet, &["provision", "--dry-run", "--json"]).await;
    let plan: serde_json::Value = serde_json::from_str(&json).expect("JSON and nothing else");
    let planned = |name: &str| {
        let mut properties = plan["properties"].as_array().expect("properties").iter();
        properties.find(|row| row["property"] == name).unwrap_or_else(|| panic!("{name} in {json}"))
    };
    let of_score = serde_json::json!({
        "step": "create", "property": "contact.lead_score", "type": "number", "field_type": "number", "detail": null
    });
    assert!(good && *planned("contact.lead_score") == of_score, "{json}");
    assert_eq!(planned("deal.ai_churn_urgency")["detail"], "options low, medium, high", "{json}");
    assert_eq!(plan["created"], 0, "{json}");
    assert!(!fleet.leadline(&["check"]).await.expect("runs").status.success(), "nothing was created yet");

    let (good, said) = playbook(&fleet, &["provision"]).await;
    assert!(good && said.contains("property groups to create"), "{said}");
    let check = fleet.leadline(&["check"]).await.expect("runs");
    assert!(check.status.success(), "{}", String::from_utf8_lossy(&check.stdout));
    let (good, said) = playbook(&fleet, &["provision"]).await;
    assert!(good && said.contains("created 0 properties") && !said.contains("create "), "{said}");
}

#[tokio::test]
async fn provision_refuses_a_property_of_another_type_and_says_what_to_do() {
    let fleet = fleet(&no_services()).await;
    let text = include_str!("../../deploy/playbooks/lead-qualification.toml");
    let conflict = text.replace("property = \"lead_score\"", "property = \"jobtitle\"");
    let folder = PlaybookFolder::new("conflict", &[&conflict]);
    fleet
        .simulator
        .quirks(&Quirks { missing_properties: vec!["ai_lead_summary".to_owned()], ..Quirks::default() })
        .await
        .expect("set");
    let (good, said) = playbook(&fleet, &["provision", &folder.file("1.toml")]).await;
    assert!(!good, "{said}");
    assert!(said.contains("conflict  contact.jobtitle"), "{said}");
    assert!(said.contains("exists with type string"), "{said}");
    assert!(said.contains("name another property in the playbook"), "{said}");
    let calls = fleet.simulator.calls(0).await.expect("asked");
    assert!(
        !calls.iter().any(|call| call.method == "POST" && call.path.contains("/properties/")),
        "nothing was created"
    );
}

#[tokio::test]
async fn run_shows_everything_and_writes_only_when_told_to() {
    let fleet = fleet(&FleetPlan { receivers: 0, inferences: 0, ..pipeline() }).await;
    contact(&fleet, 1, &[BUYER]).await;
    let (good, said) = playbook(&fleet, &["run", LEADS, "--record", "contact/1"]).await;
    assert!(good, "{said}");
    for part in [
        "company: \"Marsh\"",
        "They have $50k ready for Q1",
        "You qualify sales leads",
        "\"lead_score\": 85",
        "quotations: all found",
        "contact/1.lead_score = \"85\"",
        "create_task (call-high-value-prospect)",
        "nothing was written",
    ] {
        assert!(said.contains(part), "{part} in\n{said}");
    }
    assert_eq!(times_set(&fleet, 1, "lead_score").await, 0);
    assert!(tasks(&fleet).await.is_empty());

    let (good, said) = playbook(&fleet, &["run", LEADS, "--record", "contact/1", "--write"]).await;
    assert!(good && said.contains("contact.manual"), "{said}");
    let paid = "select c.state || ' ' || (c.micro_dollars = i.cost_micro_dollars and c.micro_dollars > 0)
                from charge c join inference i on i.id = c.inference_id";
    assert_eq!(ask::<String>(&fleet, paid).await, "answered true", "what was written was paid for");
    assert_eq!(property(&fleet, 1, "lead_score").await.as_deref(), Some("85"));
    assert_eq!(tasks(&fleet).await.len(), 1);
    assert_eq!(questions(&fleet).await, 2);

    let (good, said) = playbook(&fleet, &["run", LEADS, "--record", "deal/1"]).await;
    assert!(!good && said.contains("the playbook is about contact, not about a deal"), "{said}");
}

/// The example in docs/playbooks.md: meeting notes become MEDDIC fields, by one file.
#[tokio::test]
async fn a_fourth_use_case_takes_one_file() {
    let root = workspace::root().expect("the workspace");
    let page = std::fs::read_to_string(root.join("docs/playbooks.md")).expect("there");
    let (_, rest) = page.split_once("```toml\n# deploy/playbooks/meddic.toml\n").expect("the page shows it");
    let (text, _) = rest.split_once("```").expect("its end");
    let folder = PlaybookFolder::new("fourth", &[text]);
    let fleet = fleet(&pipeline().with("inference.playbooks", folder.path())).await;
    let (good, said) = playbook(&fleet, &["provision"]).await;
    assert!(good, "{said}");
    contact(&fleet, 1, &[]).await;
    object(&fleet, "deal", 20, &[("dealname", "Pilot")], &[("contact", 1)]).await;
    let body = "The CTO decides. Their pain is manual invoicing. Budget is $80k.";
    let meeting = [("hs_meeting_body", body), ("hs_timestamp", "2026-11-20T10:00:00Z")];
    object(&fleet, "meeting", 70, &meeting, &[("deal", 20)]).await;
    let event = happened("meeting", 70, "creation", None, 1);
    fixtures::send_accepted(&fleet, std::slice::from_ref(&event)).await;
    fixtures::ended_as(&fleet, &event, "written", None).await;
    assert!(held(&fleet, "deal", 20, "meddic_economic_buyer").await.is_some_and(|text| text.contains("CTO")));
}

/// A score that HubSpot calculates looks like any other number, and says so only in its metadata.
#[tokio::test]
async fn check_and_provision_name_properties_that_take_no_value() {
    let fleet = fleet(&no_services()).await;
    let quirks = Quirks {
        read_only_properties: vec!["lead_score".to_owned()],
        maxima: [("ai_budget_estimate".to_owned(), 40_000)].into(),
        ..Quirks::default()
    };
    fleet.simulator.quirks(&quirks).await.expect("set");
    let rule = "the portal's rule MAX_NUMBER (40000) may refuse what `lead-qualification` writes";
    let check = fleet.leadline(&["check"]).await.expect("runs");
    let said = String::from_utf8_lossy(&check.stdout).into_owned();
    assert!(!check.status.success() && said.contains("`contact.lead_score` is read-only"), "{said}");
    assert!(said.contains(rule), "{said}");
    let (good, said) = playbook(&fleet, &["provision"]).await;
    assert!(!good && said.contains("conflict  contact.lead_score") && said.contains("is read-only"), "{said}");
    assert!(said.contains(rule), "{said}");
}

/// Without the properties an answer is good for nothing.
#[tokio::test]
async fn a_playbook_that_can_write_nothing_asks_nothing_until_its_properties_are_there() {
    let arguments = vec!["--without-ai-properties".to_owned()];
    let fleet = fleet(&FleetPlan { simulator_arguments: arguments, ..pipeline() }).await;
    contact(&fleet, 1, &[BUYER]).await;
    let event = fixtures::note_event(1, 1);
    fixtures::send_accepted(&fleet, std::slice::from_ref(&event)).await;
    let story = fixtures::ended_as(&fleet, &event, "parked", Some("not_writable")).await;
    let detail = story.detail.expect("a detail");
    assert!(detail.contains("`contact.lead_score` does not exist"), "{detail}");
    assert_eq!(questions(&fleet).await, 0, "nothing was paid for");
    let (good, said) = playbook(&fleet, &["provision"]).await;
    assert!(good, "{said}");
    // What was just created is seen within seconds.
    let is_written = async || {
        fleet.leadline(&["parked", "replay", "--reason", "not_writable", "--yes"]).await.expect("runs");
        fixtures::ended(&fleet, &event).await.state == domain::EventState::Written
    };
    fixtures::until("the event is written", is_written).await;
    assert_eq!(questions(&fleet).await, 1);
}
