//! Actions happen once, wherever the writer dies.

use std::time::Duration;

use simulator::{Fault, FaultKind, Target};

use fixtures::{
    BUYER, WITHIN, contact, end_write_leases, ended_as, fleet, note_event, property, quick, send_accepted, tasks,
    until_writer_sessions_end,
};

/// Killed exactly between HubSpot's having the task and the ledger's knowing it, ten times over.
#[tokio::test]
async fn a_writer_killed_between_sending_a_task_and_recording_it_makes_no_second_one() {
    const ROUNDS: i64 = 10;
    let mut fleet = fleet(&quick()).await;
    let writer = fleet.indices("leadline-writer")[0];
    for id in 1..=ROUNDS {
        contact(&fleet, id, &[BUYER]).await;
        // The task is made; its answer comes when the writer is dead.
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
        fleet.members[writer].process.kill();
        until_writer_sessions_end(&fleet).await;
        end_write_leases(&fleet).await;
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
