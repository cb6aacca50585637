//! A paid answer leaves a trace, always; and what a record, a playbook and the fleet may spend in a day has an end.

use lab::Fleet;

use fixtures::{ended_as, fleet, happened, object, pipeline, questions, send_accepted, with_long_leases};

/// A mail on a ticket, each with words of its own, and the event about it.
async fn mail(fleet: &Fleet, ticket: i64, n: i64, words: usize) -> serde_json::Value {
    let text = format!("Mail {n}. {}", format!("It was the {n}th time that it rained. ").repeat(words / 8));
    let at = format!("2026-10-{:02}T{:02}:00:00Z", n / 24 + 1, n % 24);
    let properties = [("hs_timestamp", at.as_str()), ("hs_email_text", text.as_str())];
    object(fleet, "email", 1_000 + n, &properties, &[("ticket", ticket)]).await;
    happened("email", 1_000 + n, "creation", None, n)
}

#[tokio::test]
async fn a_new_mail_on_a_long_ticket_does_not_pay_for_all_the_others_again() {
    let fleet = fleet(&with_long_leases(pipeline())).await;
    object(&fleet, "ticket", 30, &[("content", "It began on Monday.")], &[]).await;
    for n in 0..36 {
        mail(&fleet, 30, n, 2_500).await;
    }
    let first = happened("ticket", 30, "creation", None, 1);
    send_accepted(&fleet, std::slice::from_ref(&first)).await;
    ended_as(&fleet, &first, "written", None).await;
    let before = questions(&fleet).await;
    assert!(before >= 8, "{before} questions about the whole ticket");
    // The thirty newest are read: one more comes, and the oldest is no longer read.
    let event = mail(&fleet, 30, 36, 2_500).await;
    send_accepted(&fleet, std::slice::from_ref(&event)).await;
    ended_as(&fleet, &event, "written", None).await;
    let asked = questions(&fleet).await - before;
    assert!((2..=4).contains(&asked), "{asked} questions about one new mail, after {before} about all");
}

#[tokio::test]
async fn a_context_of_many_parts_is_condensed_in_as_many_as_the_setting_allows() {
    let fleet = fleet(&with_long_leases(pipeline()).with("inference.max_parts", "3")).await;
    object(&fleet, "ticket", 30, &[("content", "It began on Monday.")], &[]).await;
    for n in 0..30 {
        mail(&fleet, 30, n, 2_500).await;
    }
    let event = happened("ticket", 30, "creation", None, 1);
    send_accepted(&fleet, std::slice::from_ref(&event)).await;
    let story = ended_as(&fleet, &event, "written", None).await;
    assert_eq!(questions(&fleet).await, 4, "three parts, and the question");
    let prompt = story.inferences[3].prompt.as_ref().expect("kept").to_string();
    assert!(prompt.contains("older parts]"), "the model is told that something is left out: {prompt}");
}
