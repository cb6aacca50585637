//! HubSpot's clients create a call, an email or a ticket first, and associate it with its contact seconds later.

use domain::EventState;
use fixtures::{
    BUYER, PlaybookFolder, WITHIN, contact, ended_as, fleet, happened, key, note, note_event, object, pipeline,
    property, questions, send_accepted,
};
use lab::{Fleet, FleetPlan};
use ledger::EventStory;
use serde_json::{Value, json};

/// A fleet that waits for associations for longer than a test takes.
fn patient() -> FleetPlan {
    pipeline().with("inference.association_wait_seconds", "600")
}

/// Sends an event and waits until it waits for associations.
async fn waits(fleet: &Fleet, event: &Value) -> EventStory {
    send_accepted(fleet, std::slice::from_ref(event)).await;
    let story = fleet.until_event(&key(event), |state| state == EventState::Waiting, WITHIN).await.expect("it waits");
    assert_eq!(story.reason.map(domain::Reason::as_str), Some("not_associated_yet"));
    story
}

#[tokio::test]
async fn a_note_that_is_associated_after_its_webhook_is_read_all_the_same() {
    let fleet = fleet(&patient()).await;
    contact(&fleet, 1, &[]).await;
    let body = [("hs_note_body", BUYER), ("hs_timestamp", "2026-11-20T10:00:00Z")];
    object(&fleet, "note", 50, &body, &[]).await;
    let event = happened("note", 50, "creation", None, 1);
    waits(&fleet, &event).await;
    object(&fleet, "note", 50, &body, &[("contact", 1)]).await;
    ended_as(&fleet, &event, "written", None).await;
    assert_eq!(property(&fleet, 1, "ai_budget_estimate").await.as_deref(), Some("50000"));
}

/// The ticket has texts, so it could be asked about at once; but the answer is for its contact, too.
#[tokio::test]
async fn a_ticket_without_its_contact_is_not_paid_for_twice() {
    let fleet = fleet(&patient()).await;
    contact(&fleet, 1, &[]).await;
    let text = [("subject", "Outage"), ("content", "This is unacceptable, we want a refund.")];
    object(&fleet, "ticket", 30, &text, &[]).await;
    let event = happened("ticket", 30, "creation", None, 1);
    waits(&fleet, &event).await;
    assert_eq!(questions(&fleet).await, 0, "before the question");
    object(&fleet, "ticket", 30, &text, &[("contact", 1)]).await;
    ended_as(&fleet, &event, "written", None).await;
    assert!(property(&fleet, 1, "ai_sentiment_score").await.is_some());
    assert_eq!(questions(&fleet).await, 1);
}

/// A form creates a contact and then the note about it; a company is tied to a contact by its domain, moments later.
#[tokio::test]
async fn a_contact_without_its_first_note_or_its_company_is_not_skipped_for_good() {
    let shipped = include_str!("../../deploy/playbooks/lead-qualification.toml");
    let read = "[[context.reads]]\nof = \"contact > company\"\nproperties = [\"name\"]\n\n[model]";
    let condition = "event = \"contact.creation\"\nwhen = \"company.name == 'Marsh'\"";
    let of_company = shipped.replacen("event = \"contact.creation\"", condition, 1).replacen("[model]", read, 1);
    let folder = PlaybookFolder::new("slow-company", &[&of_company]);
    let fleet = fleet(&patient().with("inference.playbooks", folder.path())).await;
    contact(&fleet, 1, &[]).await;
    let noted = note_event(1, 1);
    waits(&fleet, &noted).await;
    assert_eq!(questions(&fleet).await, 0);
    note(&fleet, 50, 1, BUYER).await;
    ended_as(&fleet, &noted, "written", None).await;

    contact(&fleet, 2, &[BUYER]).await;
    let created = happened("contact", 2, "creation", None, 2);
    waits(&fleet, &created).await;
    object(&fleet, "company", 25, &[("name", "Marsh")], &[("contact", 2)]).await;
    ended_as(&fleet, &created, "written", None).await;
    // What it is waited for is there now, and the condition still does not hold.
    contact(&fleet, 3, &[BUYER]).await;
    object(&fleet, "company", 26, &[("name", "Other")], &[("contact", 3)]).await;
    let other = happened("contact", 3, "creation", None, 3);
    send_accepted(&fleet, std::slice::from_ref(&other)).await;
    ended_as(&fleet, &other, "skipped", Some("condition_not_met")).await;
}

#[tokio::test]
async fn what_stays_without_associations_goes_on_without_them_after_a_while() {
    let fleet = fleet(&pipeline().with("inference.association_wait_seconds", "1")).await;
    let body = [("hs_note_body", BUYER), ("hs_timestamp", "2026-11-20T10:00:00Z")];
    object(&fleet, "note", 50, &body, &[]).await;
    let text = [("subject", "Outage"), ("content", "This is unacceptable, we want a refund.")];
    object(&fleet, "ticket", 30, &text, &[]).await;
    let events = [happened("note", 50, "creation", None, 1), happened("ticket", 30, "creation", None, 1)];
    send_accepted(&fleet, &events).await;
    let story = ended_as(&fleet, &events[0], "skipped", Some("no_record")).await;
    assert!(story.history.iter().any(|entry| entry.state == EventState::Waiting), "{:?}", story.history);
    ended_as(&fleet, &events[1], "written", None).await;
}

/// HubSpot names the types of both ends in an event of `object.*`, and sends one for each direction.
#[tokio::test]
async fn an_association_starts_a_playbook_and_its_removal_does_not() {
    let shipped = include_str!("../../deploy/playbooks/lead-qualification.toml");
    let trigger = "[[triggers]]\nevent = \"note.associationChange\"\n\n[[triggers]]";
    let folder = PlaybookFolder::new("associations", &[&shipped.replacen("[[triggers]]", trigger, 1)]);
    let fleet = fleet(&pipeline().with("inference.playbooks", folder.path())).await;
    contact(&fleet, 1, &[]).await;
    note(&fleet, 50, 1, BUYER).await;
    let change = |from: (&str, i64), to: (&str, i64), is_removed: bool| {
        json!({"eventId": 1, "subscriptionId": 1, "portalId": 9_876_543, "appId": 1_234_567, "attemptNumber": 0,
            "occurredAt": 1_900_000_000_000_i64 + i64::from(is_removed), "subscriptionType": "object.associationChange",
            "fromObjectTypeId": from.0, "fromObjectId": from.1, "toObjectTypeId": to.0, "toObjectId": to.1,
            "associationTypeId": 202, "associationCategory": "HUBSPOT_DEFINED", "associationRemoved": is_removed,
            "changeSource": "CRM_UI", "sourceId": "userId:42"})
    };
    let (note, person) = (("0-46", 50), ("0-1", 1));
    let removed = change(note, person, true);
    send_accepted(&fleet, std::slice::from_ref(&removed)).await;
    ended_as(&fleet, &removed, "skipped", Some("no_playbook")).await;
    let (there, back) = (change(note, person, false), change(person, note, false));
    send_accepted(&fleet, &[there.clone(), back.clone()]).await;
    ended_as(&fleet, &there, "written", None).await;
    ended_as(&fleet, &back, "skipped", Some("no_playbook")).await;
    assert_eq!(property(&fleet, 1, "ai_budget_estimate").await.as_deref(), Some("50000"));
}
