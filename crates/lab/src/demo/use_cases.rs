//! The guide's other two use cases, and a value that a person has set.

use anyhow::{Context, Result};
use domain::EventState;
use lab::{Fleet, cases::GUIDE_CONTACT};
use ledger::EventStory;
use serde_json::{Value, json};
use simulator::admin::{Edit, NewRecord, SendWebhook};

use super::{
    score::{Score, WITHIN, key_of},
    show,
};

const CUSTOMER: i64 = 3_001;
const OPEN_DEAL: i64 = 4_001;
const WON_DEAL: i64 = 4_002;
const TICKET: i64 = 5_001;
const CALL: i64 = 6_001;

/// An unhappy ticket and a call, from the webhook to what a person finds in HubSpot.
pub async fn run(fleet: &Fleet, score: &mut Score) -> Result<()> {
    portal(fleet).await?;
    println!("\nan unhappy ticket, and a call");
    let events = [event("ticket.creation", "0-5", TICKET, None), event("object.creation", "0-48", CALL, None)];
    let delivery = fleet.simulator.webhook(&SendWebhook { events: events.to_vec(), forged: false, url: None }).await?;
    show::delivery("a ticket and a call", &delivery);
    for (what, event) in ["churn-risk", "call-summary"].into_iter().zip(&events) {
        let mut story = ended(fleet, event).await?;
        show::story(what, &story);
        if story.state == EventState::Proposed {
            println!("  leadline review approve --playbook {what} --yes");
            fleet.leadline(&["review", "approve", "--playbook", what, "--yes", "--by", "demo"]).await?;
            story = ended(fleet, event).await?;
            show::story(what, &story);
        }
        score.check(what, story.state == EventState::Written, || format!("ended {}", story.state));
    }
    let value = |kind: &'static str, id, property: &'static str| async move {
        let view = fleet.simulator.object(kind, id).await?.with_context(|| format!("{kind} {id} does not exist"))?;
        Ok::<_, anyhow::Error>(view.properties.get(property).cloned().unwrap_or_default())
    };
    println!("  in HubSpot");
    for (what, kind, id, property, expected) in [
        ("the ticket's sentiment", "ticket", TICKET, "ai_sentiment_score", "-1"),
        ("the open deal's stage, by its label", "deal", OPEN_DEAL, "dealstage", "991231"),
        ("the deal that is won already", "deal", WON_DEAL, "dealstage", "closedwon"),
        (
            "the call's first next step",
            "deal",
            OPEN_DEAL,
            "ai_next_steps",
            "• We will send the offer by 2026-12-01. (by 2026-12-01)",
        ),
    ] {
        let found = value(kind, id, property).await?;
        let first = found.lines().next().unwrap_or_default();
        println!("    {what:<36} {first}");
        score.check(what, first == expected, || format!("is `{first}`"));
    }
    println!("  tasks");
    let mut tasks = fleet.simulator.objects("task").await?;
    tasks.sort_by_key(|task| task.id);
    for task in &tasks {
        let value = |name: &str| task.properties.get(name).map_or("-", String::as_str);
        println!(
            "    {:<6} owner {:<4} due {:.10}  {}",
            value("hs_task_priority"),
            value("hubspot_owner_id"),
            value("hs_timestamp"),
            value("hs_task_subject")
        );
    }
    let of_call = tasks.iter().filter(|task| task.properties["hs_timestamp"].starts_with("2026-12-")).count();
    score.check("tasks with the call's dates", of_call == 2, || format!("{of_call}, not 2"));
    let messages = fleet.simulator.messages().await?;
    println!("  the channel `sales` got {} messages, for example\n{}", messages.len(), first_message(&messages));
    score.check("messages", !messages.is_empty(), || "there are none".to_owned());
    Ok(())
}

