//! A version that is held back is reviewed by a worker that runs, and by one that starts.

use std::time::Duration;

use domain::{DriftRate, Rate, review::WriteMode};
use ledger::{Drift, Worker};

use crate::fixtures::{handler, note_event};

#[tokio::test]
async fn what_a_version_asks_for_is_reviewed_until_it_is_resumed() {
    let (handler, ledger) = handler().await;
    let started = handler.playbooks.started_by(&note_event(1)).expect("no condition fails");
    let playbook = &started[0].playbook;
    let place = (playbook.name.as_str(), playbook.version.as_str());
    let hold = async |version: &str| {
        let from = ledger.drift_counted_from(place, Duration::from_secs(60)).await.expect("asked");
        let (playbook, version, model) = (playbook.name.clone(), version.to_owned(), None);
        let (kind, rate) = (DriftRate::Refused, Rate::of(30, 60));
        let drift = Drift { playbook, version, model, kind, rate, bound_percent: 10.0 };
        assert!(ledger.hold_back(&drift, from, &Worker::named("another")).await.expect("recorded"));
    };
    let mode = async || handler.held_back.least_mode(playbook).await.expect("known");

    hold(place.1).await;
    assert_eq!(mode().await, WriteMode::Review, "a worker that has just started");
    let warning = format!("in review: {}@{}: 30 of 60 refused, more than 10 %", place.0, place.1);
    assert_eq!(handler.held_back.warning(), Some(warning));

    assert!(ledger.resume(place, "ada", "seen").await.expect("resumed"));
    handler.held_back.refresh().await.expect("asked");
    assert_eq!((mode().await, handler.held_back.warning()), (WriteMode::Live, None));
    hold("of another file").await;
    handler.held_back.refresh().await.expect("asked");
    assert_eq!(mode().await, WriteMode::Live, "another version");
    hold(place.1).await;
    handler.held_back.refresh().await.expect("asked");
    assert_eq!(mode().await, WriteMode::Review, "once more");
}
