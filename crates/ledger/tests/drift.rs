//! Which versions of a playbook are held back.

use std::time::Duration;

use domain::{DriftRate, Rate};
use ledger::Drift;
use time::OffsetDateTime;

use crate::fixtures::{PLAYBOOK, TestLedger, worker};

const WINDOW: Duration = Duration::from_secs(7 * 24 * 3_600);

fn drift(version: &str, kind: DriftRate) -> Drift {
    Drift {
        playbook: PLAYBOOK.to_owned(),
        version: version.to_owned(),
        model: None,
        kind,
        rate: Rate::of(40, 80),
        bound_percent: 12.5,
    }
}

async fn counted_from(test: &TestLedger, version: &str) -> OffsetDateTime {
    test.ledger.drift_counted_from((PLAYBOOK, version), WINDOW).await.expect("asked")
}

async fn held(test: &TestLedger, drift: &Drift, from: OffsetDateTime) -> bool {
    test.ledger.hold_back(drift, from, &worker("a")).await.expect("recorded")
}

async fn known(test: &TestLedger) -> Vec<Drift> {
    test.ledger.held_back().await.expect("asked").into_iter().map(|entry| entry.drift).collect()
}

#[tokio::test]
async fn a_version_is_held_back_once_for_each_rate_until_it_is_resumed() {
    let test = TestLedger::new().await;
    let from = counted_from(&test, "1").await;
    let (refused, parked) = (drift("1", DriftRate::Refused), drift("1", DriftRate::Parked));
    assert!(held(&test, &refused, from).await && held(&test, &parked, from).await);
    let again = Drift { rate: Rate::of(80, 80), model: Some("gpt".to_owned()), ..refused.clone() };
    assert!(!held(&test, &again, from).await, "it is for this rate");
    assert_eq!(known(&test).await, [parked.clone(), refused.clone()]);

    let resume = async |version: &str| test.ledger.resume((PLAYBOOK, version), "ada", "the prompt is mended").await;
    assert!(!resume("2").await.expect("asked"), "another version");
    assert!(resume("1").await.expect("resumed"));
    assert!(!resume("1").await.expect("asked"), "it is not held back any more");
    assert_eq!(known(&test).await, []);
    let decided = "select string_agg(resumed_by || ': ' || why, ', ') from drift";
    assert_eq!(test.value::<String>(decided).await, "ada: the prompt is mended, ada: the prompt is mended");
}

#[tokio::test]
async fn what_was_counted_before_a_version_was_resumed_does_not_hold_it_back_again() {
    let test = TestLedger::new().await;
    let before = counted_from(&test, "1").await;
    let refused = drift("1", DriftRate::Refused);
    assert!(held(&test, &refused, before).await);
    assert!(test.ledger.resume((PLAYBOOK, "1"), "ada", "seen").await.expect("resumed"));
    assert!(!held(&test, &refused, before).await, "a check that began before");
    let after = counted_from(&test, "1").await;
    let resumed_at: OffsetDateTime = test.value("select resumed_at from drift").await;
    assert_eq!(after, resumed_at, "only what is answered from then on counts");
    let an_hour = time::Duration::hours(1);
    assert!((counted_from(&test, "2").await - before).abs() < an_hour, "of another version all of the window");
    assert!(held(&test, &refused, after).await, "it has left its bound anew");
}

#[tokio::test]
async fn the_ledger_knows_which_of_the_versions_that_are_held_back_are_in_use() {
    let test = TestLedger::new().await;
    let from = counted_from(&test, "1").await;
    for version in ["1", "2"] {
        assert!(held(&test, &drift(version, DriftRate::Parked), from).await);
    }
    test.run("update drift set used_at = now() - interval '3 minutes'").await;
    test.ledger.note_held_versions_in_use(&[(PLAYBOOK.to_owned(), "2".to_owned())]).await.expect("noted");
    let entries = test.ledger.held_back().await.expect("asked");
    let used: Vec<_> = entries.iter().map(|entry| (entry.drift.version.as_str(), entry.is_used)).collect();
    assert_eq!(used, [("1", false), ("2", true)]);
}
