//! What does not fit the model's window is condensed in parts, and no part is paid for twice.

use fixtures::{contact, ended_as, fleet, happened, held, object, pipeline, questions, send_accepted};

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
