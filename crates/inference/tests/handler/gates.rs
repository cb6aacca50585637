//! Which version of a playbook with a gate a worker runs.

use domain::inference::Effort;
use inference::gate::{GateDecision, StandIn, asked_version, decide};
use ledger::{AskedVersion, Evaluation, EvaluationScore, Ledger, LedgerSettings};
use playbook::Playbook;
use settings::Settings;

const LEADS: &str = include_str!("../../../../deploy/playbooks/lead-qualification.toml");

fn text(description: &str) -> String {
    format!(
        "{}\n[gate]\neval = \"cases\"\nmin_hits = 0.9\n",
        LEADS.replacen("name =", &format!("# {description}\nname ="), 1)
    )
}

fn parsed(text: &str) -> Playbook {
    Playbook::parse("leads.toml", text, &[]).expect("a valid playbook")
}

async fn ledger() -> Ledger {
    let database = testbed::database().await.expect("a database");
    Ledger::connect(&LedgerSettings {
        url: database.url.clone().into(),
        application_name: "tests".to_owned(),
        max_connections: 2,
        acquire_timeout: std::time::Duration::from_secs(60),
        statement_timeout: std::time::Duration::from_secs(60),
        pool_mode: ledger::PoolMode::Session,
    })
    .expect("a URL")
}

fn settings(model: &str) -> Settings {
    let mut settings = Settings::default();
    model.clone_into(&mut settings.openai.model);
    settings
}

/// What `text` is asked with under these settings.
fn asked(settings: &Settings, text: &str) -> AskedVersion {
    let playbook = parsed(text);
    asked_version(&playbook, &inference::model_of(settings, &playbook))
}

/// Records that it has passed, as being of this file.
async fn pass(ledger: &Ledger, asked: AskedVersion, file_text: &str) {
    let evaluation = Evaluation {
        asked,
        score: EvaluationScore { cases: 5, answers: 5, hits: 5, passed: true },
        recorded_by: "ada".to_owned(),
        file_text: file_text.to_owned(),
        report: serde_json::json!({}),
    };
    ledger.record_evaluation(&evaluation).await.expect("recorded");
}

async fn decided(settings: &Settings, ledger: &Ledger, text: &str) -> GateDecision {
    decide(settings, ledger, &parsed(text), &[]).await.expect("the ledger answers")
}

#[tokio::test]
async fn a_version_runs_when_it_has_passed_and_otherwise_the_last_one_that_has() {
    let (ledger, luna) = (ledger().await, settings("gpt-6-luna"));
    let (first, second) = (text("first"), text("second"));
    let decision = decided(&luna, &ledger, &first).await;
    assert!(matches!(&decision, GateDecision::Closed { why } if why == "no version of it has passed"), "{decision:?}");

    let of_first = asked(&luna, &first);
    pass(&ledger, of_first.clone(), &first).await;
    assert!(matches!(decided(&luna, &ledger, &first).await, GateDecision::Open));

    // The file, the model or the effort has changed.
    let mut hard = settings("gpt-6-luna");
    hard.openai.effort = Some(Effort::High);
    for (settings, text) in [(&luna, &second), (&settings("gpt-4o"), &first), (&hard, &first)] {
        let decision = decided(settings, &ledger, text).await;
        let GateDecision::Behind(StandIn { playbook, passed }) = decision else { panic!("{decision:?}") };
        assert_eq!(passed.asked, of_first);
        let runs = asked_version(&playbook, &inference::model_of(settings, &playbook));
        assert_eq!(runs, of_first, "whatever the settings say of models now");
    }
    pass(&ledger, asked(&luna, &second), &second).await;
    assert!(matches!(decided(&luna, &ledger, &second).await, GateDecision::Open));
    assert!(matches!(decided(&luna, &ledger, &first).await, GateDecision::Open), "back to what has passed as well");
}

#[tokio::test]
async fn a_version_that_passed_and_cannot_run_any_more_is_not_run() {
    let (ledger, luna) = (ledger().await, settings("gpt-6-luna"));
    let (first, second) = (text("first"), text("second"));
    pass(&ledger, asked(&luna, &first), &first).await;
    let mut protects = settings("gpt-6-luna");
    protects.inference.protected_properties = vec!["lead_score".to_owned()];
    let decision = decided(&protects, &ledger, &second).await;
    assert!(matches!(&decision, GateDecision::Closed { why } if why.contains("lead_score")), "{decision:?}");

    let forged = AskedVersion { version: "000000000000".to_owned(), ..asked(&luna, &first) };
    pass(&ledger, forged, &first).await;
    let decision = decided(&luna, &ledger, &second).await;
    assert!(matches!(&decision, GateDecision::Closed { why } if why.contains("another text")), "{decision:?}");
}

#[tokio::test]
async fn only_fallbacks_that_have_passed_with_the_same_version_are_asked() {
    let (ledger, mut settings) = (ledger().await, settings("gpt-6-luna"));
    let options = "effort = \"none\"\nfallback = [\"gpt-6.1-terra\", \"gpt-4o\"]";
    let text = text("with fallbacks").replace("mode = \"schema\"", options);
    let folder = std::env::temp_dir().join(format!("leadline-gate-fallbacks-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    std::fs::write(folder.join("leads.toml"), &text).expect("written");
    settings.inference.playbooks.clone_from(&folder);
    let own = asked(&settings, &text);
    for model in ["gpt-6-luna", "gpt-4o"] {
        pass(&ledger, AskedVersion { model: model.to_owned(), ..own.clone() }, &text).await;
    }
    let playbooks = inference::wiring::load_playbooks(&settings).expect("valid");
    std::fs::remove_dir_all(&folder).expect("removed");
    assert_eq!(playbooks[0].fallbacks.len(), 2);
    let entered = inference::gate::enter(&settings, playbooks, &ledger).await;
    let models: Vec<_> = entered[0].models().map(|model| model.name.as_str()).collect();
    assert_eq!(models, ["gpt-6-luna", "gpt-4o"]);
}
