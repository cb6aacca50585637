//! What waits for approval is decided about by command or by a link, and what people decide teaches the playbook.

use lab::{Fleet, FleetPlan};
use serde_json::Value;
use simulator::admin::Edit;
use testbed::free_port;

use crate::playbook_command::playbook;
use fixtures::{
    BUYER, PlaybookFolder, ask, contact, ended_as, fleet, held, note_event, pipeline, property, send_accepted, until,
};

/// A fleet whose lead qualification is in review.
async fn reviewing(name: &str, plan: FleetPlan) -> (Fleet, PlaybookFolder) {
    let leads = include_str!("../../deploy/playbooks/lead-qualification.toml");
    let folder = PlaybookFolder::new(name, &[&leads.replacen("records =", "mode = \"review\"\nrecords =", 1)]);
    (fleet(&plan.with("inference.playbooks", folder.path())).await, folder)
}

/// A contact for which something is proposed.
async fn proposed(fleet: &Fleet, id: i64) -> Value {
    contact(fleet, id, &[BUYER]).await;
    let event = note_event(id, 1);
    send_accepted(fleet, std::slice::from_ref(&event)).await;
    ended_as(fleet, &event, "proposed", None).await;
    event
}

/// Runs `leadline review` and gives whether it succeeded and what it said.
async fn review(fleet: &Fleet, arguments: &[&str]) -> (bool, String) {
    let output = fleet.leadline(&[&["review"], arguments].concat()).await.expect("runs");
    (output.status.success(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
}

/// The only proposal that waits.
async fn waiting(fleet: &Fleet) -> String {
    ask(fleet, "select id::text from write_command where state = 'proposed'").await
}

async fn edit(fleet: &Fleet, name: &str, value: &str) {
    let properties = [(name.to_owned(), value.to_owned())].into();
    let edit = Edit { properties, source: "CRM_UI".to_owned(), source_id: "userId:42".to_owned(), announce: false };
    fleet.simulator.edit("contact", 1, &edit).await.expect("edited");
}

#[tokio::test]
async fn what_asks_again_is_approved_only_by_who_says_so() {
    let (fleet, _playbooks) = reviewing("asks-again", pipeline()).await;
    let event = proposed(&fleet, 1).await;
    edit(&fleet, "lead_score", "12").await;
    let id = waiting(&fleet).await;
    let (good, said) = review(&fleet, &["approve", &id, "--yes"]).await;
    assert!(good, "{said}");
    ended_as(&fleet, &event, "proposed", Some("value_changed")).await;

    for filter in [&[&*id][..], &["--playbook", "lead-qualification"], &["--record", "contact/1"]] {
        let (good, said) = review(&fleet, &[&["approve"], filter, &["--yes"]].concat()).await;
        assert!(!good && said.contains("0 approved"), "{said}");
        let difference =
            format!("{id} (contact/1) asks again, since lead_score was – when it was approved and is 12 now");
        assert!(said.contains(&difference), "{said}");
    }
    let (good, said) = review(&fleet, &["edit", &id, "--set", "lead_score=70", "--yes"]).await;
    assert!(!good && said.contains("left out"), "{said}");
    assert_eq!(property(&fleet, 1, "lead_score").await.as_deref(), Some("12"), "nothing is written over it");
    let (good, said) = review(&fleet, &["show", &id]).await;
    assert!(good && said.contains("lead_score was – when it was approved and is 12 now"), "{said}");

    let (good, said) = review(&fleet, &["approve", &id, "--changed", "--yes"]).await;
    assert!(good, "{said}");
    ended_as(&fleet, &event, "written", None).await;
    assert_ne!(property(&fleet, 1, "lead_score").await.as_deref(), Some("12"), "who approved it has seen the 12");
}

#[tokio::test]
async fn edits_and_rejections_are_in_the_report_and_an_edit_becomes_a_case() {
    let (fleet, _playbooks) = reviewing("edits", pipeline()).await;
    let event = proposed(&fleet, 1).await;
    let id = waiting(&fleet).await;
    let (good, said) = review(&fleet, &["edit", &id, "--set", "lead_score=12", "--yes"]).await;
    assert!(good, "{said}");
    ended_as(&fleet, &event, "written", None).await;
    let event = proposed(&fleet, 2).await;
    let id = waiting(&fleet).await;
    let (good, said) = review(&fleet, &["reject", &id, "--why", "a student", "--yes"]).await;
    assert!(good, "{said}");
    ended_as(&fleet, &event, "skipped", Some("rejected")).await;

    let (good, said) = playbook(&fleet, &["report", "lead-qualification"]).await;
    let row = |name: &str| said.lines().find(|line| line.starts_with(name)).is_some_and(|row| row.contains("1 of 2"));
    assert!(good && row("edited") && row("rejected"), "{said}");
    let (good, said) = playbook(&fleet, &["case", "--from", "overrides"]).await;
    assert!(good && said.contains("1 cases made, 0 corrected answers left out"), "{said}");
    assert!(said.contains("corrected by a person: lead_score"), "{said}");
    assert!(said.contains("lead_score = { at_least = 2.0, at_most = 22.0 }"), "{said}");
    assert!(said.contains("1 rejected, without the right values") && said.contains("because: a student"), "{said}");
}

#[tokio::test]
async fn a_running_writer_tells_a_channel_and_serves_the_page_of_its_link() {
    let port = free_port().expect("a port");
    let plan = FleetPlan { writers: 1, ..pipeline() }
        .with("review.channel", "sales")
        .with("review.listen", &format!("127.0.0.1:{port}"))
        .with("review.public_url", &format!("http://127.0.0.1:{port}"))
        .with("review.link_secret", &"x".repeat(32));
    let (fleet, _playbooks) = reviewing("links", plan).await;
    let event = proposed(&fleet, 1).await;
    let messages = async || fleet.simulator.messages().await.expect("asked");
    until("the channel is told", async || !messages().await.is_empty()).await;
    let told = messages().await.remove(0).body["text"].as_str().expect("a text").to_owned();
    let link = told.split_once('<').and_then(|(_, link)| link.split_once('|')).expect("a link").0;
    let http = reqwest::Client::new();
    let page = http.get(link).send().await.expect("answered");
    assert_eq!(page.status(), 200);
    let page = page.text().await.expect("text");
    assert!(page.contains("lead_score") && page.contains("value=\"approve\""), "{page}");
    ended_as(&fleet, &event, "proposed", None).await;
    assert_eq!(held(&fleet, "contact", 1, "lead_score").await, None);
    let approved = http.post(link).body("decision=approve&by=Ada").send().await.expect("answered");
    assert_eq!(approved.status(), 200);
    ended_as(&fleet, &event, "written", None).await;
    assert!(held(&fleet, "contact", 1, "lead_score").await.is_some());
}
