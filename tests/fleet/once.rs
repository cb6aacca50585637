//! An event has its effect once, however often and in whatever order it is delivered, to however many replicas.

use lab::{
    FleetPlan,
    cases::{Case, Expected, cases, declines},
};
use simulator::admin::SendWebhook;

use fixtures::{ended_as, fleet, questions, quick, times_set};

#[tokio::test]
async fn every_demo_event_twice_and_shuffled_to_two_replicas_of_each_service_writes_each_record_once() {
    let plan = FleetPlan { receivers: 2, inferences: 2, writers: 2, ..quick() };
    let fleet = fleet(&plan).await;
    let cases = cases();
    for contact in cases.iter().filter_map(|case| case.contact.as_ref()) {
        fleet.simulator.put_contact(contact).await.expect("a contact");
    }
    fleet.simulator.fault(&declines()).await.expect("set");
    let events: Vec<_> = cases.iter().map(Case::event).collect();
    // Forwards to one receiver and backwards to the other, at the same time, in batches of other sizes.
    let receivers = fleet.receivers();
    let backwards: Vec<_> = events.iter().rev().cloned().collect();
    let batches = events
        .chunks(7)
        .map(|batch| (batch, &receivers[0]))
        .chain(backwards.chunks(3).map(|batch| (batch, &receivers[1])));
    let deliveries = batches.map(|(batch, url)| {
        let webhook = SendWebhook { events: batch.to_vec(), forged: false, url: Some(url.clone()) };
        let simulator = fleet.simulator.clone();
        async move { simulator.webhook(&webhook).await.expect("sent").status }
    });
    for delivery in deliveries.map(tokio::spawn).collect::<Vec<_>>() {
        assert_eq!(delivery.await.expect("no panic"), 200);
    }
    let mut answered = 0;
    for case in &cases {
        let event = case.event();
        let Expected::Ends(state, reason) = case.expected else {
            ended_as(&fleet, &event, "written", None).await;
            answered += 1;
            continue;
        };
        ended_as(&fleet, &event, state, Some(reason)).await;
        answered += usize::from(state == "parked");
    }
    fleet.until_idle(fixtures::WITHIN).await.expect("idle");
    assert_eq!(questions(&fleet).await, answered, "one question for each contact that is worth one");
    for case in cases.iter().filter(|case| matches!(case.expected, Expected::Written { .. })) {
        let contact = case.contact.as_ref().expect("a contact");
        assert_eq!(times_set(&fleet, contact.id, "lead_score").await, 1, "{}", case.what);
    }
    fleet.until_parked("leadline.events", 1, fixtures::WITHIN).await.expect("the declined one, once");
}
