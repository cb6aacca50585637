//! `leadline playbook case`: what the model was asked about a real event becomes a case, without the names in it.

use lab::Fleet;
use serde_json::Value;

use crate::{
    playbook_command::{LEADS, playbook},
    use_cases::two_playbooks,
};
use fixtures::{
    BUYER, PlaybookFolder, contact, ended_as, fleet, happened, key, note, note_event, object, pipeline, send_accepted,
    sql,
};

/// Waits until the event is written, and makes a case of it in `folder`: what was said about it.
async fn case_of(fleet: &Fleet, event: &Value, folder: &PlaybookFolder) -> String {
    send_accepted(fleet, std::slice::from_ref(event)).await;
    ended_as(fleet, event, "written", None).await;
    let (good, said) = playbook(fleet, &["case", &key(event), "--out", &folder.file("case.toml")]).await;
    assert!(good, "{said}");
    said
}

#[tokio::test]
async fn a_case_of_a_real_event_names_nobody_and_runs_right_away() {
    let fleet = fleet(&pipeline()).await;
    contact(&fleet, 1, &[]).await;
    let mail = "<p>Hi Ada,<br>our CEO Mrs Hopper approved a budget of $120,000. Marsh wants to sign this week.</p>\
        <p>Call +49 30 1234567 or write to ada@marsh.test.</p><p>Best regards,<br>Grace Hopper</p>";
    note(&fleet, 71, 1, mail).await;
    let folder = PlaybookFolder::new("case", &[]);
    let said = case_of(&fleet, &note_event(1, 1), &folder).await;

    let text = folder.read("case.toml");
    for name in ["Ada", "ada", "Marsh", "marsh", "Hopper", "Grace", "1234567", "9876543", "contact/1"] {
        assert!(!text.contains(name), "{name} in\n{text}");
    }
    for part in [
        "firstname = \"Firstname1\"",
        "company = \"Company1\"",
        "Hi Firstname1,",
        "our CEO Mrs Lastname2 approved",
        "Firstname2 Lastname2",
        "Company1 wants to sign",
        "Call +1 202 555 0101 or write to person1@domain1.example.",
        "actions = [\"call-high-value-prospect\", \"tell-sales\"]",
        "budget_estimate = { equals = 120000 }",
        "at = 2026-11-20T10:00:00Z",
    ] {
        assert!(text.contains(part), "{part} in\n{text}");
    }
    for part in
        ["Ada → Firstname1", "Marsh → Company1", "+49 30 1234567 → +1 202 555 0101", "A person must read every line"]
    {
        assert!(said.contains(part), "{part} in\n{said}");
    }
    // The budget is there only if its quotation is found.
    let (good, said) = playbook(&fleet, &["eval", LEADS, folder.path()]).await;
    assert!(good && said.contains("5 of 5 expectations met"), "{said}");

    let again = ["case", &key(&note_event(1, 1)), "--out", &folder.file("case.toml")];
    let (good, said) = playbook(&fleet, &again).await;
    assert!(!good && said.contains("cannot write") && folder.read("case.toml") == text, "{said}");
    let output = fleet.leadline(&["playbook", "case", &key(&note_event(1, 1))]).await.expect("runs");
    assert_eq!(String::from_utf8_lossy(&output.stdout), text, "the same, printed");
}

#[tokio::test]
async fn records_at_the_end_of_paths_are_a_part_of_the_case() {
    let fleet = fleet(&pipeline()).await;
    contact(&fleet, 1, &[]).await;
    object(&fleet, "deal", 20, &[("dealname", "Marsh: renewal"), ("dealstage", "contractsent")], &[("contact", 1)])
        .await;
    let ticket = [("subject", "Outage"), ("content", "This is unacceptable. It is still broken, we want a refund.")];
    object(&fleet, "ticket", 30, &ticket, &[("contact", 1)]).await;
    let folder = PlaybookFolder::new("case-paths", &[]);
    let said = case_of(&fleet, &happened("ticket", 30, "creation", None, 1), &folder).await;
    let text = folder.read("case.toml");
    for part in [
        "path = \"ticket > contact\"",
        "path = \"ticket > contact > deal\"",
        "Company1: renewal",
        "urgency = { equals = \"high\" }",
    ] {
        assert!(text.contains(part), "{part} in\n{text}\n{said}");
    }
    let (good, said) = playbook(&fleet, &["eval", "deploy/playbooks/churn-risk.toml", folder.path()]).await;
    assert!(good, "{text}\n{said}");
}

