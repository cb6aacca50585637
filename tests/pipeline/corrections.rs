//! What people change of the fleet's values is known: by a webhook, and when the fleet reads before it writes again.

use lab::Fleet;
use serde_json::{Value, json};
use simulator::admin::Edit;

use crate::playbook_command::{LEADS, playbook};
use fixtures::{
    BUYER, PlaybookFolder, ask, contact, ended_as, fleet, happened, note_event, pipeline, send_accepted, until,
};

/// A contact's score is changed as `source` does, and HubSpot reports it if it is to.
async fn edit(fleet: &Fleet, id: i64, value: &str, (source, source_id): (&str, &str), announce: bool) {
    let properties = [("lead_score".to_owned(), value.to_owned())].into();
    let edit = Edit { properties, source: source.to_owned(), source_id: source_id.to_owned(), announce };
    fleet.simulator.edit("contact", id, &edit).await.expect("edited");
}

const PERSON: (&str, &str) = ("CRM_UI", "userId:42");

/// Each correction: the record, the person's value, by what it was seen.
async fn overrides(fleet: &Fleet) -> String {
    ask(
        fleet,
        "select coalesce(string_agg(concat_ws(' ', object_id, persons_value, seen_by), ', ' order by object_id), 'none')
         from overrides where property = 'lead_score'",
    )
    .await
}

/// A score is written about a contact.
async fn scored(fleet: &Fleet, id: i64) {
    contact(fleet, id, &[BUYER]).await;
    send_accepted(fleet, &[note_event(id, 1)]).await;
    ended_as(fleet, &note_event(id, 1), "written", None).await;
}

/// A webhook of a changed score.
fn told(id: i64, value: &str, n: i64) -> Value {
    let mut event = happened("contact", id, "propertyChange", Some("lead_score"), n);
    event["propertyValue"] = json!(value);
    event
}

#[tokio::test]
async fn a_persons_change_that_hubspot_reports_is_one_correction_and_an_echo_is_none() {
    let fleet = fleet(&pipeline()).await;
    scored(&fleet, 1).await;
    let ours = told(1, "77", 1);
    let mut echo = ours.clone();
    (echo["changeSource"], echo["sourceId"]) = (json!("INTEGRATION"), json!("1234567"));
    let mut workflow = told(1, "78", 2);
    workflow["changeSource"] = json!("WORKFLOWS");
    send_accepted(&fleet, &[echo.clone(), workflow.clone()]).await;
    ended_as(&fleet, &echo, "dropped", Some("echo")).await;
    ended_as(&fleet, &workflow, "skipped", Some("playbook_property")).await;
    assert_eq!(overrides(&fleet).await, "none");

    edit(&fleet, 1, "12", PERSON, true).await;
    until("the simulator's webhook came", async || overrides(&fleet).await == "1 12 webhook").await;
    let again = told(1, "12", 3);
    send_accepted(&fleet, std::slice::from_ref(&again)).await;
    ended_as(&fleet, &again, "skipped", Some("playbook_property")).await;
    assert_eq!(overrides(&fleet).await, "1 12 webhook", "once");
    let values = "select count(*) from event where property_name = 'lead_score' and payload ? 'propertyValue'";
    let kept: i64 = ask(&fleet, values).await;
    assert_eq!(kept, 0, "the value stands in the correction alone");
}

#[tokio::test]
async fn a_change_that_no_webhook_reported_is_seen_before_the_next_write() {
    let fleet = fleet(&pipeline()).await;
    scored(&fleet, 1).await;
    edit(&fleet, 1, "12", PERSON, false).await;
    fixtures::note(&fleet, 71, 1, "<p>They doubled the budget to $100k and want to sign.</p>").await;
    send_accepted(&fleet, &[note_event(1, 2)]).await;
    ended_as(&fleet, &note_event(1, 2), "written", None).await;
    assert_eq!(overrides(&fleet).await, "1 12 read");
}

#[tokio::test]
async fn overrides_become_a_report_and_cases_that_expect_what_people_set() {
    let fleet = fleet(&pipeline()).await;
    for id in [1, 2] {
        scored(&fleet, id).await;
    }
    let change = told(1, "12", 1);
    send_accepted(&fleet, std::slice::from_ref(&change)).await;
    ended_as(&fleet, &change, "skipped", Some("playbook_property")).await;

    let folder = PlaybookFolder::new("overrides", &[]);
    let picture = folder.file("report.svg");
    let (good, said) = playbook(&fleet, &["report", "lead-qualification", "--svg", &picture]).await;
    assert!(good, "{said}");
    for part in ["1 of 2: 50.0% (9.5–90.5%)", "lead_score", "median", "cost of an answer", "latency p95"] {
        assert!(said.contains(part), "{part} in\n{said}");
    }
    let svg = folder.read("report.svg");
    assert!(svg.starts_with("<svg") && svg.contains("50.0% (1 of 2)"), "{svg}");
    std::fs::remove_file(&picture).expect("removed");
    let output = fleet.leadline(&["playbook", "report", "lead-qualification", "--json"]).await.expect("runs");
    let report: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(report["versions"][0]["overridden"]["part"], 1, "{report}");
    assert_eq!(report["versions"][0]["written"], 2, "{report}");
    let (good, said) = playbook(&fleet, &["report", "no-such-playbook"]).await;
    assert!(!good && said.contains("the ledger has no answer of the playbook `no-such-playbook`"), "{said}");

    let cases = folder.file("cases");
    let (good, said) = playbook(&fleet, &["case", "--from", "overrides", "--out", &cases]).await;
    assert!(good && said.contains("1 cases made, 0 corrected answers left out"), "{said}");
    let files: Vec<_> = std::fs::read_dir(&cases).expect("a folder").map(|file| file.expect("a file").path()).collect();
    let [file] = &files[..] else { panic!("{files:?}") };
    let text = std::fs::read_to_string(file).expect("a case");
    for part in ["corrected by a person: lead_score", "lead_score = { at_least = 2.0, at_most = 22.0 }", "Firstname1"] {
        assert!(text.contains(part), "{part} in\n{text}");
    }
    for part in ["Ada", "Marsh", "call-high-value-prospect"] {
        assert!(!text.contains(part), "{part} in\n{text}");
    }
    let (good, said) = playbook(&fleet, &["eval", LEADS, &cases]).await;
    assert!(!good && said.contains("lead_score"), "the model is as wrong as it was: {said}");
    let (good, said) = playbook(&fleet, &["case", "--from", "overrides", "--out", &cases]).await;
    assert!(good && said.contains("is there already") && said.contains("0 cases made"), "{said}");
    let (good, said) = playbook(&fleet, &["case", "--from", "overrides", "--playbook", "churn-risk"]).await;
    assert!(good && said.contains("no person was seen to change"), "{said}");
}
