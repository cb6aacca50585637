//! Alerts, dashboard, documentation and code name the same metrics, and every alert fires when it should.
#![allow(clippy::expect_used, reason = "these are tests; their helpers too")]

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::{Value, json};
use testbed::workspace;

/// The alerts' unit tests.
const TESTS: [&str; 2] = ["deploy/prometheus/rules_test.yml", "deploy/prometheus/rules_days_test.yml"];

/// How the names of metrics begin that services record: theirs, and those of the conventions for GenAI.
const OURS: [&str; 2] = ["leadline_", "gen_ai_client_"];

fn root() -> PathBuf {
    workspace::root().expect("the workspace")
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Runs Prometheus' own tool, which `cargo xtask test` installs.
fn promtool(arguments: &[&str]) {
    let output = Command::new("promtool").args(arguments).current_dir(root()).output();
    let output = output.expect("promtool is not installed; `cargo xtask test` installs it");
    let said = [output.stdout, output.stderr].concat();
    assert!(output.status.success(), "promtool {}:\n{}", arguments.join(" "), String::from_utf8_lossy(&said));
}

/// The names in `text` that begin with one of the prefixes, without what a histogram's series add.
fn metrics_in(text: &str) -> BTreeSet<String> {
    let is_part = |character: char| character.is_ascii_lowercase() || character == '_' || character.is_ascii_digit();
    let words = text.split(|character| !is_part(character));
    let metrics =
        words.filter(|word| ["leadline_", "gen_ai_client_", "rabbitmq_"].iter().any(|prefix| word.starts_with(prefix)));
    let without_suffix = |metric: &str| {
        let histogram = ["_bucket", "_sum", "_count"].iter().find_map(|suffix| metric.strip_suffix(suffix));
        histogram.unwrap_or(metric).to_owned()
    };
    metrics.map(without_suffix).collect()
}

/// What is documented, in backticks.
fn documented() -> BTreeSet<String> {
    let text = read("docs/metrics.md");
    text.split('`').skip(1).step_by(2).flat_map(metrics_in).collect()
}

fn rust_files(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            rust_files(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

/// The metrics that the services have: the first argument of each macro.
fn recorded() -> BTreeSet<String> {
    let mut files = Vec::new();
    for krate in fs::read_dir(root().join("crates")).expect("crates").flatten() {
        rust_files(&krate.path().join("src"), &mut files);
    }
    let mut metrics = BTreeSet::new();
    for file in files {
        let text = fs::read_to_string(&file).expect("a source file");
        for call in ["counter!(", "gauge!(", "histogram!("] {
            let names =
                text.split(call).skip(1).filter_map(|rest| rest.trim_start().strip_prefix('"')?.split('"').next());
            metrics
                .extend(names.filter(|name| OURS.iter().any(|prefix| name.starts_with(prefix))).map(ToOwned::to_owned));
        }
    }
    metrics
}

/// The queries of the dashboard, with their panels' titles.
fn queries() -> Vec<(String, String)> {
    let dashboard: Value = serde_json::from_str(&read("deploy/grafana/leadline.json")).expect("JSON");
    let mut queries = Vec::new();
    for panel in dashboard["panels"].as_array().expect("panels") {
        for target in panel["targets"].as_array().into_iter().flatten() {
            let text = |value: &Value| value.as_str().expect("text").to_owned();
            queries.push((text(&panel["title"]), text(&target["expr"])));
        }
    }
    assert!(queries.len() > 30, "{} queries", queries.len());
    queries
}

/// The alerts' names, and the documentation's sections that they refer to.
fn alerts() -> Vec<(String, String)> {
    let text = read("deploy/prometheus/rules.yml");
    let of = |line: &str, key: &str| {
        line.trim_start_matches([' ', '-']).strip_prefix(key).map(|value| value.trim().to_owned())
    };
    let names = text.lines().filter_map(|line| of(line, "alert:"));
    let sections = text.lines().filter_map(|line| of(line, "runbook:"));
    let alerts: Vec<_> = names.zip(sections).collect();
    assert_eq!(alerts.len(), text.matches("- alert:").count(), "every alert has a runbook");
    alerts
}

#[test]
fn what_services_record_is_documented_and_nothing_else() {
    let ours: BTreeSet<_> =
        documented().into_iter().filter(|metric| OURS.iter().any(|prefix| metric.starts_with(prefix))).collect();
    assert_eq!(recorded(), ours);
}

#[test]
fn alerts_and_dashboard_know_no_metric_that_is_not_documented() {
    let documented = documented();
    let asked = queries().into_iter().chain([("rules.yml".to_owned(), read("deploy/prometheus/rules.yml"))]);
    for (place, query) in asked {
        let unknown: Vec<_> = metrics_in(&query).into_iter().filter(|metric| !documented.contains(metric)).collect();
        assert!(unknown.is_empty(), "{place}: {unknown:?}");
    }
}

#[test]
fn the_dashboards_queries_are_valid() {
    let rules: Vec<_> = queries().iter().map(|(_, query)| json!({"record": "valid", "expr": query})).collect();
    // Rules are YAML, and JSON is YAML. Each in a group of its own: two rules of a group may not be alike.
    let groups: Vec<_> = rules
        .into_iter()
        .enumerate()
        .map(|(index, rule)| json!({"name": index.to_string(), "rules": [rule]}))
        .collect();
    let folder = root().join("target/observability");
    fs::create_dir_all(&folder).expect("a folder");
    let file = folder.join("dashboard.yml");
    fs::write(&file, json!({"groups": groups}).to_string()).expect("written");
    promtool(&["check", "rules", "--lint=none", file.to_str().expect("text")]);
}

#[test]
fn every_alert_fires_when_it_should_and_only_then() {
    // With the rules that it names.
    promtool(&["check", "config", "deploy/prometheus/prometheus.yml"]);
    promtool(&[&["test", "rules"], &TESTS[..]].concat());
}

#[test]
fn every_alert_has_a_test_and_a_section_that_says_what_to_do() {
    let (tests, operations) = (TESTS.map(read).concat(), read("docs/operations.md"));
    let sections: BTreeSet<_> = operations.lines().filter_map(|line| line.strip_prefix("### ")).collect();
    for (alert, runbook) in alerts() {
        assert!(tests.contains(&format!("alertname: {alert}\n")), "{alert} has no test");
        let anchor = runbook.strip_prefix("docs/operations.md#").unwrap_or_else(|| panic!("{alert}: {runbook}"));
        let found = sections.iter().any(|section| section.to_lowercase() == anchor);
        assert!(found, "{alert}: docs/operations.md has no section {anchor}");
    }
}
