//! What does not fit the model's window is condensed in parts, and no part is paid for twice.

use std::time::Duration;

use lab::FleetPlan;

use fixtures::{WITHIN, contact, end_event_leases, ended_as, fleet, happened, object, questions, quick, send_accepted};

#[tokio::test]
async fn a_worker_killed_while_condensing_is_not_paid_for_twice() {
    let plan = FleetPlan { simulator_arguments: vec!["--model-latency-ms".to_owned(), "400".to_owned()], ..quick() };
    let mut fleet = fleet(&plan).await;
    contact(&fleet, 1, &[]).await;
    object(&fleet, "ticket", 30, &[("content", "It began on Monday.")], &[("contact", 1)]).await;
    // More parts than are condensed at once, so that the worker dies with some of them done.
    for n in 0..30 {
        let text = format!(
            "Mail {n}. {}",
            "We spoke about the weather in some detail and agreed on nothing at all. ".repeat(700)
        );
        let at = format!("2026-10-{:02}T10:00:00Z", n % 28 + 1);
        let mail = [("hs_timestamp", at.as_str()), ("hs_email_text", text.as_str())];
        object(&fleet, "email", 60 + n, &mail, &[("ticket", 30)]).await;
    }
    let event = happened("ticket", 30, "creation", None, 1);
    send_accepted(&fleet, std::slice::from_ref(&event)).await;
    let begun = async {
        while questions(&fleet).await < 12 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(WITHIN, begun).await.expect("some are answered");
    let worker = fleet.indices("leadline-inference")[0];
    fleet.members[worker].process.kill();
    end_event_leases(&fleet).await;
    fleet.restart(worker).expect("restarted");
    let story = ended_as(&fleet, &event, "written", None).await;
    let parts = story.inferences.iter().filter(|inference| inference.part.is_some()).count();
    assert!(parts > 20, "{parts} parts");
    // Only what was being answered when it died is asked again: at most as many as at once.
    let asked = questions(&fleet).await;
    assert!(asked <= parts + 1 + 8, "{asked} questions for {parts} parts");
}
