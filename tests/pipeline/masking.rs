//! What a playbook masks does not reach the model, whatever its form, and is in HubSpot all the same.

use lab::Fleet;
use simulator::{Fault, FaultKind, Target};

use crate::playbook_command::playbook;
use fixtures::{
    PlaybookFolder, ask, ended_as, fleet, happened, held, key, note, note_event, object, pipeline, property, questions,
    send_accepted,
};

const LEADS: &str = include_str!("../../deploy/playbooks/lead-qualification.toml");
const CHURN: &str = include_str!("../../deploy/playbooks/churn-risk.toml");
const CALLS: &str = include_str!("../../deploy/playbooks/call-summary.toml");

const MASKING: &str = "[masking]\nmask = [\"emails\", \"phones\", \"cards\", \"bank_accounts\", \"names\"]\n";

/// What must never arrive.
const KEPT_BACK: [&str; 11] = [
    "persephone",
    "quillfeather",
    "quillf%40",
    "quill@",
    "quill (at)",
    "0171 7654321",
    "30 9876543",
    "555-123-4567",
    "4111 1111 1111 1111",
    "DE89 3704 0044 0532 0130 00",
    "Engineer Second Class",
];

/// One person in many forms.
const NOTE: &str = "<p>Persephone wants $50k for Q1 and is excited.</p><p>Persephone Quillfeather, says PERSEPHONE'S boss.</p>\
    <p>quill@x.test, QUILL@X.TEST, <b>quill</b>&#64;x.test, mailto:quillf%40x.test, quill (at) x (dot) test, quill @ x.test</p>\
    <p>0171 7654321, 0171/765-43-21, +49 (171) 7654321, +49&nbsp;30&nbsp;9876543, 030-98.76.543, (555) 123-4567, 555.123.4567</p>\
    <p>4111 1111 1111 1111, 4111-1111-1111-1111; DE89 3704 0044 0532 0130 00, de89370400440532013000</p>\
    <p>quillfeather, persephone; Quillfeathers plan; persephone-quillfeather.pdf; @persephonequillfeather [EMAIL-1]</p>";

fn masked(playbook: &str, masking: &str) -> String {
    playbook.replacen("[prompt]", &format!("{masking}\n[prompt]"), 1)
}

async fn person(fleet: &Fleet, id: i64) {
    let properties = [
        ("firstname", "Persephone"),
        ("lastname", "Quillfeather"),
        ("jobtitle", "Engineer Second Class"),
        ("company", "Marsh"),
    ];
    object(fleet, "contact", id, &properties, &[]).await;
    fleet.simulator.keep_back(&KEPT_BACK).await.expect("watched for");
}

async fn nothing_has_left(fleet: &Fleet) {
    assert_eq!(fleet.simulator.arrived().await.expect("asked"), Vec::<String>::new());
}

#[tokio::test]
async fn nothing_that_is_masked_or_denied_reaches_the_model_in_any_mode_of_either_api_and_the_crm_has_it_all() {
    for (mode, model) in [("schema", "gpt-4o"), ("json", "gpt-4.1"), ("function", "gpt-4o")] {
        let masking = format!("{MASKING}deny = [\"jobtitle\"]\n");
        let playbook = masked(&LEADS.replace("mode = \"schema\"", &format!("mode = \"{mode}\"")), &masking);
        let folder = PlaybookFolder::new(&format!("masked-{mode}"), &[&playbook]);
        for api in ["chat_completions", "responses"] {
            let plan = pipeline().with("inference.playbooks", folder.path()).with("openai.model", model);
            let fleet = fleet(&plan.with("openai.api", api)).await;
            person(&fleet, 1).await;
            note(&fleet, 71, 1, NOTE).await;
            // The first answer is repaired, and its conversation goes there once more.
            fleet.simulator.fault(&Fault::new(Target::Openai, FaultKind::Prose).times(1)).await.expect("set");
            send_accepted(&fleet, &[note_event(1, 1)]).await;
            let story = ended_as(&fleet, &note_event(1, 1), "written", None).await;
            nothing_has_left(&fleet).await;
            assert_eq!(questions(&fleet).await, 2);

            let inference = &story.inferences[0];
            assert_eq!(inference.unverified, Vec::<String>::new(), "its quotation is in what the model read");
            let summary = property(&fleet, 1, "ai_lead_summary").await.expect("written");
            assert!(summary.starts_with("Persephone wants $50k"), "{summary}");
            let stored =
                format!("{}{}", inference.prompt.as_ref().expect("kept"), inference.answer.as_ref().expect("kept"));
            assert!(stored.contains("[PERSON-1] wants $50k") && stored.contains("[LITERAL-1]"), "{stored}");
            for value in KEPT_BACK {
                assert!(!stored.to_lowercase().contains(&value.to_lowercase()), "{value} in {stored}");
            }
            let fields: String = ask(&fleet, "select fields::text from inference").await;
            assert!(fields.contains("Persephone wants"), "{fields}");

            // The same context, however its placeholders are numbered.
            send_accepted(&fleet, &[note_event(1, 2)]).await;
            ended_as(&fleet, &note_event(1, 2), "skipped", Some("unchanged_context")).await;
        }
    }
}

