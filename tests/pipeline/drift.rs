//! A playbook of which people change too much steps back to review, and goes on when an operator says so.

use fixtures::{BUYER, ask, contact, ended, ended_as, fleet, note_event, pipeline, property, send_accepted, until};
use simulator::admin::Edit;

use crate::playbook_command::playbook;

#[tokio::test]
async fn a_live_playbook_steps_back_to_review_and_is_live_again_once_it_is_resumed() {
    let plan = pipeline()
        .with("drift.enabled", "true")
        .with("drift.interval_seconds", "1")
        .with("drift.min_sample", "1")
        .with("drift.max_overridden_percent", "10");
    let fleet = fleet(&plan).await;
    let answered = async |id| {
        contact(&fleet, id, &[BUYER]).await;
        send_accepted(&fleet, &[note_event(id, 1)]).await;
    };
    answered(1).await;
    ended_as(&fleet, &note_event(1, 1), "written", None).await;
    let properties = [("lead_score".to_owned(), "12".to_owned())].into();
    let source_id = "userId:42".to_owned();
    let edit = Edit { properties, source: "CRM_UI".to_owned(), source_id, announce: true };
    fleet.simulator.edit("contact", 1, &edit).await.expect("edited");
    // The worker knows it as soon as it says that it runs the version.
    let is_known = "select exists (select from drift where used_at > held_at + interval '1 second')";
    until("the worker knows that the version is held back", async || ask::<bool>(&fleet, is_known).await).await;

    answered(2).await;
    ended_as(&fleet, &note_event(2, 1), "proposed", None).await;
    assert_eq!(property(&fleet, 2, "lead_score").await, None);
    let status = fleet.leadline(&["status"]).await.expect("runs");
    let status = String::from_utf8_lossy(&status.stdout).into_owned();
    assert!(status.contains("overridden") && status.contains("100.0% (20.7"), "{status}");

    let resume = ["resume", "lead-qualification", "--why", "the rule has changed", "--by", "ada"];
    let (good, said) = playbook(&fleet, &resume).await;
    assert!(good && said.contains("nothing was resumed"), "{said}");
    let (good, said) = playbook(&fleet, &[&resume[..], &["--yes"]].concat()).await;
    assert!(good && said.contains("goes on within 10 seconds"), "{said}");
    let (good, said) = playbook(&fleet, &resume).await;
    assert!(!good && said.contains("no version of `lead-qualification` is held back"), "{said}");
    assert_eq!(ask::<String>(&fleet, "select resumed_by || ': ' || why from drift").await, "ada: the rule has changed");

    let mut id = 2;
    loop {
        id += 1;
        answered(id).await;
        let story = ended(&fleet, &note_event(id, 1)).await;
        if story.state.as_str() == "written" {
            break;
        }
        assert!(story.state.as_str() == "proposed" && id < 100, "{story:?}");
    }
    let story = ended(&fleet, &note_event(2, 1)).await;
    assert_eq!(story.state.as_str(), "proposed", "what waits keeps its mode");
    assert_eq!(ask::<i64>(&fleet, "select count(*) from drift").await, 1, "what had held it back counts no more");
}