/// About 13,000 tokens.
async fn long_mail(fleet: &Fleet, n: i64, ticket: &[(&str, i64)]) {
    let talk = "We went through the agenda item by item and spoke about the weather in some detail. ".repeat(750);
    let body = format!("Mail {n}: this is unacceptable, we want a refund. {talk}The end of mail {n}.");
    let at = format!("2026-11-{n:02}T10:00:00Z");
    let mail = [("hs_timestamp", at.as_str()), ("hs_email_subject", "Re: Outage"), ("hs_email_text", body.as_str())];
    object(fleet, "email", 60 + n, &mail, ticket).await;
}

/// The number of parts that were condensed for an event.
async fn parts(fleet: &Fleet, event: &Value) -> usize {
    let story = fleet.ledger.event_story(&key(event)).await.expect("the ledger answers").expect("an event");
    story.inferences.iter().filter(|inference| inference.part.is_some()).count()
}

#[tokio::test]
async fn a_context_that_was_condensed_is_whole_in_the_case() {
    let fleet = fleet(&pipeline()).await;
    contact(&fleet, 1, &[]).await;
    let ticket = [("subject", "Outage"), ("content", "This is unacceptable. See mails.")];
    object(&fleet, "ticket", 30, &ticket, &[("contact", 1)]).await;
    for n in 1..=4 {
        long_mail(&fleet, n, &[("ticket", 30)]).await;
    }
    let folder = PlaybookFolder::new("case-parts", &[]);
    let first = happened("ticket", 30, "creation", None, 1);
    case_of(&fleet, &first, &folder).await;
    let output = fleet
        .leadline(&["playbook", "eval", "deploy/playbooks/churn-risk.toml", folder.path(), "--json"])
        .await
        .expect("runs");
    let json = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{json}");
    let report: Value = serde_json::from_str(&json).expect("JSON");
    // What was asked about the parts was paid for, too.
    assert!(report["models"][0]["tokens"]["in"].as_i64() > Some(40_000), "{}", report["models"][0]["tokens"]);

    // Most parts of the next event's context were condensed for the first one.
    long_mail(&fleet, 5, &[("ticket", 30)]).await;
    std::fs::remove_file(folder.file("case.toml")).expect("removed");
    let second = happened("ticket", 30, "creation", None, 2);
    case_of(&fleet, &second, &folder).await;
    assert!(parts(&fleet, &second).await < parts(&fleet, &first).await);
    let text = folder.read("case.toml");
    for n in 1..=5 {
        for part in [format!("Mail {n}: this is unacceptable"), format!("The end of mail {n}.")] {
            assert!(text.contains(&part), "{part} in {} bytes", text.len());
        }
    }
}

#[tokio::test]
async fn without_its_texts_an_event_makes_no_case() {
    let fleet = fleet(&pipeline()).await;
    contact(&fleet, 1, &[BUYER]).await;
    let event = note_event(1, 1);
    send_accepted(&fleet, std::slice::from_ref(&event)).await;
    ended_as(&fleet, &event, "written", None).await;
    sql(&fleet, "delete from inference_raw").await;
    let (good, said) = playbook(&fleet, &["case", &key(&event)]).await;
    assert!(!good && said.contains("deleted after retention.raw_days"), "{said}");
    let (good, said) = playbook(&fleet, &["case", "no-such-event"]).await;
    assert!(!good && said.contains("the ledger has no event `no-such-event`"), "{said}");

    contact(&fleet, 2, &[]).await;
    let nothing_said = note_event(2, 1);
    send_accepted(&fleet, std::slice::from_ref(&nothing_said)).await;
    ended_as(&fleet, &nothing_said, "skipped", Some("empty_context")).await;
    let (good, said) = playbook(&fleet, &["case", &key(&nothing_said)]).await;
    assert!(
        !good && said.contains("no answer about this event is in the ledger (state skipped, empty_context)"),
        "{said}"
    );
}

#[tokio::test]
async fn of_several_questions_the_operator_chooses_one() {
    let playbooks = two_playbooks("case-two");
    let fleet = fleet(&pipeline().with("inference.playbooks", playbooks.path())).await;
    contact(&fleet, 1, &[BUYER]).await;
    let event = note_event(1, 1);
    send_accepted(&fleet, std::slice::from_ref(&event)).await;
    ended_as(&fleet, &event, "written", None).await;
    let (good, said) = playbook(&fleet, &["case", &key(&event)]).await;
    assert!(!good && said.contains("--playbook second-opinion --record contact/1"), "{said}");
    let (good, said) =
        playbook(&fleet, &["case", &key(&event), "--playbook", "second-opinion", "--person", "They"]).await;
    assert!(good && said.contains("[[entries]]") && said.contains("They → Firstname"), "{said}");
}
