//! `leadline playbook eval`: models are compared on cases before a customer's record meets them, and a CI can rely on what it says.

use std::collections::BTreeMap;

use lab::{Fleet, FleetPlan};
use serde_json::Value;
use simulator::{Fault, FaultKind, Target};
use testbed::workspace;

use crate::playbook_command::{LEADS, no_services, playbook};
use fixtures::{PlaybookFolder, fleet, questions};

const CASES: &str = "deploy/playbooks/cases/lead-qualification";

/// What the simulator's model finds: a student gets a score of about 0.
const STUDENT: &str = "what = \"a student\"\nrecords = [{ path = \"contact\" }]\nentries = [{ kind = \"note\", \
    at = 2026-01-10T10:00:00Z, text = \"She is a student.\" }]\n[expect]\nlead_score = { at_most = 30 }\n";

/// Runs `leadline playbook eval` and gives its exit code, what it printed, and what it said beside that.
async fn eval(fleet: &Fleet, arguments: &[&str]) -> (i32, String, String) {
    let output = fleet.leadline(&[&["playbook", "eval"], arguments].concat()).await.expect("runs");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
    (output.status.code().expect("ended"), text(output.stdout), text(output.stderr))
}

#[tokio::test]
async fn eval_prints_hits_and_misses_of_the_shipped_cases() {
    let fleet = fleet(&no_services()).await;
    for name in ["lead-qualification", "churn-risk", "call-summary"] {
        let file = format!("deploy/playbooks/{name}.toml");
        let cases = format!("deploy/playbooks/cases/{name}");
        let (code, said, _) = eval(&fleet, &[&file, &cases]).await;
        assert_eq!(code, 0, "{said}");
        assert!(said.contains("expectations met") && !said.contains('✗'), "{said}");
    }
    let folder = PlaybookFolder::new("eval", &[&STUDENT.replace("at_most = 30", "at_least = 90")]);
    let (code, said, _) = eval(&fleet, &[LEADS, folder.path()]).await;
    assert!(code == 1 && said.contains('✗') && said.contains("0 of 1 expectations met"), "{code}: {said}");
    folder.write("1.toml", &STUDENT.replace("lead_score =", "leadscore ="));
    let (code, _, said) = eval(&fleet, &[LEADS, folder.path()]).await;
    assert!(code == 3 && said.contains("the playbook has no such field"), "{code}: {said}");
}

#[tokio::test]
async fn models_stand_side_by_side_with_hits_cost_time_and_tokens() {
    let fleet = fleet(&no_services()).await;
    let models = ["--model", "gpt-4o", "--model", "gpt-4.1-mini", "--repeat", "2"];
    let (code, json, said) = eval(&fleet, &[&[LEADS, CASES, "--json"], &models[..]].concat()).await;
    assert_eq!(code, 0, "{json}{said}");
    assert!(!said.contains('\u{1b}'), "no progress line where no terminal is: {said:?}");
    let report: Value = serde_json::from_str(&json).expect("JSON and nothing else");
    let cases = report["cases"].as_array().expect("cases").len();
    assert!(cases >= 5, "{json}");
    let mut billed: BTreeMap<String, i64> = BTreeMap::new();
    for charge in fleet.simulator.charges().await.expect("asked") {
        *billed.entry(charge.model).or_default() += charge.micro_dollars;
    }
    for (index, snapshot) in ["gpt-4o-2024-08-06", "gpt-4.1-mini-2025-04-14"].into_iter().enumerate() {
        let model = &report["models"][index];
        assert_eq!(model["answered_by"], serde_json::json!([snapshot]));
        assert_eq!(model["whole_cases"], serde_json::json!({"met": 2 * cases, "all": 2 * cases}));
        assert_eq!(model["fields"]["lead_score"]["all"], 2 * cases);
        assert_eq!(model["answers"].as_array().expect("answers").len(), 2 * cases);
        assert_eq!(model["cost_micro_dollars"]["total"], billed[snapshot], "what was charged");
        let (p50, p95) = (model["latency_ms"]["p50"].as_u64(), model["latency_ms"]["p95"].as_u64());
        assert!(p50.is_some() && p50 <= p95, "{model}");
        assert!(model["tokens"]["in"].as_i64() > Some(0) && model["tokens"]["out"].as_i64() > Some(0), "{model}");
    }

    let (code, table, _) = eval(&fleet, &[&[LEADS, CASES], &models[..]].concat()).await;
    assert_eq!(code, 0, "{table}");
    for part in ["gpt-4o ", "gpt-4.1-mini", "cost per case", "latency p50, p95", "tokens in (cached), out", "2/2 ✓"] {
        assert!(table.contains(part), "{part} in\n{table}");
    }
}

