//! What a person set stays, and the ledger says so.

use std::collections::BTreeMap;

use lab::Fleet;
use simulator::admin::Edit;

use crate::fixtures::{BUYER, contact, ended_as, fleet, note, note_event, property, quick, send_accepted};

async fn edit(fleet: &Fleet, contact: i64, values: &[(&str, &str)], source: &str) {
    let properties: BTreeMap<_, _> =
        values.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let edit = Edit { properties, source: source.to_owned(), source_id: "userId:9".to_owned(), announce: false };
    fleet.simulator.edit("contact", contact, &edit).await.expect("edited");
}

#[tokio::test]
async fn a_value_that_a_person_changed_is_left_alone_and_is_no_failure() {
    let fleet = fleet(&quick()).await;
    contact(&fleet, 1, &[BUYER]).await;
    send_accepted(&fleet, &[note_event(1, 1)]).await;
    ended_as(&fleet, &note_event(1, 1), "written", None).await;
    assert_eq!(property(&fleet, 1, "lead_score").await.as_deref(), Some("85"));

    edit(&fleet, 1, &[("lead_score", "12")], "CRM_UI").await;
    note(&fleet, 501, 1, "The CTO joins the next call.").await;
    send_accepted(&fleet, &[note_event(1, 2)]).await;
    let story = ended_as(&fleet, &note_event(1, 2), "written", None).await;
    assert_eq!(property(&fleet, 1, "lead_score").await.as_deref(), Some("12"), "the person's value stays");
    let kept = story.skipped_writes.iter().find(|kept| kept.property == "lead_score").expect("visible in the ledger");
    assert_eq!(
        (kept.reason.as_str(), kept.current_value.as_deref(), kept.proposed_value.as_str()),
        ("kept_human_value", Some("12"), "100")
    );
    assert!(story.writes.iter().any(|write| write.property == "ai_qualification_summary"), "the rest is written");
    assert!(!story.writes.iter().any(|write| write.property == "lead_score"));
    let shown = fleet.leadline(&["event", &story.key]).await.expect("runs");
    assert!(String::from_utf8_lossy(&shown.stdout).contains("kept_human_value"));

    // Another machine's change is no person's.
    edit(&fleet, 1, &[("lead_score", "13")], "AUTOMATION_PLATFORM").await;
    note(&fleet, 502, 1, "A purchase order is under way.").await;
    send_accepted(&fleet, &[note_event(1, 3)]).await;
    ended_as(&fleet, &note_event(1, 3), "written", None).await;
    assert_eq!(property(&fleet, 1, "lead_score").await.as_deref(), Some("100"));
}

#[tokio::test]
async fn an_event_whose_every_value_was_kept_ends_as_kept_human_value() {
    let folder = std::env::temp_dir().join(format!("leadline-policies-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    let shipped = include_str!("../../deploy/playbooks/lead-qualification.toml");
    let (head, _) = shipped.split_once("[[writes]]\nproperty = \"ai_lead_summary\"").expect("there");
    std::fs::write(folder.join("a.toml"), head).expect("written");
    let fleet = fleet(&quick().with("inference.playbooks", folder.to_str().expect("UTF-8"))).await;
    contact(&fleet, 1, &[BUYER]).await;
    edit(&fleet, 1, &[("lead_score", "12")], "CRM_UI").await;
    send_accepted(&fleet, &[note_event(1, 1)]).await;
    ended_as(&fleet, &note_event(1, 1), "skipped", Some("kept_human_value")).await;
    assert_eq!(property(&fleet, 1, "lead_score").await.as_deref(), Some("12"));
    let failures: i64 = crate::fixtures::ask(&fleet, "select count(*) from failures_by_reason").await;
    assert_eq!(failures, 0);
    std::fs::remove_dir_all(folder).expect("removed");
}