/// A sales person sets a score by hand; the next note does not overwrite it.
pub async fn human_value(fleet: &Fleet, score: &mut Score) -> Result<()> {
    println!("\na person sets lead_score of contact {GUIDE_CONTACT} to 7, and another note is logged");
    let edit = Edit {
        properties: [("lead_score".to_owned(), "7".to_owned())].into(),
        source: "CRM_UI".to_owned(),
        source_id: "userId:42".to_owned(),
        announce: true,
    };
    fleet.simulator.edit("contact", GUIDE_CONTACT, &edit).await?;
    let note = [("hs_note_body", "The CTO joins the next call."), ("hs_timestamp", "2026-11-23T10:00:00Z")];
    put(fleet, "note", 7_001, &note, &[("contact", GUIDE_CONTACT)]).await?;
    let noted = event("object.creation", "0-46", 7_001, None);
    fleet.simulator.webhook(&SendWebhook { events: vec![noted.clone()], forged: false, url: None }).await?;
    let story = ended(fleet, &noted).await?;
    show::story("lead-qualification", &story);
    let view = fleet.simulator.contact(GUIDE_CONTACT).await?.context("the guide's contact does not exist")?;
    let stays = view.properties.get("lead_score").map(String::as_str) == Some("7");
    score.check("a person's value", stays, || "was overwritten".to_owned());
    let reason =
        story.skipped_writes.iter().find(|skipped| skipped.property == "lead_score").map(|skipped| skipped.reason);
    let is_recorded = reason == Some(domain::Reason::KeptHumanValue);
    score.check("kept_human_value", is_recorded, || format!("the ledger has {reason:?}"));
    Ok(())
}

/// Creates the records in the simulator.
async fn portal(fleet: &Fleet) -> Result<()> {
    let customer = [("firstname", "Eve"), ("lastname", "Stone"), ("company", "Stone Retail")];
    put(fleet, "contact", CUSTOMER, &customer, &[]).await?;
    for (id, name, stage) in [(OPEN_DEAL, "Renewal 2027", "contractsent"), (WON_DEAL, "Pilot", "closedwon")] {
        let deal = [("dealname", name), ("dealstage", stage), ("pipeline", "default"), ("hubspot_owner_id", "71")];
        put(fleet, "deal", id, &deal, &[("contact", CUSTOMER)]).await?;
    }
    let ticket = [("subject", "Outage again"), ("content", "This is <b>unacceptable</b>. It is still broken.")];
    put(fleet, "ticket", TICKET, &ticket, &[("contact", CUSTOMER)]).await?;
    let mail = [
        ("hs_timestamp", "2026-11-20T10:00:00Z"),
        ("hs_email_direction", "INCOMING_EMAIL"),
        ("hs_email_subject", "Re: Outage again"),
        (
            "hs_email_html",
            "<p>Third time we ask. We want a refund.</p><p>On Monday you wrote:</p><p>&gt; Thank you!</p>",
        ),
    ];
    put(fleet, "email", TICKET + 1, &mail, &[("ticket", TICKET)]).await?;
    let call = [
        ("hs_timestamp", "2026-11-20T12:00:00Z"),
        ("hs_call_title", "Renewal"),
        ("hs_call_status", "COMPLETED"),
        ("hubspot_owner_id", "70"),
        (
            "hs_call_body",
            "They liked the demo. We will send the offer by 2026-12-01. Next step is a workshop on 2026-12-10.",
        ),
    ];
    put(fleet, "call", CALL, &call, &[("contact", CUSTOMER), ("deal", OPEN_DEAL)]).await
}

pub async fn put(
    fleet: &Fleet,
    kind: &str,
    id: i64,
    properties: &[(&str, &str)],
    associations: &[(&str, i64)],
) -> Result<()> {
    let object = NewRecord {
        kind: kind.to_owned(),
        id,
        properties: properties.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
        associations: associations.iter().map(|(kind, id)| ((*kind).to_owned(), *id)).collect(),
        primary: false,
    };
    fleet.simulator.put_object(&object).await
}

pub fn event(subscription: &str, type_id: &str, id: i64, property: Option<&str>) -> Value {
    json!({"eventId": id * 7, "subscriptionId": 12345, "portalId": 9_876_543, "appId": 1_234_567,
        "occurredAt": time::OffsetDateTime::now_utc().unix_timestamp() * 1_000, "attemptNumber": 0, "objectId": id,
        "objectTypeId": type_id, "subscriptionType": subscription, "propertyName": property, "changeSource": "CRM_UI",
        "sourceId": "userId:42"})
}

pub async fn ended(fleet: &Fleet, event: &Value) -> Result<EventStory> {
    fleet.until_event(&key_of(event)?, EventState::is_final, WITHIN).await
}

fn first_message(messages: &[simulator::admin::ChannelMessage]) -> String {
    let text = messages.first().and_then(|message| message.body["text"].as_str()).unwrap_or_default();
    text.lines().map(|line| format!("    {line}\n")).collect()
}
