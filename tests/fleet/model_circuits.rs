//! A model that is away for one playbook: seen by operators, remembered over kill -9, and over when the playbook is edited.

use domain::EventState;
use fixtures::{
    BUYER, PlaybookFolder, WITHIN, ask, contact, end_event_leases, ended_as, fleet, key, note_event, quick,
    send_accepted, until,
};
use lab::{Fleet, FleetPlan};
use simulator::admin::ModelAccess;

fn plan(playbooks: &PlaybookFolder) -> FleetPlan {
    quick()
        .with("inference.playbooks", playbooks.path())
        .with("broker.max_attempts", "2")
        .with("circuit_breaker.poll_ms", "50")
        .with("circuit_breaker.probe_first_seconds", "600")
        .with("circuit_breaker.probe_max_seconds", "600")
}

fn lead_qualification(model: &str) -> String {
    include_str!("../../deploy/playbooks/lead-qualification.toml")
        .replace("mode = \"schema\"", &format!("name = \"{model}\"\nmode = \"schema\""))
}

async fn asked_of(fleet: &Fleet, model: &str) -> usize {
    let calls = fleet.simulator.calls(0).await.expect("asked");
    let is_of = |body: &str| body.contains(&format!("\"model\":\"{model}\""));
    calls.iter().filter(|call| call.path == "/v1/chat/completions" && is_of(&call.request.to_string())).count()
}

async fn paused(fleet: &Fleet, event: &serde_json::Value) {
    let story = fleet.until_event(&key(event), |state| state == EventState::Waiting, WITHIN).await.expect("waits");
    assert_eq!(story.reason.map(domain::Reason::as_str), Some("model_paused"), "{story:?}");
}

async fn page(fleet: &Fleet, path: &str) -> (u16, String) {
    let member = &fleet.members[fleet.indices("leadline-inference")[0]];
    let response = reqwest::get(format!("{}{path}", member.admin_url)).await.expect("answers");
    (response.status().as_u16(), response.text().await.expect("text"))
}

#[tokio::test]
async fn a_pause_is_shown_outlives_a_kill_and_ends_when_the_playbook_is_edited() {
    let playbooks = PlaybookFolder::new("edited", &[&lead_qualification("gpt-4o")]);
    let mut fleet = fleet(&plan(&playbooks)).await;
    for id in 1..=2 {
        contact(&fleet, id, &[BUYER]).await;
    }
    let access = ModelAccess { shut_down: vec!["gpt-4o".to_owned()], ..ModelAccess::default() };
    fleet.simulator.models(&access).await.expect("set");
    send_accepted(&fleet, &[note_event(1, 1)]).await;
    paused(&fleet, &note_event(1, 1)).await;

    let (status, readiness) = page(&fleet, "/readyz").await;
    assert_eq!(status, 200, "the worker has other work: {readiness}");
    until("readiness warns", async || {
        page(&fleet, "/readyz").await.1.contains("the playbook lead-qualification does not ask gpt-4o, model_not_found")
    })
    .await;
    until("the metric says so", async || {
        let metrics = page(&fleet, "/metrics").await.1;
        let is_gauge = |line: &&str| line.starts_with("leadline_playbook_model_paused{");
        metrics.lines().find(is_gauge).is_some_and(|line| line.contains("model=\"gpt-4o\"") && line.ends_with(" 1"))
    })
    .await;
    let status = fleet.leadline(&["status"]).await.expect("runs");
    let said = String::from_utf8_lossy(&status.stdout).into_owned();
    for part in ["models that do not answer a playbook", "lead-qualification", "gpt-4o", "model_not_found"] {
        assert!(said.contains(part), "{part} in\n{said}");
    }

    let worker = fleet.indices("leadline-inference")[0];
    fleet.members[worker].process.kill();
    end_event_leases(&fleet).await;
    let asked = asked_of(&fleet, "gpt-4o").await;
    fleet.restart(worker).expect("restarted");
    until("readiness warns again", async || page_of_restarted(&fleet).await.contains("does not ask gpt-4o")).await;
    send_accepted(&fleet, &[note_event(2, 1)]).await;
    paused(&fleet, &note_event(2, 1)).await;
    assert_eq!(asked_of(&fleet, "gpt-4o").await, asked, "it is remembered");

    // The probe is due in ten minutes: only the new version of the playbook can end the pause.
    let file = format!("{}/1.toml", playbooks.path());
    std::fs::write(file, lead_qualification("gpt-6-luna")).expect("edited");
    fleet.members[worker].process.kill();
    end_event_leases(&fleet).await;
    fleet.restart(worker).expect("restarted");
    for id in 1..=2 {
        ended_as(&fleet, &note_event(id, 1), "written", None).await;
    }
    assert_eq!(ask::<i64>(&fleet, "select count(*) from event_history where state = 'parked'").await, 0);
}

/// The worker dies after the ledger has the pause and before it has the event's decision.
#[tokio::test]
async fn an_event_whose_worker_died_while_it_paused_the_model_waits_and_is_written() {
    let playbooks = PlaybookFolder::new("killed", &[&lead_qualification("gpt-4o")]);
    let plan = plan(&playbooks).with("circuit_breaker.probe_first_seconds", "1").crashing_at("inference.after_answer");
    let mut fleet = fleet(&plan).await;
    contact(&fleet, 1, &[BUYER]).await;
    let access = ModelAccess { shut_down: vec!["gpt-4o".to_owned()], ..ModelAccess::default() };
    fleet.simulator.models(&access).await.expect("set");
    send_accepted(&fleet, &[note_event(1, 1)]).await;
    let worker = fleet.indices("leadline-inference")[0];
    while fleet.members[worker].process.still_runs().is_ok() {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    end_event_leases(&fleet).await;
    fleet.restart(worker).expect("restarted");
    paused(&fleet, &note_event(1, 1)).await;
    fleet.simulator.models(&ModelAccess::default()).await.expect("set");
    ended_as(&fleet, &note_event(1, 1), "written", None).await;
    assert_eq!(ask::<i64>(&fleet, "select count(*) from event_history where state = 'parked'").await, 0);
}

/// What `/readyz` says; nothing while the worker starts.
async fn page_of_restarted(fleet: &Fleet) -> String {
    let member = &fleet.members[fleet.indices("leadline-inference")[0]];
    match reqwest::get(format!("{}/readyz", member.admin_url)).await {
        Ok(response) => response.text().await.unwrap_or_default(),
        Err(_) => String::new(),
    }
}
