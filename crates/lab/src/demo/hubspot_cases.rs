//! What HubSpot does beside the happy path: associations that come late, a value that a rule refuses, an owner who has left.

use anyhow::{Context, Result};
use domain::{EventState, Reason};
use lab::Fleet;
use simulator::admin::{Quirks, SendWebhook};

use super::{
    score::{Score, WITHIN, key_of},
    show,
    use_cases::{ended, event, put},
};

const CONTACT: i64 = 8_001;
const NOTE: i64 = 8_002;
const CALL: i64 = 8_003;

/// An owner that the portal does not have (any more).
const FORMER_OWNER: &str = "404";

pub async fn run(fleet: &Fleet, score: &mut Score) -> Result<()> {
    println!("\nHubSpot as it is: a note is associated seconds later, and a rule refuses a budget above 40,000");
    let quirks = Quirks { maxima: [("ai_budget_estimate".to_owned(), 40_000)].into(), ..Quirks::default() };
    fleet.simulator.quirks(&quirks).await?;
    put(fleet, "contact", CONTACT, &[("firstname", "Ines"), ("company", "Costa")], &[]).await?;
    let text = "They have $50k ready for Q1 and are very excited to start.";
    let note = [("hs_note_body", text), ("hs_timestamp", "2026-11-24T10:00:00Z")];
    put(fleet, "note", NOTE, &note, &[]).await?;
    let noted = event("object.creation", "0-46", NOTE, None);
    fleet.simulator.webhook(&SendWebhook { events: vec![noted.clone()], forged: false, url: None }).await?;
    let waiting = fleet.until_event(&key_of(&noted)?, |state| state == EventState::Waiting, WITHIN).await?;
    let reason = waiting.reason.map_or("-", Reason::as_str);
    println!("  the note has no contact yet: the event waits ({reason}), and nothing is asked");
    let waits = reason == Reason::NotAssociatedYet.as_str() && waiting.inferences.is_empty();
    score.check("a note without its contact", waits, || format!("waits for {reason}"));
    put(fleet, "note", NOTE, &note, &[("contact", CONTACT)]).await?;
    let story = ended(fleet, &noted).await?;
    show::story("lead-qualification", &story);
    score.check("a late association", story.state == EventState::Written, || format!("ended {}", story.state));
    let refused = story.skipped_writes.iter().any(|skipped| skipped.reason == Reason::ValueRefused);
    let scored = story.writes.iter().any(|write| write.property == "lead_score");
    score.check("one refused value", refused && scored, || "cost the record its other values".to_owned());
    fleet.simulator.quirks(&Quirks::default()).await?;

    println!("\na call whose owner has left the company");
    let call = [
        ("hs_timestamp", "2026-11-24T12:00:00Z"),
        ("hs_call_status", "COMPLETED"),
        ("hubspot_owner_id", FORMER_OWNER),
        ("hs_call_body", "Next step is a visit on 2026-12-15."),
    ];
    put(fleet, "call", CALL, &call, &[("contact", CONTACT)]).await?;
    let called = event("object.creation", "0-48", CALL, None);
    fleet.simulator.webhook(&SendWebhook { events: vec![called.clone()], forged: false, url: None }).await?;
    let story = ended(fleet, &called).await?;
    let created = story.actions.iter().find_map(|action| action.hubspot_id).context("no task was created")?;
    let task = fleet.simulator.object("task", created).await?.context("the task does not exist")?;
    let due = task.properties.get("hs_timestamp").map_or("-", String::as_str);
    println!("  the task is created without an owner, due {due}: the end of that day in the portal's time zone");
    score.check("a task without an owner", !task.properties.contains_key("hubspot_owner_id"), || "has one".to_owned());
    score.check("a day's end in New York", due == "2026-12-16T04:59:59Z", || format!("is due {due}"));
    Ok(())
}
