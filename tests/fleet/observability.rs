//! What operators see, and what no log may hold.

use fixtures::{ask, contact, ended_as, fleet, key, note_event, quick, send_accepted, until};
use serde_json::Value;

/// A note that no log line may hold.
const PRIVATE: &str = "Her daughter Persephone is ill; they have $50k ready for Q1 and are excited.";

#[tokio::test]
async fn nothing_secret_or_personal_reaches_a_log_line() {
    let plan = quick().with("telemetry.log_level", "debug");
    let fleet = fleet(&plan).await;
    contact(&fleet, 1, &[PRIVATE]).await;
    contact(&fleet, 2, &[PRIVATE]).await;
    let refuses = simulator::Fault::new(
        simulator::Target::Hubspot,
        simulator::FaultKind::Status { code: 403, retry_after: None },
    )
    .on_path("/contacts/batch/update")
    .containing(r#""id":"2""#);
    fleet.simulator.fault(&refuses).await.expect("set");
    send_accepted(&fleet, &[note_event(1, 1)]).await;
    ended_as(&fleet, &note_event(1, 1), "written", None).await;
    send_accepted(&fleet, &[note_event(2, 1)]).await;
    ended_as(&fleet, &note_event(2, 1), "parked", Some("missing_scope")).await;
    let known = simulator::Config::default();
    for member in &fleet.members {
        let log = member.process.log();
        assert!(log.contains("started"), "{} logs", member.process.name());
        assert!(!log.contains("asked and answered"), "prompts are logged by {}", member.process.name());
        for secret in ["Persephone", "$50k", &known.token, &known.api_key, &known.client_secret] {
            assert!(!log.contains(secret), "`{secret}` in the log of {}", member.process.name());
        }
    }
}

#[tokio::test]
async fn prompts_and_answers_are_logged_redacted_where_an_operator_wants_them() {
    let plan = quick().with("telemetry.log_prompts", "true").with("telemetry.log_format", "json");
    let fleet = fleet(&plan.with("telemetry.log_prompts_max_bytes", "20000")).await;
    let note = "They have $50k ready. Write to persephone@example.com or +49 30 1234567, key sk-proj-abcdefgh12345678.";
    contact(&fleet, 1, &[note]).await;
    send_accepted(&fleet, &[note_event(1, 1)]).await;
    let story = ended_as(&fleet, &note_event(1, 1), "written", None).await;
    let worker = &fleet.members[fleet.indices("leadline-inference")[0]].process;
    until("the line is written", async || worker.log().contains("asked and answered")).await;
    let log = worker.log();
    let lines: Vec<Value> = log.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let prompts: Vec<_> = lines.iter().filter(|line| line["target"] == "prompts").collect();
    let [line] = prompts[..] else { panic!("{} lines\n{log}", prompts.len()) };
    for (key, value) in [
        ("event_key", key(&note_event(1, 1))),
        ("trace_id", story.trace_id.expect("a trace")),
        ("playbook", "lead-qualification".to_owned()),
        ("outcome", "valid".to_owned()),
    ] {
        assert_eq!(line[key], value, "{line}");
    }
    assert!(
        !line["playbook_version"].as_str().expect("text").is_empty()
            && !line["model"].as_str().expect("text").is_empty()
    );
    let (prompt, answer) = (line["prompt"].as_str().expect("text"), line["answer"].as_str().expect("text"));
    assert!(prompt.contains("They have $50k ready. Write to [email] or [phone], key [key]."), "{prompt}");
    assert!(answer.contains("lead_score"), "{answer}");
    for secret in ["persephone", "1234567,", "abcdefgh"] {
        assert!(!log.contains(secret), "`{secret}` in\n{log}");
    }
}

#[tokio::test]
async fn health_and_metrics_are_on_every_service() {
    // HubSpot ends its support of this version on 2027-03-30.
    let fleet = fleet(&quick().with("hubspot.associations_version", "v4")).await;
    contact(&fleet, 1, &["They have $50k ready for Q1."]).await;
    send_accepted(&fleet, &[note_event(1, 1)]).await;
    ended_as(&fleet, &note_event(1, 1), "written", None).await;
    let expected = [
        ("leadline-receiver", "leadline_webhooks_total{service=\"leadline-receiver\",outcome=\"accepted\"}"),
        (
            "leadline-inference",
            "leadline_inferences_total{service=\"leadline-inference\",playbook=\"lead-qualification\",outcome=\"valid\"} 1",
        ),
        ("leadline-inference", "leadline_hubspot_ratelimit"),
        ("leadline-inference", "leadline_settings_info{service=\"leadline-inference\",of=\"playbooks\",fingerprint=\""),
        ("leadline-inference", "leadline_spend_limit_micro_dollars{service=\"leadline-inference\"} 50000000"),
        // By the conventions for GenAI, with their buckets.
        (
            "leadline-inference",
            "gen_ai_client_token_usage_bucket{service=\"leadline-inference\",gen_ai_operation_name=\"chat\"",
        ),
        ("leadline-inference", "gen_ai_token_type=\"output\",le=\"67108864\"}"),
        ("leadline-inference", "le=\"81.92\"}"),
        ("leadline-writer", "leadline_settings_info{service=\"leadline-writer\",of=\"replica\",fingerprint=\""),
        ("leadline-inference", "version=\"v4 of the associations API\"} 1806364800"),
        ("leadline-writer", "leadline_write_commands_total{service=\"leadline-writer\",state=\"written\"} 1"),
    ];
    for (service, metric) in expected {
        let member = &fleet.members[fleet.indices(service)[0]];
        let text = async |path: &str| {
            reqwest::get(format!("{}/{path}", member.admin_url)).await.expect("answers").text().await.expect("text")
        };
        let metrics = text("metrics").await;
        assert!(metrics.contains(metric), "{metric} in\n{metrics}");
        assert_eq!(text("livez").await, "alive\n");
        let ready = text("readyz").await;
        assert!(ready.contains("broker: ok"), "{ready}");
        let warning = "warning: HubSpot ends its support of v4 of the associations API on 2027-03-30";
        assert_eq!(ready.contains(warning), service != "leadline-receiver", "{service}: {ready}");
    }
    let check = fleet.leadline(&["check"]).await.expect("runs");
    let said = String::from_utf8_lossy(&check.stdout);
    assert!(check.status.success() && said.contains("set hubspot.associations_version = \"2026-09\""), "{said}");
    let raw: i64 =
        ask(&fleet, "select count(*) from inference_text where prompt::text like '%$50k%' and answer <> ''").await;
    assert_eq!(raw, 1, "prompt and answer are in the ledger");
}
