//! What is wrong is said before anything starts, all of it at once.

use std::process::Output;

use domain::EventState;
use lab::FleetPlan;
use serde_json::Value;
use simulator::{
    Fault, FaultKind, Target,
    admin::{ModelAccess, Quirks},
};
use testbed::workspace;
use tokio::io::{AsyncBufReadExt, BufReader};

use fixtures::{
    BUYER, PlaybookFolder, contact, ended_as, fleet, key, note, note_event, object, pipeline, questions, send_accepted,
};

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[tokio::test]
async fn check_finds_everything_that_is_wrong_at_once() {
    let fleet = fleet(&FleetPlan { receivers: 0, inferences: 0, writers: 0, ..pipeline() }).await;
    let good = fleet.leadline(&["check"]).await.expect("runs");
    assert!(good.status.success(), "{}", text(&good));

    let quirks = Quirks { missing_properties: vec!["ai_lead_summary".to_owned()], ..Quirks::default() };
    fleet.simulator.quirks(&quirks).await.expect("set");
    let portal = lab::fleet::variable("hubspot.portal_id");
    let mut environment: Vec<_> = fleet.operator_environment().to_vec();
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

/// Facts about a model may be out of date; only a question says what it takes.
#[tokio::test]
async fn check_asks_each_playbooks_models_and_says_what_they_refuse() {
    let playbook = include_str!("../../deploy/playbooks/lead-qualification.toml")
        .replace("mode = \"schema\"", "fallback = [\"gpt-6.1-terra\"]\nmode = \"schema\"");
    let playbooks = PlaybookFolder::new("check-questions", &[&playbook]);
    let plan = FleetPlan { receivers: 0, inferences: 0, writers: 0, ..pipeline() };
    let fleet = fleet(&plan.with("inference.playbooks", playbooks.path())).await;
    let good = fleet.leadline(&["check"]).await.expect("runs");
    assert!(good.status.success(), "{}", text(&good));
    assert!(text(&good).contains("OpenAI question: gpt-6.1-terra answers lead-qualification"), "{}", text(&good));
    assert_eq!(questions(&fleet).await, 2, "one of each model");

    let refused = vec!["reasoning_effort".to_owned()];
    fleet.simulator.models(&ModelAccess { refused_parameters: refused, ..ModelAccess::default() }).await.expect("set");
    let bad = fleet.leadline(&["check"]).await.expect("runs");
    assert!(!bad.status.success());
    for model in ["gpt-6-luna", "gpt-6.1-terra"] {
        let said =
            format!("lead-qualification: {model} refuses `reasoning_effort`, which comes from `effort` in [model]");
        assert!(text(&bad).contains(&said), "{said} in\n{}", text(&bad));
    }
    let unasked = fleet.leadline(&["check", "--no-questions"]).await.expect("runs");
    assert!(unasked.status.success(), "{}", text(&unasked));

    let forbidden = vec!["gpt-6.1-terra".to_owned()];
    fleet.simulator.models(&ModelAccess { forbidden, ..ModelAccess::default() }).await.expect("set");
    let bad = text(&fleet.leadline(&["check"]).await.expect("runs"));
    assert!(bad.contains("this API key may not use gpt-6.1-terra") && bad.contains("1 problems found"), "{bad}");
}

#[tokio::test]
async fn an_events_history_is_told_by_key_and_by_id() {
    let fleet = fleet(&pipeline()).await;
    contact(&fleet, 1, &[BUYER]).await;
    send_accepted(&fleet, &[note_event(1, 1)]).await;
    let story = ended_as(&fleet, &note_event(1, 1), "written", None).await;
    for name in [key(&note_event(1, 1)), story.id.to_string()] {
        let output = text(&fleet.leadline(&["event", &name]).await.expect("runs"));
        for part in
            ["written", "decided", "lead-qualification@", "gpt-6-luna-2026-10-26", "ai_budget_estimate", "50000"]
        {
            assert!(output.contains(part), "{part} in\n{output}");
        }
        assert!(!output.contains("</crm_data"), "prompts only when asked for");
    }
    let prompts = text(&fleet.leadline(&["event", &key(&note_event(1, 1)), "--prompts"]).await.expect("runs"));
    assert!(prompts.contains("<crm_data "), "{prompts}");
    let unknown = fleet.leadline(&["event", "unknown"]).await.expect("runs");
    assert!(!unknown.status.success());
}

/// What a person wrote takes over no terminal.
#[tokio::test]
async fn nothing_that_people_wrote_controls_the_operators_terminal() {
    let fleet = fleet(&pipeline()).await;
    let attack = "\u{1b}]0;pwned\u{7}\u{9b}2J\u{202e}gpj.exe\nstate     written";
    object(&fleet, "contact", 1, &[("firstname", attack), ("ai_lead_summary", attack)], &[]).await;
    note(&fleet, 500, 1, &format!("{attack} {BUYER}")).await;
    send_accepted(&fleet, &[note_event(1, 1)]).await;
    ended_as(&fleet, &note_event(1, 1), "written", None).await;
    let output = text(&fleet.leadline(&["event", &key(&note_event(1, 1)), "--prompts"]).await.expect("runs"));
    assert!(output.contains("\\u{1b}]0;pwned\\u{7}"), "shown as escapes:\n{output}");
    let acts = |character: char| character.is_control() && character != '\n' || character == '\u{202e}';
    assert!(!output.contains(acts), "{output:?}");
    assert_eq!(output.lines().filter(|line| line.starts_with("state     ")).count(), 1, "{output}");

    let strange = fleet.leadline(&["event", attack]).await.expect("runs");
    assert!(!text(&strange).contains(acts), "{strange:?}");
}

/// Runs a command that prints JSON.
async fn json(fleet: &lab::Fleet, arguments: &[&str]) -> Value {
    let output = fleet.leadline(arguments).await.expect("runs");
    assert!(output.status.success(), "{arguments:?}: {}", text(&output));
    serde_json::from_slice(&output.stdout).expect("JSON and nothing else")
}

/// One event that is written, and one that is parked.
async fn two_ends() -> lab::Fleet {
    let fleet = fleet(&pipeline()).await;
    for id in [1, 2] {
        contact(&fleet, id, &[BUYER]).await;
    }
    send_accepted(&fleet, &[note_event(1, 1)]).await;
    ended_as(&fleet, &note_event(1, 1), "written", None).await;
    fleet.simulator.fault(&Fault::new(Target::Openai, FaultKind::Refusal).times(1)).await.expect("set");
    send_accepted(&fleet, &[note_event(2, 1)]).await;
    ended_as(&fleet, &note_event(2, 1), "parked", Some("refused")).await;
    fleet
}

#[tokio::test]
async fn events_are_found_by_record_state_reason_and_playbook() {
    let fleet = two_ends().await;
    let listed = text(&fleet.leadline(&["events"]).await.expect("runs"));
    let (written, parked) = (key(&note_event(1, 1)), key(&note_event(2, 1)));
    assert!(listed.starts_with("SINCE  STATE "), "{listed}");
    let line = |key: &str| listed.lines().position(|line| line.ends_with(key));
    assert!(line(&parked).is_some() && line(&parked) < line(&written), "the newest first:\n{listed}");
    for filter in [["--state", "parked"], ["--reason", "refused"], ["--record", "contact/2"]] {
        let found = json(&fleet, &[&["events", "--json"], &filter[..]].concat()).await;
        let newest = &found[0];
        assert_eq!(
            (newest["event_key"].as_str(), newest["state"].as_str()),
            (Some(&*parked), Some("parked")),
            "{filter:?}"
        );
        assert_eq!(
            (newest["record"].as_str(), newest["playbooks"].as_str()),
            (Some("contact/2"), Some("lead-qualification"))
        );
    }
    let of_playbook =
        json(&fleet, &["events", "--playbook", "lead-qualification", "--state", "written", "--json"]).await;
    assert_eq!(of_playbook.as_array().map(Vec::len), Some(1));
    assert_eq!(of_playbook[0]["event_key"], *written);
    let limited = fleet.leadline(&["events", "--limit", "1", "--since", "1h", "--json"]).await.expect("runs");
    let newest: Value = serde_json::from_slice(&limited.stdout).expect("JSON and nothing else");
    assert_eq!(newest.as_array().map(Vec::len), Some(1));
    assert!(String::from_utf8_lossy(&limited.stderr).contains("these are the newest 1"), "{}", text(&limited));
    let none = text(&fleet.leadline(&["events", "--playbook", "other"]).await.expect("runs"));
    assert!(none.contains("the ledger has no such event"), "{none}");
}

#[tokio::test]
async fn events_are_followed_from_claim_to_end_until_the_reader_has_gone() {
    let fleet = two_ends().await;
    let mut following = tokio::process::Command::new(workspace::binaries().expect("built").join("leadline"))
        .args(["events", "--follow", "--json", "--record", "contact/1"])
        .envs(fleet.operator_environment().iter().cloned())
        .current_dir(workspace::root().expect("the workspace"))
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("runs");
    let mut lines = BufReader::new(following.stdout.take().expect("piped")).lines();
    let mut next = async || -> Value {
        let line = tokio::time::timeout(fixtures::WITHIN, lines.next_line()).await.expect("in time");
        serde_json::from_str(&line.expect("read").expect("a line")).expect("JSON")
    };
    assert_eq!(next().await["state"], "written", "what was there before");
    send_accepted(&fleet, &[note_event(2, 2), note_event(1, 2)]).await;
    let mut states = Vec::new();
    loop {
        let change = next().await;
        assert_eq!(change["record"], "contact/1", "no other record's");
        // What the fleet itself wrote to the contact comes back as events, too.
        if change["event_key"] != *key(&note_event(1, 2)) {
            continue;
        }
        let state = change["state"].as_str().expect("a name").to_owned();
        let is_final = EventState::parse(&state).is_some_and(EventState::is_final);
        states.push(state);
        if is_final {
            break;
        }
    }
    assert_eq!(states.first().map(String::as_str), Some("claimed"), "{states:?}");
    drop(lines);
    send_accepted(&fleet, &[note_event(1, 3)]).await;
    let ended =
        tokio::time::timeout(fixtures::WITHIN, following.wait()).await.expect("it ends by itself").expect("ended");
    assert!(ended.success(), "quietly: {ended}");
}

#[tokio::test]
async fn top_prints_once_what_one_sees_live_and_status_prints_json() {
    let fleet = two_ends().await;
    let once = text(&fleet.leadline(&["top", "--once"]).await.expect("runs"));
    for part in [
        "no event is unfinished",
        "leadline.events.parked",
        "hubspot/9876543/10s",
        "refused",
        "the slowest events that ended within the last ten minutes",
        "lead-qualification",
        "CHANGE A MINUTE",
    ] {
        assert!(once.contains(part), "{part} in\n{once}");
    }
    let top = json(&fleet, &["top", "--once", "--json"]).await;
    assert!(top["slowest_events"].as_array().is_some_and(|rows| rows.len() >= 2), "{top}");
    assert!(top["cost_today"][0]["inferences"].as_i64() >= Some(1), "{top}");
    let status = json(&fleet, &["status", "--json"]).await;
    assert_eq!(status["oldest_unfinished_seconds"], 0);
    assert_eq!(status["parked"][0]["reason"], "refused");
    let parked = json(&fleet, &["parked", "list", "--json"]).await;
    assert_eq!(
        (parked[0]["reason"].as_str(), parked[0]["id"].as_str()),
        (Some("refused"), Some(&*key(&note_event(2, 1))))
    );
    let shown = json(&fleet, &["parked", "show", &key(&note_event(2, 1)), "--json"]).await;
    assert_eq!(shown[0]["event"]["state"], "parked");
    let story = json(&fleet, &["event", &key(&note_event(1, 1)), "--json"]).await;
    assert_eq!((story["state"].as_str(), story["prompts"].is_null()), (Some("written"), true));
    assert!(story["writes"].as_array().is_some_and(|rows| !rows.is_empty()), "{story}");
    let lost = json(&fleet, &["reconcile", "--json"]).await;
    assert_eq!(lost.as_array().map(Vec::len), Some(0));
    let checked = json(&fleet, &["check", "--json"]).await;
    assert!(checked.as_array().is_some_and(|rows| rows.iter().all(|row| row["finding"] != "problem")), "{checked}");
}
