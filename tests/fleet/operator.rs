//! What is wrong is said before anything starts, all of it at once.

use std::process::Output;

use lab::{Fleet, FleetPlan};
use testbed::{Role, TestNamespace, workspace};

use fixtures::{PlaybookFolder, quick, services};

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

async fn run(program: &str, arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    let environment = environment.iter().map(|(key, value)| (lab::fleet::variable(key), (*value).to_owned()));
    run_with(program, arguments, environment.collect()).await
}

async fn run_with(program: &str, arguments: &[&str], environment: Vec<(String, String)>) -> Output {
    let path = workspace::binaries().expect("built").join(program);
    let mut command = tokio::process::Command::new(path);
    command.args(arguments).envs(environment).current_dir(workspace::root().expect("the workspace"));
    tokio::time::timeout(std::time::Duration::from_secs(20), command.output()).await.expect("ends").expect("runs")
}

#[tokio::test]
async fn a_wrong_playbook_is_refused_at_start_with_file_and_line() {
    let shipped = include_str!("../../deploy/playbooks/lead-qualification.toml");
    let folder = PlaybookFolder::new("wrong-playbook", &[&shipped.replace("maximum = 100\n", "maximum = -5\n")]);
    let line = shipped.lines().position(|line| line == "name = \"lead_score\"").expect("there") + 1;
    let environment = [
        ("inference.playbooks", folder.path()),
        ("hubspot.token", "t"),
        ("hubspot.app_id", "1"),
        ("hubspot.portal_id", "1"),
        ("openai.api_key", "k"),
        ("admin.listen", "127.0.0.1:0"),
    ];
    let output = run("leadline-inference", &[], &environment).await;
    assert!(!output.status.success());
    let said = text(&output);
    assert!(said.contains(&format!("1.toml:{line}: field `lead_score`: minimum 0 is above maximum -5")), "{said}");
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

/// The settings of a receiver of this fleet, with one of its own.
fn receiver_with(fleet: &Fleet, key: &str, value: &str) -> Vec<(String, String)> {
    let mut environment = fleet.environment_of(Role::Receiver).expect("settings");
    for (key, value) in [("receiver.listen", "127.0.0.1:0"), ("admin.listen", "127.0.0.1:0"), (key, value)] {
        environment.push((lab::fleet::variable(key), value.to_owned()));
    }
    environment
}

#[tokio::test]
async fn a_queue_with_other_arguments_is_named_and_neither_migrated_nor_used() {
    let namespace = TestNamespace::new(&services()).await.expect("a namespace");
    let fleet = Fleet::start(namespace, &FleetPlan { inferences: 0, writers: 0, ..quick() }).await.expect("a fleet");
    let mut changed = fleet.environment_of(Role::Owner).expect("settings");
    changed.push((lab::fleet::variable("broker.delivery_limit"), "7".to_owned()));
    let refused = run_with("leadline", &["migrate"], changed).await;
    assert!(!refused.status.success());
    let said = text(&refused);
    assert!(
        said.contains("`leadline.events` exists with other arguments") && said.contains("x-delivery-limit"),
        "{said}"
    );

    let refused = run_with("leadline-receiver", &[], receiver_with(&fleet, "broker.delivery_limit", "7")).await;
    assert!(!refused.status.success());
    let said = text(&refused);
    let expected = "the queue `leadline.events` was not declared with broker.delivery_limit = 7";
    assert!(said.contains(expected) && said.contains("leadline migrate"), "{said}");
}

#[tokio::test]
async fn a_missing_queue_is_named_and_the_service_does_not_start() {
    let namespace = TestNamespace::new(&services()).await.expect("a namespace");
    let fleet = Fleet::start(namespace, &FleetPlan { inferences: 0, writers: 0, ..quick() }).await.expect("a fleet");
    let later = receiver_with(&fleet, "broker.retry_delays_seconds", "1,2,77");
    let refused = run_with("leadline-receiver", &[], later).await;
    assert!(!refused.status.success());
    let said = text(&refused);
    assert!(said.contains("RabbitMQ has no `leadline.events.retry.77s`: run `leadline migrate`"), "{said}");
}
