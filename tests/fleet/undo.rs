//! An undo is done once and as a whole, wherever a writer dies in the middle of it.

use std::{collections::BTreeMap, time::Duration};

use lab::Fleet;
use serde_json::Value;

use crate::crash_points::{revive, until_one_died};
use fixtures::{BUYER, WITHIN, ask, contact, ended_as, fleet, note_event, quick, send_accepted, tasks, times_set};

async fn values(fleet: &Fleet) -> BTreeMap<String, String> {
    let contact = fleet.simulator.contact(1).await.expect("asked").expect("there");
    contact.properties.into_iter().filter(|(name, value)| !value.is_empty() && name != "notes_last_updated").collect()
}

/// What `leadline undo` of everything about the contact says.
async fn undo(fleet: &Fleet, more: &[&str]) -> Value {
    let arguments: Vec<_> = ["undo", "--record", "contact/1", "--yes", "--json"].iter().chain(more).copied().collect();
    let output = fleet.leadline(&arguments).await.expect("runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

/// The event passes the crash point as often as it is told, and the undo once more.
async fn die_at(point: &str) {
    let mut fleet = fleet(&quick().crashing_at(point)).await;
    contact(&fleet, 1, &[BUYER]).await;
    let before = values(&fleet).await;
    send_accepted(&fleet, &[note_event(1, 1)]).await;
    ended_as(&fleet, &note_event(1, 1), "written", None).await;
    assert_eq!(tasks(&fleet).await.len(), 1);

    let recorded = undo(&fleet, &["--no-wait"]).await;
    assert_eq!(recorded["write_commands"], 1, "{recorded}");
    until_one_died(&mut fleet).await;
    let started = std::time::Instant::now();
    while fleet.until_idle(Duration::from_secs(2)).await.is_err() {
        assert!(started.elapsed() < WITHIN, "still work after the death at {point}\n{}", fleet.logs());
        revive(&mut fleet).await;
    }
    assert_eq!(undo(&fleet, &[]).await["write_commands"], 0, "nothing is left, at {point}");
    assert_eq!(values(&fleet).await, before, "at {point}");
    assert!(tasks(&fleet).await.is_empty(), "at {point}");
    assert_eq!(times_set(&fleet, 1, "lead_score").await, 2, "set and put back, at {point}");
    let restored: i64 = ask(
        &fleet,
        "select count(*) from undone_properties where outcome = 'written' and restored_value = '' and undone_value <> ''",
    )
    .await;
    assert_eq!(restored, 5, "at {point}");
}

#[tokio::test]
async fn writer_between_the_undo_and_its_commit() {
    die_at("writer.after_write:2").await;
}

#[tokio::test]
async fn writer_between_the_deletion_of_a_task_and_its_commit() {
    die_at("writer.after_action:3").await;
}

#[tokio::test]
async fn writer_after_the_commit_of_an_undo() {
    die_at("writer.after_commit:2").await;
}
