//! The dashboard's queries, asked of a real Prometheus that scrapes a fleet.

use std::{fs, path::PathBuf};

use lab::Fleet;
use serde_json::{Value, json};
use simulator::admin::Edit;
use testbed::{Process, free_port, workspace};

use fixtures::{BUYER, contact, ended_as, fleet, note, note_event, quick, send_accepted, until};

/// What RabbitMQ alone says. The private instance of the tests has no such plugin.
const OF_RABBITMQ: &str = "rabbitmq_";

/// A Prometheus that scrapes the members of a fleet every second. It ends, and its data go, when it is dropped.
struct Prometheus {
    url: String,
    folder: PathBuf,
    process: Process,
}

impl Prometheus {
    fn start(fleet: &Fleet) -> Self {
        let port = free_port().expect("a port");
        let folder = workspace::root().expect("the workspace").join(format!("target/prometheus-{port}"));
        fs::create_dir_all(&folder).expect("a folder");
        let targets: Vec<_> = fleet.members.iter().map(|member| member.admin_url.replace("http://", "")).collect();
        let config = json!({
            "global": {"scrape_interval": "1s"},
            "scrape_configs": [{"job_name": "leadline", "static_configs": [{"targets": targets}]}],
        });
        // YAML, as JSON is.
        fs::write(folder.join("prometheus.yml"), config.to_string()).expect("written");
        let log = folder.join("log");
        let process = Process::start("Prometheus", "prometheus".as_ref(), &log, |command| {
            command.current_dir(&folder).arg("--config.file=prometheus.yml").arg("--storage.tsdb.path=data");
            command.arg(format!("--web.listen-address=127.0.0.1:{port}"));
        });
        let process = process.expect("started");
        Self { url: format!("http://127.0.0.1:{port}"), folder, process }
    }

    /// The series that a query returns.
    async fn ask(&self, query: &str) -> Vec<Value> {
        let answer = reqwest::Client::new().get(format!("{}/api/v1/query", self.url)).query(&[("query", query)]).send();
        // Until it is up, nobody answers.
        let Ok(answer) = answer.await else { return Vec::new() };
        let answer: Value = answer.json().await.expect("JSON");
        assert_eq!(answer["status"], "success", "{query}: {answer}");
        answer["data"]["result"].as_array().cloned().unwrap_or_default()
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        self.process.kill();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// The queries of each panel, by title.
fn panels() -> Vec<(String, Vec<String>)> {
    let file = workspace::root().expect("the workspace").join("deploy/grafana/leadline.json");
    let dashboard: Value = serde_json::from_str(&fs::read_to_string(file).expect("the dashboard")).expect("JSON");
    let queries = |panel: &Value| {
        let targets = panel["targets"].as_array().into_iter().flatten();
        targets.map(|target| target["expr"].as_str().expect("a query").to_owned()).collect()
    };
    let panels = dashboard["panels"].as_array().expect("panels").iter().filter(|panel| panel["type"] != "row");
    panels.map(|panel| (panel["title"].as_str().expect("a title").to_owned(), queries(panel))).collect()
}

/// One value that is left alone.
async fn set_by_a_person(fleet: &Fleet, contact: i64) {
    let edit = Edit {
        properties: [("lead_score".to_owned(), "12".to_owned())].into(),
        source: "CRM_UI".to_owned(),
        source_id: "userId:9".to_owned(),
        announce: false,
    };
    let url = format!("{}/_simulator/objects/contact/{contact}", fleet.simulator_url());
    let answer = reqwest::Client::new().patch(url).json(&edit).send().await.expect("sent");
    answer.error_for_status().expect("edited");
}

#[tokio::test]
async fn every_panel_shows_what_a_fleet_did() {
    // HubSpot ends its support of this version, and OpenAI this model.
    let plan = quick().with("hubspot.associations_version", "v4").with("openai.model", "gpt-4o");
    // Port 1 of loopback: nothing listens there, and spans are counted.
    let fleet = fleet(&plan.with("telemetry.otlp_endpoint", "http://127.0.0.1:1")).await;
    let prometheus = Prometheus::start(&fleet);
    for n in 1..=2 {
        contact(&fleet, n, &[BUYER]).await;
        set_by_a_person(&fleet, n).await;
        send_accepted(&fleet, &[note_event(n, 1)]).await;
        ended_as(&fleet, &note_event(n, 1), "written", None).await;
        // Again: HubSpot delivers more than once.
        send_accepted(&fleet, &[note_event(n, 1)]).await;
        let seen = format!("sum(leadline_duplicates_total) >= {n} and on () sum(leadline_inferences_total) >= {n}");
        until("Prometheus has seen the event", async || !prometheus.ask(&seen).await.is_empty()).await;
    }
    // Other words, and nothing new: the answers are what is written already.
    note(&fleet, 901, 1, &BUYER.replace("They have", "They still have")).await;
    send_accepted(&fleet, &[note_event(1, 2)]).await;
    ended_as(&fleet, &note_event(1, 2), "written", None).await;
    until("Prometheus has seen that", async || !prometheus.ask("leadline_unchanged_values_total").await.is_empty())
        .await;
    let counters = r#"{__name__=~"leadline_.+_total"}[5m]"#;
    let has_two = |series: &Value| series["values"].as_array().is_some_and(|samples| samples.len() > 1);
    until("every counter has the two samples that a rate needs", async || {
        prometheus.ask(counters).await.iter().all(has_two)
    })
    .await;
    let spans = "rate(leadline_spans_total[5m])";
    until("spans are counted", async || !prometheus.ask(spans).await.is_empty()).await;
    let mut empty = Vec::new();
    for (title, queries) in panels() {
        for query in queries.into_iter().filter(|query| !query.contains(OF_RABBITMQ)) {
            if prometheus.ask(&query).await.is_empty() {
                empty.push((title.clone(), query));
            }
        }
    }
    assert!(empty.is_empty(), "queries without data: {empty:#?}");
}
