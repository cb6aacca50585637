//! The fleet's own writes never start the fleet again, and other people's always do.

use serde_json::json;
use simulator::admin::Quirks;

use fixtures::{
    BUYER, PlaybookFolder, WITHIN, contact, ended, ended_as, fleet, happened, note_event, object, pipeline, questions,
    send_accepted, tasks, until,
};

/// The simulator sends back everything that the fleet does: properties, the task, the note, the deal's move, and the changed
/// date of the last activity, which HubSpot sets by itself and which names no app.
#[tokio::test]
async fn echoes_start_nothing_not_even_when_they_come_twice_and_in_disorder() {
    let folder = noting_playbooks("loops");
    let fleet = fleet(&pipeline().with("inference.playbooks", folder.path())).await;
    let manners = Quirks { duplicate_webhooks: true, shuffled_webhooks: true, ..Quirks::default() };
    fleet.simulator.quirks(&manners).await.expect("set");
    contact(&fleet, 1, &[BUYER]).await;
    object(&fleet, "deal", 20, &[("dealstage", "contractsent"), ("pipeline", "default")], &[("contact", 1)]).await;
    let angry = [("subject", "Outage"), ("content", "Furious. This is unacceptable, we want a refund.")];
    object(&fleet, "ticket", 30, &angry, &[("contact", 1)]).await;
    let call = [("hs_call_body", "We will send the offer by 2026-12-01."), ("hs_timestamp", "2026-11-20T10:00:00Z")];
    object(&fleet, "call", 40, &call, &[("contact", 1), ("deal", 20)]).await;
    let mut events = [
        note_event(1, 1),
        happened("ticket", 30, "creation", None, 1),
        happened("call", 40, "creation", None, 1),
        happened("deal", 20, "propertyChange", Some("notes_last_updated"), 1),
    ];
    // They happen before what the fleet does about them.
    for event in &mut events {
        event["occurredAt"] = json!(time::OffsetDateTime::now_utc().unix_timestamp() * 1_000);
    }
    send_accepted(&fleet, &events).await;
    for event in &events {
        let story = ended_as(&fleet, event, "written", None).await;
        assert_eq!(story.inferences.len(), 1, "{story:#?}");
    }
    let asked = questions(&fleet).await;
    assert_eq!(asked, 4);
    // What a person would see: a task and a note of the lead, a task of the ticket, a task of the call.
    let made = (tasks(&fleet).await.len(), fleet.simulator.objects("note").await.expect("asked").len());
    assert_eq!(made, (3, 2));

    for round in 1..=ROUNDS {
        // A person ticks off our tasks and reads our notes, which names them as the source.
        let mut echoes = Vec::new();
        for kind in ["task", "note"] {
            for made in fleet.simulator.objects(kind).await.expect("asked") {
                let property = if kind == "task" { "hs_task_body" } else { "hs_note_body" };
                if !made.properties[property].contains("Leadline action ") {
                    continue;
                }
                echoes.push(happened(kind, made.id, "propertyChange", Some(property), round));
                echoes.push(happened(kind, made.id, "creation", None, round));
            }
        }
        send_accepted(&fleet, &echoes).await;
        for echo in &echoes {
            ended(&fleet, echo).await;
        }
    }
    until("the echoes of the fleet's own changes came", async || {
        count_of(&fleet, "echo").await >= 20 && count_of(&fleet, "unchanged_context").await >= 1
    })
    .await;
    fleet.until_idle(WITHIN).await.expect("idle");
    assert_eq!(questions(&fleet).await, asked, "nothing was asked again");
    let now = (tasks(&fleet).await.len(), fleet.simulator.objects("note").await.expect("asked").len());
    assert_eq!(now, made, "nothing was done again");
}

/// How often each task and note is changed by hand.
const ROUNDS: i64 = 12;

/// How many events ended for this reason.
async fn count_of(fleet: &lab::Fleet, reason: &str) -> i64 {
    let counts = fleet.ledger.event_counts().await.expect("asked");
    let with_reason = counts.iter().filter(|count| count.reason.map(domain::Reason::as_str) == Some(reason));
    with_reason.map(|count| count.events).sum()
}

/// A folder with the shipped playbooks, of which the first also leaves a note and is started by notes and tasks of any kind.
pub fn noting_playbooks(test: &str) -> PlaybookFolder {
    let leads = include_str!("../../deploy/playbooks/lead-qualification.toml").to_owned()
        + r#"
[[triggers]]
event = "object.propertyChange"
object_type = "0-46"
properties = ["hs_note_body"]

[[triggers]]
event = "object.creation"
object_type = "0-27"

[[triggers]]
event = "object.propertyChange"
object_type = "0-27"
properties = ["hs_task_body"]

[[actions]]
name = "leave-a-note"
do = "create_note"
body = "{{ answer.summary }}"
"#;
    let churn = include_str!("../../deploy/playbooks/churn-risk.toml").replace("mode = \"review\"", "mode = \"live\"");
    let calls = include_str!("../../deploy/playbooks/call-summary.toml");
    PlaybookFolder::new(test, &[&leads, &churn, calls])
}

#[tokio::test]
async fn another_integrations_change_is_real_input_but_a_property_of_ours_is_not() {
    let fleet = fleet(&pipeline()).await;
    contact(&fleet, 1, &[BUYER]).await;
    let mut other = note_event(1, 1);
    other["changeSource"] = json!("INTEGRATION");
    other["sourceId"] = json!("999");
    let mut copied = other.clone();
    copied["propertyName"] = json!("lead_score");
    send_accepted(&fleet, &[other.clone(), copied.clone()]).await;
    ended_as(&fleet, &other, "written", None).await;
    ended_as(&fleet, &copied, "skipped", Some("playbook_property")).await;
}