#[tokio::test]
async fn no_more_questions_are_under_way_than_the_flag_says() {
    let slow =
        FleetPlan { simulator_arguments: vec!["--model-latency-ms".to_owned(), "200".to_owned()], ..no_services() };
    let fleet = fleet(&slow).await;
    let most = async {
        let mut most = 0;
        loop {
            most = most.max(fleet.simulator.open_requests().await.expect("asked"));
            if questions(&fleet).await >= 4 && fleet.simulator.open_requests().await.expect("asked") == 0 {
                return most;
            }
        }
    };
    let folder = PlaybookFolder::new("concurrency", &[STUDENT, STUDENT]);
    let arguments = [LEADS, folder.path(), "--repeat", "2", "--concurrency", "2"];
    let (most, (code, said, _)) = tokio::join!(most, eval(&fleet, &arguments));
    assert_eq!((most, code), (2, 0), "{said}");
}

#[tokio::test]
async fn a_run_that_can_cost_too_much_asks_nothing() {
    let fleet = fleet(&no_services()).await;
    let run =
        async |model: &str, dollars: &str| eval(&fleet, &[LEADS, CASES, "--model", model, "--max-cost", dollars]).await;
    let (code, _, said) = run("gpt-4o", "0.0001").await;
    assert!(code == 3 && said.contains("--max-cost allows $0.000100, and the questions may cost $"), "{code}: {said}");
    let (code, _, said) = run("gpt-of-tomorrow", "5").await;
    assert!(code == 3 && said.contains("gpt-of-tomorrow has no known price"), "{code}: {said}");
    assert_eq!(questions(&fleet).await, 0);
    let (code, _, said) = run("gpt-4o", "1").await;
    assert_eq!(code, 0, "{said}");
}

#[tokio::test]
async fn a_case_without_an_answer_is_no_hit_and_no_miss() {
    let fleet = fleet(&no_services()).await;
    let folder = PlaybookFolder::new("away", &[STUDENT, &STUDENT.replace("She is", "Away: she is")]);
    let refused =
        Fault::new(Target::Openai, FaultKind::Status { code: 400, retry_after: None }).containing("Away: she");
    fleet.simulator.fault(&refused).await.expect("set");
    let junit = folder.file("junit.xml");
    let (code, json, _) = eval(&fleet, &[LEADS, folder.path(), "--json", "--junit", &junit]).await;
    let report: Value = serde_json::from_str(&json).expect("JSON");
    let model = &report["models"][0];
    assert_eq!((code, &report["verdict"], &model["failures"]), (3, &"undecided".into(), &1.into()), "{json}");
    assert_eq!(model["expectations"], serde_json::json!({"met": 1, "all": 1}), "{json}");
    assert!(model["answers"][1]["failure"].as_str().is_some_and(|why| why.contains("400")), "{json}");
    let xml = folder.read("junit.xml");
    assert!(xml.contains("tests=\"2\" failures=\"0\" errors=\"1\""), "{xml}");

    let declines = Fault::new(Target::Openai, FaultKind::Refusal);
    fleet.simulator.fault(&declines).await.expect("set");
    let (code, said, _) = eval(&fleet, &[LEADS, folder.path(), "--junit", &junit]).await;
    assert_eq!(code, 3, "{said}");
    assert!(said.contains("✗ the model declined to answer"), "a refusal is an answer, and a miss: {said}");
    let xml = folder.read("junit.xml");
    assert!(xml.contains("tests=\"2\" failures=\"1\" errors=\"1\""), "{xml}");
}

