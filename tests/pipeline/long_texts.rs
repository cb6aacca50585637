//! What does not fit the model's window is condensed in parts, and no part is paid for twice.

use serde_json::json;

use fixtures::{PlaybookFolder, contact, ended_as, fleet, happened, held, object, pipeline, questions, send_accepted};

/// About 60,000 tokens of small talk with something decisive near its end.
fn thread() -> String {
    let talk = "We went through the agenda item by item and spoke about the weather in some detail. ";
    format!("{}This is unacceptable, we want a refund. It is still broken. {}", talk.repeat(3_200), talk.repeat(200))
}

#[tokio::test]
async fn a_thread_beyond_the_window_is_condensed_and_what_matters_in_it_is_found() {
    let fleet = fleet(&pipeline()).await;
    contact(&fleet, 1, &[]).await;
    object(&fleet, "ticket", 30, &[("subject", "Outage"), ("content", &thread()[..65_000])], &[("contact", 1)]).await;
    let body = thread();
    for (n, chunk) in body.as_bytes().chunks(60_000).enumerate() {
        let text = String::from_utf8_lossy(chunk).into_owned();
        let at = format!("2026-11-{:02}T10:00:00Z", n + 1);
        let mail =
            [("hs_timestamp", at.as_str()), ("hs_email_subject", "Re: Outage"), ("hs_email_text", text.as_str())];
        object(&fleet, "email", 60 + i64::try_from(n).expect("small"), &mail, &[("ticket", 30)]).await;
    }
    let event = happened("ticket", 30, "creation", None, 1);
    send_accepted(&fleet, std::slice::from_ref(&event)).await;
    let story = ended_as(&fleet, &event, "written", None).await;
    let parts = story.inferences.iter().filter(|inference| inference.part.is_some()).count();
    assert!(parts >= 3, "{parts} parts");
    assert_eq!(questions(&fleet).await, parts + 1, "each part once, and the question");
    let sentiment: f64 =
        held(&fleet, "ticket", 30, "ai_sentiment_score").await.expect("set").parse().expect("a number");
    assert!(sentiment <= -0.5, "found in the middle of it all: {sentiment}");
    assert_eq!(held(&fleet, "ticket", 30, "ai_churn_urgency").await.as_deref(), Some("high"));
}

/// The webhook carries the value, cut: a condition sees its beginning, the loop guard does not need it, and the model reads
/// the record's own.
#[tokio::test]
async fn a_long_value_starts_its_playbook_and_is_read_whole_from_the_record() {
    let condition = "when = \"event.value is startingwith 'CHAT:' and event.value is endingwith '…'\"";
    let playbook = include_str!("../../deploy/playbooks/churn-risk.toml")
        .replace("properties = [\"content\"]", &format!("properties = [\"content\"]\n{condition}"));
    let folder = PlaybookFolder::new("long-values", &[&playbook]);
    let fleet = fleet(&pipeline().with("inference.playbooks", folder.path())).await;
    let chat =
        format!("CHAT: {} This is unacceptable, we want a refund.", "We spoke about the weather. ".repeat(2_100));
    contact(&fleet, 1, &[]).await;
    object(&fleet, "ticket", 30, &[("subject", "Outage"), ("content", &chat)], &[("contact", 1)]).await;
    let changed = |n: i64, value: &str, source: (&str, &str)| {
        let mut event = happened("ticket", 30, "propertyChange", Some("content"), n);
        event["propertyValue"] = json!(value);
        (event["changeSource"], event["sourceId"]) = (json!(source.0), json!(source.1));
        event
    };
    let (by_person, by_us) = (("CRM_UI", "userId:42"), ("INTEGRATION", "1234567"));
    let (echo, other) = (changed(1, &chat, by_us), changed(2, &"x".repeat(66_000), by_person));
    let event = changed(3, &chat, by_person);
    send_accepted(&fleet, &[echo.clone(), other.clone(), event.clone()]).await;
    ended_as(&fleet, &echo, "dropped", Some("echo")).await;
    ended_as(&fleet, &other, "skipped", Some("no_playbook")).await;
    let story = ended_as(&fleet, &event, "written", None).await;
    assert_eq!(story.inferences.len(), questions(&fleet).await);
    assert_eq!(held(&fleet, "ticket", 30, "ai_churn_urgency").await.as_deref(), Some("high"), "its end is read, too");
}
