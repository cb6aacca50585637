//! Actions happen once, wherever the writer dies.

use std::time::Duration;

use rustix::process::Signal;
use simulator::{Fault, FaultKind, Target};

use crate::fixtures::{
    BUYER, WITHIN, ask, contact, ended_as, fleet, note_event, property, quick, send_accepted, tasks,
};

/// Killed exactly between HubSpot's having the task and the ledger's knowing it, ten times over.
#[tokio::test]
async fn a_writer_killed_between_sending_a_task_and_recording_it_makes_no_second_one() {
    const ROUNDS: i64 = 10;
    let mut fleet = fleet(&quick()).await;
    let writer = fleet.indices("leadline-writer")[0];
    for id in 1..=ROUNDS {
        contact(&fleet, id, &[BUYER]).await;
        // The task is made; its answer comes when nobody is there any more.
        let late = Fault::new(Target::Hubspot, FaultKind::LateAnswer(700))
            .on_path("/objects/tasks")
            .containing("hs_task_subject")
            .times(1);
        fleet.simulator.fault(&late).await.expect("set");
        send_accepted(&fleet, &[note_event(id, 1)]).await;
        let made = async {
            while tasks(&fleet).await.len() < usize::try_from(id).expect("small") {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(WITHIN, made).await.expect("the task is made");
        fleet.members[writer].process.signal(Signal::KILL);
        tokio::time::sleep(Duration::from_millis(50)).await;
        fleet.restart(writer).expect("restarted");
    }
    for id in 1..=ROUNDS {
        let story = ended_as(&fleet, &note_event(id, 1), "written", None).await;
        let states: Vec<_> = story.actions.iter().map(|action| action.state.as_str()).collect();
        assert_eq!(states, ["done", "done"], "{:?}", story.actions);
        assert!(story.actions[0].hubspot_id.is_some(), "it was found by its marker");
        assert_eq!(property(&fleet, id, "lead_score").await.as_deref(), Some("85"));
        let score = story.writes.iter().find(|write| write.property == "lead_score").expect("traced");
        assert_eq!(score.before, None, "what was there before the first try");
    }
    assert_eq!(tasks(&fleet).await.len(), 10, "one task each");
    // At least once each, and never twice under another key: a receiver that looks at the key sees ten.
    let mut keys: Vec<_> = fleet.simulator.messages().await.expect("asked").into_iter().map(|m| m.key).collect();
    keys.sort();
    keys.dedup();
    assert_eq!(keys.len(), 10);
}

/// The same without a death: the answer to the creation is lost, or says nothing.
#[tokio::test]
async fn a_task_whose_answer_was_lost_is_looked_for_before_it_is_made_again() {
    let fleet = fleet(&quick()).await;
    for (id, kind) in [
        (1, FaultKind::LostAnswer),
        (2, FaultKind::LateAnswer(3_000)),
        (3, FaultKind::Status { code: 503, retry_after: None }),
        (4, FaultKind::Status { code: 429, retry_after: Some(1) }),
    ] {
        contact(&fleet, id, &[BUYER]).await;
        let fault = Fault::new(Target::Hubspot, kind).on_path("/objects/tasks").containing("hs_task_subject").times(1);
        fleet.simulator.fault(&fault).await.expect("set");
        send_accepted(&fleet, &[note_event(id, 1)]).await;
        let story = ended_as(&fleet, &note_event(id, 1), "written", None).await;
        assert!(
            story.actions.iter().all(|action| action.state == domain::ActionState::Done),
            "{id}: {:?}",
            story.actions
        );
        assert_eq!(tasks(&fleet).await.len(), usize::try_from(id).expect("small"), "after round {id}");
    }
    let doubts: i64 = ask(&fleet, "select count(*) from action where state <> 'done'").await;
    assert_eq!(doubts, 0);
}

#[tokio::test]
async fn a_task_is_made_without_an_owner_who_is_gone_and_a_channel_that_refuses_is_parked() {
    let plan = quick().with("notify.sales", "http://127.0.0.1:9/nobody/listens");
    let fleet = fleet(&plan).await;
    let properties = [("firstname", "Ada"), ("hubspot_owner_id", "4711")];
    crate::fixtures::object(&fleet, "contact", 1, &properties, &[]).await;
    crate::fixtures::note(&fleet, 501, 1, BUYER).await;
    send_accepted(&fleet, &[note_event(1, 1)]).await;
    let story = ended_as(&fleet, &note_event(1, 1), "parked", Some("channel_unreachable")).await;
    assert_eq!(
        property(&fleet, 1, "lead_score").await.as_deref(),
        Some("85"),
        "the properties are written all the same"
    );
    let tasks = tasks(&fleet).await;
    assert_eq!(tasks.len(), 1);
    assert!(!tasks[0].properties.contains_key("hubspot_owner_id"));
    let task = story
        .actions
        .iter()
        .find(|action| action.kind == domain::write_command::ActionKind::CreateTask)
        .expect("in the ledger");
    assert_eq!(task.state, domain::ActionState::Done);
    assert!(story.detail.as_deref().is_some_and(|detail| !detail.contains("nobody/listens")), "the URL is a secret");
}
