//! Which versions of a playbook have passed their gate.

use domain::{GateState, inference::Effort};
use ledger::{AskedVersion, Evaluation, EvaluationScore, GateNote, Worker};
use serde_json::json;

use crate::fixtures::{PLAYBOOK, TestLedger};

fn asked(version: &str, model: &str, effort: Effort) -> AskedVersion {
    AskedVersion { playbook: PLAYBOOK.to_owned(), version: version.to_owned(), model: model.to_owned(), effort }
}

async fn record(test: &TestLedger, asked: &AskedVersion, passed: bool) {
    let evaluation = Evaluation {
        asked: asked.clone(),
        score: EvaluationScore { cases: 5, answers: 10, hits: if passed { 10 } else { 3 }, passed },
        recorded_by: "ada".to_owned(),
        file_text: format!("the text of {}", asked.version),
        report: json!({}),
    };
    test.ledger.record_evaluation(&evaluation).await.expect("recorded");
}

#[tokio::test]
async fn only_a_passing_report_of_exactly_this_version_model_and_effort_counts() {
    let test = TestLedger::new().await;
    let first = asked("1", "gpt-6-luna", Effort::Medium);
    record(&test, &first, false).await;
    assert!(!test.ledger.has_passed(&first).await.expect("asked"));
    assert_eq!(test.ledger.last_passed(PLAYBOOK).await.expect("asked"), None);

    record(&test, &first, true).await;
    assert!(test.ledger.has_passed(&first).await.expect("asked"));
    for other in [
        asked("2", "gpt-6-luna", Effort::Medium),
        asked("1", "gpt-4o", Effort::Medium),
        asked("1", "gpt-6-luna", Effort::Low),
        AskedVersion { playbook: "churn-risk".to_owned(), ..first.clone() },
    ] {
        assert!(!test.ledger.has_passed(&other).await.expect("asked"), "{other:?}");
    }
    let second = asked("2", "gpt-4o", Effort::None);
    record(&test, &second, true).await;
    record(&test, &asked("3", "gpt-4o", Effort::None), false).await;
    let last = test.ledger.last_passed(PLAYBOOK).await.expect("asked").expect("two have passed");
    assert_eq!((last.asked, last.file_text.as_str(), last.hits), (second, "the text of 2", 10));
    // Recorded once more, it replaces nothing.
    record(&test, &first, false).await;
    assert!(test.ledger.has_passed(&first).await.expect("asked"));
    assert_eq!(test.value::<i64>("select count(*) from evaluation where version = '1'").await, 3);
}

#[tokio::test]
async fn no_report_is_changed_or_deleted_whoever_tries() {
    let test = TestLedger::new().await;
    record(&test, &asked("1", "gpt-4o", Effort::None), false).await;
    for statement in ["update evaluation set passed = true", "delete from evaluation", "truncate evaluation"] {
        let error = sqlx::query(statement).execute(&test.database).await.expect_err(statement).to_string();
        assert!(error.contains("append-only"), "{statement}: {error}");
    }
}

#[tokio::test]
async fn the_fleet_says_what_it_makes_of_a_gate_as_long_as_a_worker_runs() {
    let test = TestLedger::new().await;
    let closed = GateNote {
        wanted: asked("2", "gpt-4o", Effort::None),
        state: GateState::Closed,
        runs_version: None,
        detail: Some("no version of it has passed".to_owned()),
    };
    let behind = GateNote { state: GateState::Behind, runs_version: Some("1".to_owned()), ..closed.clone() };
    for (note, worker) in [(&closed, "a"), (&behind, "b")] {
        test.ledger.note_gate(note, &Worker(worker.to_owned())).await.expect("noted");
        let gates = test.ledger.gates().await.expect("asked");
        let said: Vec<_> = gates.iter().map(|entry| (&entry.note, entry.worker.as_str())).collect();
        assert_eq!(said, [(note, worker)]);
    }
    test.run("update playbook_gate set at = now() - interval '3 minutes'").await;
    assert!(test.ledger.gates().await.expect("asked").is_empty(), "no worker has said so lately");
}
