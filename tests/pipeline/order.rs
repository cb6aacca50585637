//! An older event never overwrites what a newer one wrote.

use simulator::{Fault, FaultKind, Target};

use fixtures::{BUYER, WITHIN, contact, ended, ended_as, fleet, note_event, pipeline, property, send_accepted};

#[tokio::test]
async fn an_older_event_that_comes_late_is_superseded() {
    let fleet = fleet(&pipeline()).await;
    contact(&fleet, 1, &[BUYER]).await;
    send_accepted(&fleet, &[note_event(1, 5)]).await;
    ended_as(&fleet, &note_event(1, 5), "written", None).await;
    let score = property(&fleet, 1, "lead_score").await;
    contact_note(&fleet, "Not interested, asked us to stop contacting her.").await;
    send_accepted(&fleet, &[note_event(1, 4)]).await;
    ended_as(&fleet, &note_event(1, 4), "superseded", Some("newer_event_answered")).await;
    assert_eq!(property(&fleet, 1, "lead_score").await, score, "what the newer event wrote stays");
}

async fn contact_note(fleet: &lab::Fleet, note: &str) {
    contact(fleet, 1, &[BUYER, note]).await;
    // Replacing the contact forgot what was written; the fleet writes it again only if it is wrong.
    let kept = fleet.ledger.event_story(&fixtures::key(&note_event(1, 5))).await.expect("asked").expect("known");
    let properties = kept.writes.iter().map(|write| (write.property.clone(), write.after.clone())).collect();
    let contact = simulator::admin::NewContact { id: 1, properties, notes: vec![note.to_owned()], merged_ids: vec![] };
    fleet.simulator.put_contact(&contact).await.expect("a contact");
}

/// Many events of one record, delivered shuffled, twice, and to two replicas of everything, while writes are held up: in
/// the end the record holds what the newest of those that were written decided.
#[tokio::test]
async fn shuffled_and_delayed_deliveries_leave_the_newest_ones_values() {
    const EVENTS: i64 = 24;
    let plan =
        lab::FleetPlan { inferences: 2, writers: 2, ..pipeline() }.with("inference.unchanged_context_ttl_hours", "0");
    let fleet = fleet(&plan).await;
    contact(&fleet, 1, &["They have $1k ready."]).await;
    // Every third write comes late, and some fail before they come.
    let path = "/objects/contacts";
    let late = Fault { percent: Some(35), ..Fault::new(Target::Hubspot, FaultKind::Latency(600)).on_path(path) };
    let failing = Fault::new(Target::Hubspot, FaultKind::Status { code: 503, retry_after: None });
    let failing = Fault { percent: Some(15), ..failing.on_path(path).containing("lead_score") };
    for fault in [&late, &failing] {
        fleet.simulator.fault(fault).await.expect("set");
    }
    let mut order: Vec<i64> = (1..=EVENTS).map(|n| (n * 7) % EVENTS + 1).collect();
    order.extend(order.clone().iter().rev());
    for (index, n) in order.iter().enumerate() {
        let id = 600 + i64::try_from(index).expect("small");
        fixtures::note(&fleet, id, 1, &format!("Budget is ${}k. Word {index}.", index + 2)).await;
        send_accepted(&fleet, &[note_event(1, *n)]).await;
    }
    for n in 1..=EVENTS {
        let story = ended(&fleet, &note_event(1, n)).await;
        assert!(["written", "superseded"].contains(&story.state.as_str()), "{story:#?}");
    }
    fleet.until_idle(WITHIN).await.expect("idle");
    ended_as(&fleet, &note_event(1, EVENTS), "written", None).await;
    for name in ["ai_budget_estimate", "ai_qualification_summary", "ai_last_processed_timestamp"] {
        let newest =
            fleet.ledger.event_story(&fixtures::key(&note_event(1, EVENTS))).await.expect("asked").expect("known");
        let wrote = newest.writes.iter().find(|write| write.property == name).map(|write| write.after.clone());
        assert_eq!(property(&fleet, 1, name).await, wrote, "{name} is the newest event's");
    }
}
