//! What is wrong is said before anything starts, all of it at once.

use std::process::Output;

use lab::{Fleet, FleetPlan};
use simulator::admin::Quirks;
use testbed::{TestNamespace, workspace};

use crate::fixtures::{BUYER, contact, ended_as, fleet, key, note_event, quick, send_accepted, services};

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

async fn run(program: &str, arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    let path = workspace::binaries().expect("built").join(program);
    let environment: Vec<_> =
        environment.iter().map(|(key, value)| (lab::fleet::variable(key), (*value).to_owned())).collect();
    let mut command = tokio::process::Command::new(path);
    command.args(arguments).envs(environment).current_dir(workspace::root().expect("the workspace"));
    tokio::time::timeout(std::time::Duration::from_secs(20), command.output()).await.expect("ends").expect("runs")
}

#[tokio::test]
async fn check_finds_everything_that_is_wrong_at_once() {
    let fleet = fleet(&FleetPlan { receivers: 0, inferences: 0, writers: 0, ..quick() }).await;
    let good = fleet.leadline(&["check"]).await.expect("runs");
    assert!(good.status.success(), "{}", text(&good));

    let quirks = Quirks { missing_properties: vec!["ai_lead_summary".to_owned()], ..Quirks::default() };
    fleet.simulator.quirks(&quirks).await.expect("set");
    let portal = lab::fleet::variable("hubspot.portal_id");
    let mut environment: Vec<_> = fleet.environment().to_vec();
    for (name, value) in &mut environment {
        if *name == portal {
            *value = "42".to_owned();
        } else if *name == lab::fleet::variable("openai.api_key") {
            *value = "sk-wrong".to_owned();
        }
    }
    let path = workspace::binaries().expect("built").join("leadline");
    let output = tokio::process::Command::new(path)
        .arg("check")
        .envs(environment)
        .current_dir(workspace::root().expect("the workspace"))
        .output()
        .await
        .expect("runs");
    assert!(!output.status.success());
    let said = text(&output);
    for finding in [
        "hubspot.portal_id: is 42, but the token's is 9876543",
        "`contact.ai_lead_summary` does not exist; `leadline playbook provision` creates it",
        "OpenAI: OpenAI answered 401",
        "3 problems found",
    ] {
        let found = said.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(found.contains(finding), "{finding} in\n{said}");
    }
}

#[tokio::test]
async fn a_wrong_playbook_is_refused_at_start_with_file_and_line() {
    let folder = std::env::temp_dir().join(format!("leadline-wrong-playbook-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    let shipped = include_str!("../../deploy/playbooks/lead-qualification.toml");
    std::fs::write(folder.join("broken.toml"), shipped.replace("maximum = 100\n", "maximum = -5\n")).expect("written");
    let line = shipped.lines().position(|line| line == "name = \"lead_score\"").expect("there") + 1;
    let environment = [
        ("inference.playbooks", folder.to_str().expect("UTF-8")),
        ("hubspot.token", "t"),
        ("hubspot.app_id", "1"),
        ("hubspot.portal_id", "1"),
        ("openai.api_key", "k"),
        ("admin.listen", "127.0.0.1:0"),
    ];
    let output = run("leadline-inference", &[], &environment).await;
    assert!(!output.status.success());
    let said = text(&output);
    assert!(said.contains(&format!("broken.toml:{line}: field `lead_score`: minimum 0 is above maximum -5")), "{said}");
    std::fs::remove_dir_all(folder).expect("removed");
}

#[tokio::test]
async fn wrong_settings_are_refused_all_at_once() {
    let environment = [("receiver.listen", "everywhere"), ("broker.url", "http://x"), ("receiver.max_body", "1")];
    let output = run("leadline-receiver", &["--check-config"], &environment).await;
    assert!(!output.status.success());
    let report = text(&output);
    assert!(report.contains("receiver.max_body: unknown field `max_body`"), "{report}");
    assert!(report.contains("(from LEADLINE__RECEIVER__MAX_BODY)"), "{report}");
    let output = run("leadline-receiver", &["--check-config"], &environment[..2]).await;
    for finding in [
        "receiver.listen: must be ADDRESS:PORT",
        "broker.url: must begin with amqp",
        "hubspot.client_secret: is not set",
        "receiver.public_url: is not set",
    ] {
        assert!(text(&output).contains(finding), "{finding} in\n{}", text(&output));
    }
}

#[tokio::test]
async fn a_queue_with_other_arguments_is_named_and_the_service_does_not_start() {
    let namespace = TestNamespace::new(&services()).await.expect("a namespace");
    let fleet =
        Fleet::start(namespace.clone(), &FleetPlan { inferences: 0, writers: 0, ..quick() }).await.expect("a fleet");
    let changed = FleetPlan { inferences: 0, writers: 0, ..quick() }.with("broker.delivery_limit", "7");
    let refused =
        Fleet::start(namespace, &changed).await.expect_err("the queue has another delivery limit").to_string();
    assert!(
        refused.contains("`leadline.events` exists with other arguments") && refused.contains("x-delivery-limit"),
        "{refused}"
    );
    drop(fleet);
}

#[tokio::test]
async fn an_events_history_is_told_by_key_and_by_id() {
    let fleet = fleet(&quick()).await;
    contact(&fleet, 1, &[BUYER]).await;
    send_accepted(&fleet, &[note_event(1, 1)]).await;
    let story = ended_as(&fleet, &note_event(1, 1), "written", None).await;
    for name in [key(&note_event(1, 1)), story.id.to_string()] {
        let output = text(&fleet.leadline(&["event", &name]).await.expect("runs"));
        for part in ["written", "decided", "lead-qualification@", "gpt-4o-2024-08-06", "ai_budget_estimate", "50000"] {
            assert!(output.contains(part), "{part} in\n{output}");
        }
        assert!(
            !output.contains("ready for Q1 and are very excited to start.\n</crm_data>"),
            "prompts only when asked for"
        );
    }
    let prompts = text(&fleet.leadline(&["event", &key(&note_event(1, 1)), "--prompts"]).await.expect("runs"));
    assert!(prompts.contains("<crm_data>"), "{prompts}");
    let unknown = fleet.leadline(&["event", "nobody"]).await.expect("runs");
    assert!(!unknown.status.success());
}