#[tokio::test]
async fn a_baseline_holds_what_was_reached_and_fails_closed() {
    let fleet = fleet(&no_services()).await;
    let cases = PlaybookFolder::new("baseline-cases", &[STUDENT, STUDENT]);
    let results = PlaybookFolder::new("baseline", &[]);
    let baseline = results.file("baseline.json");
    let compare = async |more: &[&str]| {
        let arguments = [&[LEADS, cases.path(), "--model", "gpt-4o", "--baseline", &baseline], more].concat();
        eval(&fleet, &arguments).await
    };
    let (code, _, said) = compare(&[]).await;
    assert!(code == 3 && said.contains("baseline.json") && said.contains("cannot be read"), "{code}: {said}");
    results.write("baseline.json", "{\"models\": ");
    let (code, _, said) = compare(&[]).await;
    assert!(code == 3 && said.contains("is no JSON"), "{code}: {said}");
    assert_eq!(questions(&fleet).await, 0, "nothing is paid for what cannot be compared");

    let (code, json, said) = eval(&fleet, &[LEADS, cases.path(), "--model", "gpt-4o", "--json"]).await;
    assert_eq!(code, 0, "{said}");
    results.write("baseline.json", &json);
    let (code, said, _) = compare(&[]).await;
    assert!(code == 0 && said.contains("nothing fell by more than 0 percentage points"), "{code}: {said}");

    // One of two cases is missed now: the simulated model declines once.
    let decline_once = async || {
        fleet.simulator.fault(&Fault::new(Target::Openai, FaultKind::Refusal).times(1)).await.expect("set");
    };
    decline_once().await;
    let junit = results.file("junit.xml");
    let (code, said, _) = compare(&["--max-drop", "49.9", "--junit", &junit]).await;
    assert!(code == 1 && said.contains("expectations met fell from 100.0 % to 50.0 %"), "{code}: {said}");
    assert!(results.read("junit.xml").contains("<testsuite name=\"baseline\" tests=\"1\" failures=\"1\""));
    decline_once().await;
    let (code, said, _) = compare(&["--max-drop", "50"]).await;
    assert_eq!(code, 0, "{said}");

    let before = questions(&fleet).await;
    cases.write("3.toml", STUDENT);
    cases.write("2.toml", &format!("# changed\n{STUDENT}"));
    let (code, _, said) = compare(&["--max-drop", "100"]).await;
    assert!(
        code == 3 && said.contains("it has no case 3.toml") && said.contains("the case 2.toml has changed"),
        "{said}"
    );
    let other = [LEADS, cases.path(), "--baseline", &baseline, "--model", "gpt-4.1-mini"];
    let (code, _, said) = eval(&fleet, &other).await;
    assert!(code == 3 && said.contains("it has no results of gpt-4.1-mini; --baseline-model names one"), "{said}");
    assert_eq!(questions(&fleet).await, before);
}

/// The recipe in docs/evaluation.md, with its files in a folder of the test.
#[tokio::test]
async fn the_recipe_for_a_ci_does_what_the_page_says() {
    let page = workspace::root().expect("the workspace").join("docs/evaluation.md");
    let page = std::fs::read_to_string(page).expect("there");
    let (_, rest) = page.split_once("```sh\n").expect("the page shows it");
    let (recipe, _) = rest.split_once("```").expect("its end");
    let fleet = fleet(&no_services()).await;
    let folder = PlaybookFolder::new("recipe", &[]);
    let commands = recipe.replace("\\\n", " ");
    let commands: Vec<&str> = commands.lines().filter(|line| line.starts_with("leadline ")).collect();
    assert_eq!(commands.len(), 2, "{recipe}");
    for command in commands {
        let (command, output) =
            command.split_once('>').map_or((command, None), |(command, file)| (command, Some(file.trim())));
        let here: Vec<_> =
            command.split_whitespace().skip(1).map(|word| word.replace("ci/", &folder.file(""))).collect();
        let run = fleet.leadline(&here.iter().map(String::as_str).collect::<Vec<_>>()).await.expect("runs");
        let said = String::from_utf8_lossy(&run.stderr).into_owned();
        assert!(run.status.success(), "{command}: {}{said}", String::from_utf8_lossy(&run.stdout));
        if let Some(file) = output {
            folder.write(file.trim_start_matches("ci/"), &String::from_utf8(run.stdout).expect("UTF-8"));
        }
    }
    assert!(folder.read("junit.xml").contains("<testsuite name=\"baseline\" tests=\"1\" failures=\"0\""));
    // The page's list of keys is complete.
    let report: Value = serde_json::from_str(&folder.read("baseline.json")).expect("JSON");
    let model = &report["models"][0];
    for object in [&report, model, &model["answers"][0], &model["answers"][0]["checks"][0]] {
        for key in object.as_object().expect("an object").keys() {
            assert!(page.contains(&format!("`{key}`")), "{key} is not on the page");
        }
    }
}

#[tokio::test]
async fn what_a_model_refuses_is_said_before_anything_is_asked() {
    let fleet = fleet(&no_services()).await;
    let shipped = include_str!("../../deploy/playbooks/lead-qualification.toml");
    let playbooks = PlaybookFolder::new("refused", &[&shipped.replace("mode = \"schema\"", "temperature = 0.0")]);
    let (code, _, said) =
        eval(&fleet, &[&playbooks.file("1.toml"), CASES, "--model", "gpt-4o", "--model", "gpt-6-luna"]).await;
    assert!(code == 3 && said.contains("gpt-6-luna takes no temperature when it reasons"), "{code}: {said}");
    assert_eq!(questions(&fleet).await, 0);
    let (good, said) = playbook(&fleet, &["eval", LEADS, CASES, "--max-drop", "5"]).await;
    assert!(!good && said.contains("--baseline"), "{said}");
}
