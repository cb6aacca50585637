//! What the fleet wrote can be explained and taken back, and what a person made of it stays.

use std::{collections::BTreeMap, process::Output};

use domain::EventState;
use lab::Fleet;
use serde_json::Value;
use simulator::admin::{Edit, ObjectView};

use fixtures::{
    BUYER, approved_as, ask, contact, ended_as, fleet, happened, held, key, note, note_event, object, pipeline,
    property, questions, send_accepted, sql, tasks,
};

const ANGRY: &str = "<p>This is <b>unacceptable</b>. It is still broken and we want a refund.</p>";

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// What a command prints, which succeeds.
async fn said(fleet: &Fleet, arguments: &[&str]) -> String {
    let output = fleet.leadline(arguments).await.expect("runs");
    assert!(output.status.success(), "{arguments:?}\n{}\n{}", text(&output), fleet.logs());
    text(&output)
}

/// What a command prints as JSON.
async fn told(fleet: &Fleet, arguments: &[&str]) -> Value {
    let arguments: Vec<_> = arguments.iter().copied().chain(["--json"]).collect();
    let output = fleet.leadline(&arguments).await.expect("runs");
    assert!(output.status.success(), "{arguments:?}\n{}", text(&output));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

async fn edit(fleet: &Fleet, kind: &str, id: i64, name: &str, value: &str) {
    let properties = [(name.to_owned(), value.to_owned())].into();
    let edit = Edit { properties, source: "CRM_UI".to_owned(), source_id: "userId:42".to_owned(), announce: false };
    fleet.simulator.edit(kind, id, &edit).await.expect("edited");
}

/// The values that a record holds; HubSpot makes no difference between an empty and a missing one, and counts notes by itself.
fn values(object: &ObjectView) -> BTreeMap<String, String> {
    let filled = object.properties.iter().filter(|(name, value)| !value.is_empty() && *name != "notes_last_updated");
    filled.map(|(name, value)| (name.clone(), value.clone())).collect()
}

async fn contact_values(fleet: &Fleet, id: i64) -> BTreeMap<String, String> {
    values(&fleet.simulator.contact(id).await.expect("asked").expect("there"))
}

#[tokio::test]
async fn an_undone_event_leaves_the_record_as_it_was_except_for_what_a_person_changed() {
    let fleet = fleet(&pipeline()).await;
    contact(&fleet, 1, &[BUYER]).await;
    let before = contact_values(&fleet, 1).await;
    let event = key(&note_event(1, 1));
    send_accepted(&fleet, &[note_event(1, 1)]).await;
    ended_as(&fleet, &note_event(1, 1), "written", None).await;
    edit(&fleet, "contact", 1, "ai_lead_summary", "Met her at the fair.").await;
    let written = contact_values(&fleet, 1).await;

    let preview = told(&fleet, &["undo", "--event", &event]).await;
    let goes_back: Vec<_> = preview["changes"].as_array().expect("a list").iter().map(|row| &row["property"]).collect();
    assert!(goes_back.contains(&&Value::from("lead_score")) && !goes_back.contains(&&Value::from("ai_lead_summary")));
    assert_eq!(
        (&preview["left"][0]["reason"], &preview["left"][0]["now"]),
        (&"value_changed".into(), &"Met her at the fair.".into())
    );
    assert_eq!(preview["deleted"].as_array().map(Vec::len), Some(1), "{preview}");
    assert_eq!(preview["notifications"].as_array().map(Vec::len), Some(1), "{preview}");
    assert_eq!(contact_values(&fleet, 1).await, written, "a preview changes nothing");

    let asked = questions(&fleet).await;
    let done =
        told(&fleet, &["undo", "--event", &event, "--yes", "--why", "wrong playbook", "--by", "sales-ops"]).await;
    assert_eq!((&done["properties_restored"], &done["actions_undone"]), (&4.into(), &1.into()), "{done}");
    let after = contact_values(&fleet, 1).await;
    let mut expected = before.clone();
    expected.insert("ai_lead_summary".to_owned(), "Met her at the fair.".to_owned());
    assert_eq!(after, expected);
    assert!(tasks(&fleet).await.is_empty(), "the task is deleted");

    // The event keeps its outcome, the history says who and why, and a second run finds nothing.
    let story = fleet.ledger.event_story(&event).await.expect("asked").expect("known");
    assert_eq!((story.state, story.writes.len()), (EventState::Written, 5));
    let recorded: i64 = ask(
        &fleet,
        "select count(*) from undone_properties
         where asked_by = 'sales-ops' and why = 'wrong playbook' and outcome = 'written'",
    )
    .await;
    assert_eq!(recorded, 4);
    let again = told(&fleet, &["undo", "--event", &event, "--yes"]).await;
    assert_eq!(again["write_commands"], 0, "{again}");
    let explained = said(&fleet, &["explain", "contact/1", "lead_score"]).await;
    assert!(explained.contains("undone    by sales-ops") && explained.contains(": wrong playbook"), "{explained}");

    // HubSpot tells of our own changes; and from the same context nothing is asked or written again.
    let mut echo = note_event(1, 7);
    (echo["propertyName"], echo["changeSource"], echo["sourceId"]) =
        ("lead_score".into(), "INTEGRATION".into(), "1234567".into());
    send_accepted(&fleet, &[echo.clone(), note_event(1, 2), note_event(1, 1)]).await;
    ended_as(&fleet, &echo, "dropped", Some("echo")).await;
    ended_as(&fleet, &note_event(1, 2), "skipped", Some("unchanged_context")).await;
    fleet.until_idle(fixtures::WITHIN).await.expect("idle");
    assert_eq!(questions(&fleet).await, asked);
    assert_eq!(contact_values(&fleet, 1).await, after);
    assert!(tasks(&fleet).await.is_empty());
}

#[tokio::test]
async fn several_writes_go_back_at_once_and_what_a_newer_event_wrote_stays() {
    let fleet = fleet(&pipeline()).await;
    contact(&fleet, 1, &["They have $1k ready."]).await;
    for n in 1..=3 {
        note(&fleet, 500 + n, 1, &format!("Now they have ${n}0k ready for Q{n}.")).await;
        send_accepted(&fleet, &[note_event(1, n)]).await;
        ended_as(&fleet, &note_event(1, n), "written", None).await;
    }
    let newest = property(&fleet, 1, "ai_lead_summary").await.expect("set");

    // The newest one is not selected.
    let first = told(&fleet, &["undo", "--event", &key(&note_event(1, 1)), "--yes"]).await;
    assert!(
        first["left"].as_array().is_some_and(|left| left.iter().any(|left| left["reason"] == "newer_event_written")),
        "{first}"
    );
    assert_eq!(property(&fleet, 1, "ai_lead_summary").await, Some(newest));

    // One after the other, from the newest on; then the rest in one change.
    told(&fleet, &["undo", "--event", &key(&note_event(1, 3)), "--yes"]).await;
    let second = fleet.ledger.event_story(&key(&note_event(1, 2))).await.expect("asked").expect("known");
    for write in second.writes.iter().filter(|write| write.property != "ai_last_processed_timestamp") {
        assert_eq!(property(&fleet, 1, &write.property).await.as_deref(), Some(write.after.as_str()), "{write:?}");
    }
    let rest = told(&fleet, &["undo", "--record", "contact/1", "--since", "1h", "--yes"]).await;
    assert_eq!((&rest["parked"], rest["left"].as_array().map(Vec::len)), (&0.into(), Some(0)), "{rest}");
    for name in ["lead_score", "ai_budget_estimate", "ai_lead_summary", "ai_last_processed_timestamp"] {
        assert_eq!(property(&fleet, 1, name).await.filter(|value| !value.is_empty()), None, "{name}");
    }
    assert!(tasks(&fleet).await.is_empty());

    // A newer event than all that was undone is written as ever, over the empty value.
    note(&fleet, 600, 1, "They have $70k ready.").await;
    send_accepted(&fleet, &[note_event(1, 9)]).await;
    ended_as(&fleet, &note_event(1, 9), "written", None).await;
    assert!(property(&fleet, 1, "ai_lead_summary").await.is_some_and(|summary| !summary.is_empty()));
}

#[tokio::test]
async fn deals_move_back_unless_they_moved_on_and_a_task_that_a_person_touched_stays() {
    let fleet = fleet(&pipeline()).await;
    contact(&fleet, 1, &[]).await;
    let stage = [("dealname", "Renewal"), ("dealstage", "contractsent"), ("pipeline", "default")];
    for id in [20, 21] {
        object(&fleet, "deal", id, &stage, &[("contact", 1)]).await;
    }
    object(&fleet, "ticket", 30, &[("subject", "Outage"), ("content", ANGRY)], &[("contact", 1)]).await;
    let event = happened("ticket", 30, "creation", None, 1);
    send_accepted(&fleet, std::slice::from_ref(&event)).await;
    approved_as(&fleet, &event, "churn-risk", ("written", None)).await;
    for id in [20, 21] {
        assert_eq!(held(&fleet, "deal", id, "dealstage").await.as_deref(), Some("991231"));
    }
    // Who let the deal be moved is a part of the story.
    let explained = told(&fleet, &["explain", "deal/20", "dealstage"]).await;
    assert_eq!((&explained["decision"], &explained["proposed"]), (&"approved".into(), &"991231".into()), "{explained}");
    assert_eq!(explained["decided_by"], explained["decisions"][0]["by"]);
    let text = said(&fleet, &["explain", "deal/20", "dealstage"]).await;
    assert!(text.contains("decided   approved by ") && text.contains("decisions about proposals of it"), "{text}");
    edit(&fleet, "deal", 21, "dealstage", "closedlost").await;
    let [task] = &tasks(&fleet).await[..] else { panic!("one task") };
    edit(&fleet, "task", task.id, "hs_task_status", "COMPLETED").await;

    let done = told(&fleet, &["undo", "--playbook", "churn-risk", "--yes"]).await;
    assert_eq!(held(&fleet, "deal", 20, "dealstage").await.as_deref(), Some("contractsent"), "{done}");
    assert_eq!(held(&fleet, "deal", 21, "dealstage").await.as_deref(), Some("closedlost"));
    assert_eq!(tasks(&fleet).await.len(), 1);
    let left: Vec<_> = done["left"].as_array().expect("a list").iter().map(|left| left["reason"].clone()).collect();
    assert!(left.contains(&"value_changed".into()) && left.contains(&"changed_by_person".into()), "{done}");
    assert_eq!(held(&fleet, "ticket", 30, "ai_churn_urgency").await.filter(|value| !value.is_empty()), None);
    let none = told(&fleet, &["undo", "--playbook", "lead-qualification"]).await;
    assert_eq!(none["changes"].as_array().map(Vec::len), Some(0));
}

/// A command that was recorded and whose message never came is published by the next run.
#[tokio::test]
async fn an_interrupted_undo_goes_on_with_the_next_run() {
    let fleet = fleet(&pipeline()).await;
    contact(&fleet, 1, &[BUYER]).await;
    send_accepted(&fleet, &[note_event(1, 1)]).await;
    ended_as(&fleet, &note_event(1, 1), "written", None).await;
    // As after a death between the two.
    sql(
        &fleet,
        "insert into undo (id, asked_by, selection) values (gen_random_uuid(), 'sales-ops', 'one event');
         insert into write_command (id, event_id, inference_id, event_key, occurred_at, portal_id, object_type, object_id,
                                    properties, undo_id)
         select gen_random_uuid(), c.event_id, c.inference_id, c.event_key, c.occurred_at + interval '1 microsecond',
                c.portal_id, c.object_type, c.object_id,
                '[{\"property\": \"lead_score\", \"value\": \"\", \"policy\": \"always\", \"expected\": {\"value\": \"85\"}}]',
                (select id from undo)
         from write_command c;
         insert into undone_write (write_command_id, property, undo_command_id)
         select w.write_command_id, w.property, u.id from write w, write_command u
         where w.property = 'lead_score' and u.undo_id is not null",
    )
    .await;
    let resumed = told(&fleet, &["undo", "--event", &key(&note_event(1, 1)), "--yes"]).await;
    assert_eq!(resumed["properties_restored"], 5, "{resumed}");
    assert_eq!(property(&fleet, 1, "lead_score").await.filter(|value| !value.is_empty()), None);
    assert_eq!(property(&fleet, 1, "ai_lead_summary").await.filter(|value| !value.is_empty()), None);
}

#[tokio::test]
async fn a_value_is_explained_by_event_playbook_quotation_model_and_what_was_before() {
    let fleet = fleet(&pipeline()).await;
    contact(&fleet, 1, &[BUYER]).await;
    send_accepted(&fleet, &[note_event(1, 1)]).await;
    let story = ended_as(&fleet, &note_event(1, 1), "written", None).await;
    let explained = told(&fleet, &["explain", "contact/1", "ai_budget_estimate", "--prompt"]).await;
    assert_eq!(explained["value"], "50000", "{explained}");
    assert_eq!(explained["set_by"], "Leadline");
    assert_eq!(explained["before"], Value::Null);
    assert_eq!(explained["event_key"], key(&note_event(1, 1)));
    assert_eq!(explained["playbook"], "lead-qualification");
    assert_eq!(explained["model"], story.inferences[0].model);
    assert!(explained["quotation"].as_str().is_some_and(|quote| quote.contains("50k")), "{explained}");
    assert!(explained["prompt"].to_string().contains("crm_data") && explained["answer"].is_string());
    assert_eq!(explained["undo"], format!("leadline undo --event {} --record contact/1", key(&note_event(1, 1))));

    // A person's value is theirs, and what was proposed against it is told.
    edit(&fleet, "contact", 1, "ai_budget_estimate", "70000").await;
    note(&fleet, 600, 1, "They have $90k ready.").await;
    send_accepted(&fleet, &[note_event(1, 2)]).await;
    ended_as(&fleet, &note_event(1, 2), "written", None).await;
    let explained = told(&fleet, &["explain", "contact/1", "ai_budget_estimate"]).await;
    assert_eq!((&explained["value"], &explained["kept"][0]["reason"]), (&"70000".into(), &"kept_human_value".into()));
    assert!(explained["set_by"].as_str().is_some_and(|author| author.starts_with("a person (CRM_UI")), "{explained}");
    assert_eq!((&explained["override"], &explained["overrides"][0]["wrote"]), (&"70000".into(), &"50000".into()));
    let text = said(&fleet, &["explain", "contact/1", "ai_budget_estimate"]).await;
    assert!(text.contains("override  70000, set by a person at "), "{text}");
    let offline = said(&fleet, &["explain", "contact/1", "ai_budget_estimate", "--offline"]).await;
    assert!(!offline.contains("value   "), "{offline}");
    let unknown = fleet.leadline(&["explain", "contact/1", "firstname"]).await.expect("runs");
    assert!(!unknown.status.success());
}

/// The same answer again sets nothing, and is recorded all the same.
#[tokio::test]
async fn a_value_that_was_answered_twice_goes_back_to_what_was_before_the_first() {
    let fleet = fleet(&pipeline().with("inference.unchanged_context_ttl_hours", "0")).await;
    contact(&fleet, 1, &[BUYER]).await;
    for n in [1, 2, 3] {
        send_accepted(&fleet, &[note_event(1, n)]).await;
        ended_as(&fleet, &note_event(1, n), "written", None).await;
    }
    let done = told(&fleet, &["undo", "--record", "contact/1", "--yes"]).await;
    for name in ["lead_score", "ai_budget_estimate", "ai_lead_summary"] {
        assert_eq!(property(&fleet, 1, name).await.filter(|value| !value.is_empty()), None, "{name}: {done}");
    }
}