#[tokio::test]
async fn nothing_that_is_masked_is_in_the_parts_of_a_long_context_and_one_value_is_one_placeholder_in_all_of_them() {
    let playbook = masked(CHURN, MASKING);
    let folder = PlaybookFolder::new("masked-parts", &[&playbook]);
    let fleet = fleet(&pipeline().with("inference.playbooks", folder.path())).await;
    person(&fleet, 1).await;
    object(&fleet, "ticket", 30, &[("subject", "Outage"), ("content", "See mails.")], &[("contact", 1)]).await;
    let talk = "We went through the agenda item by item and spoke about the weather in some detail. ".repeat(750);
    for n in 1..=4_i64 {
        let body = format!(
            "Hello, Persephone says that this is unacceptable, we want a refund to quill@x.test or {n}@x.test. {talk}"
        );
        let at = format!("2026-11-{n:02}T10:00:00Z");
        let mail = [("hs_timestamp", at.as_str()), ("hs_email_subject", "Re: Outage"), ("hs_email_text", &body)];
        object(&fleet, "email", 60 + n, &mail, &[("ticket", 30)]).await;
    }
    let event = happened("ticket", 30, "creation", None, 1);
    send_accepted(&fleet, std::slice::from_ref(&event)).await;
    let story = ended_as(&fleet, &event, "written", None).await;
    nothing_has_left(&fleet).await;
    let parts: Vec<_> = story.inferences.iter().filter(|inference| inference.part.is_some()).collect();
    assert!(parts.len() >= 3, "{} parts", parts.len());
    let with_address = |inference: &&&ledger::InferenceEntry| {
        inference.prompt.as_ref().is_some_and(|prompt| prompt.to_string().contains("refund to [EMAIL-1]"))
    };
    assert!(parts.iter().filter(with_address).count() >= 3, "the same in every part");
    assert_eq!(held(&fleet, "ticket", 30, "ai_churn_urgency").await.as_deref(), Some("high"));
}

#[tokio::test]
async fn a_task_says_who_is_meant_although_the_model_does_not_know_it() {
    let playbook = masked(CALLS, &format!("{MASKING}deny = [\"jobtitle\"]\n"));
    let folder = PlaybookFolder::new("masked-tasks", &[&playbook]);
    let fleet = fleet(&pipeline().with("inference.playbooks", folder.path())).await;
    person(&fleet, 1).await;
    object(&fleet, "deal", 20, &[("dealname", "Pilot")], &[("contact", 1)]).await;
    let call = [("hs_call_body", "They liked it. We will write to quill@x.test, says Persephone, by 2026-12-01.")];
    object(&fleet, "call", 40, &call, &[("contact", 1), ("deal", 20)]).await;
    let event = happened("call", 40, "creation", None, 1);
    send_accepted(&fleet, std::slice::from_ref(&event)).await;
    ended_as(&fleet, &event, "written", None).await;
    nothing_has_left(&fleet).await;
    let tasks = fleet.simulator.objects("task").await.expect("asked");
    let subject = &tasks.first().expect("a task").properties["hs_task_subject"];
    assert!(subject.contains("quill@x.test, says Persephone"), "{subject}");
}

#[tokio::test]
async fn a_masked_playbook_says_what_it_masks_and_a_masked_prompt_becomes_a_case() {
    let folder = PlaybookFolder::new("masked-case", &[&masked(LEADS, &format!("{MASKING}deny = [\"jobtitle\"]\n"))]);
    let fleet = fleet(&pipeline().with("inference.playbooks", folder.path())).await;
    person(&fleet, 1).await;
    note(&fleet, 71, 1, NOTE).await;
    send_accepted(&fleet, &[note_event(1, 1)]).await;
    ended_as(&fleet, &note_event(1, 1), "written", None).await;
    let cases = PlaybookFolder::new("masked-cases", &[]);
    let file = folder.file("1.toml");
    let (good, said) =
        playbook(&fleet, &["case", &key(&note_event(1, 1)), "--file", &file, "--out", &cases.file("a.toml")]).await;
    assert!(good, "{said}");
    let text = cases.read("a.toml");
    assert!(!text.contains("[PERSON") && !text.contains("[EMAIL-2") && !text.contains("jobtitle"), "{text}");
    let (good, said) = playbook(&fleet, &["eval", &file, cases.path()]).await;
    assert!(
        good && said.contains("masked: ") && said.contains(" email") && said.contains("; not shown: jobtitle"),
        "{said}\n{text}"
    );
    nothing_has_left(&fleet).await;
    let (good, said) = playbook(&fleet, &["check", &file]).await;
    assert!(good && said.contains("masks emails, phones, cards, bank_accounts, names"), "{said}");
    assert!(said.contains("does not show jobtitle"), "{said}");
}
