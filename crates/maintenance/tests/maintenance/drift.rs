//! A version of a playbook whose rates leave their bounds is held back, by one worker of the fleet.

use std::{collections::BTreeMap, time::Duration};

use domain::DriftRate;
use ledger::{Drift, Ledger, LedgerSettings, PoolMode, Worker};
use maintenance::{UsedVersion, check_drift, run_drift_checks};
use settings::DriftSection;
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use tokio_util::sync::CancellationToken;

/// Longer than any test takes.
const WITHIN: Duration = Duration::from_secs(60);

const SETTINGS: DriftSection = DriftSection {
    enabled: true,
    interval_seconds: 1,
    window_hours: 24,
    min_sample: 50,
    max_overridden_percent: 10.0,
    max_refused_percent: 10.0,
    max_unverified_percent: 10.0,
    max_parked_percent: 10.0,
};

struct Fixture {
    ledger: Ledger,
    owner: PgConnection,
}

async fn fixture() -> Fixture {
    let url = testbed::database().await.expect("a database").url;
    let settings = LedgerSettings {
        url: url.clone().into(),
        application_name: "tests".to_owned(),
        max_connections: 4,
        acquire_timeout: WITHIN,
        statement_timeout: WITHIN,
        pool_mode: PoolMode::Session,
    };
    let owner = PgConnection::connect(&url).await.expect("Postgres");
    Fixture { ledger: Ledger::connect(&settings).expect("a URL"), owner }
}

impl Fixture {
    /// Questions of version `1` of `leads`, so many of which the model declined.
    async fn asked(&mut self, model: &str, (refused, all): (i32, i32), age: &str) {
        let statements = format!(
            "set session_replication_role = replica;
             insert into inference (id, event_id, portal_id, object_type, object_id, playbook, playbook_version, model_requested, model,
                                    outcome, prompt_tokens, cached_tokens, completion_tokens, latency_ms, attempt, created_at)
             select gen_random_uuid(), gen_random_uuid(), 1, '0-1', n, 'leads', '1', '{model}', '{model}',
                    case when n <= {refused} then 'refused' else 'valid' end, 1, 0, 1, 1, 1, now() - interval '{age}'
             from generate_series(1, {all}) as n"
        );
        sqlx::raw_sql(AssertSqlSafe(statements)).execute(&mut self.owner).await.expect("inserted");
    }

    /// Waits until a version is held back.
    async fn held_back(&self) {
        let held = async {
            while self.ledger.held_back().await.expect("asked").is_empty() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(WITHIN, held).await.expect("held back");
    }

    /// What a check finds out, as text.
    async fn found(&self) -> Vec<String> {
        let worker = Worker("a".to_owned());
        let drifts = check_drift(&self.ledger, &SETTINGS, &version(BTreeMap::new()), &worker).await.expect("checked");
        drifts.iter().map(Drift::to_string).collect()
    }
}

fn version(bounds: BTreeMap<DriftRate, f64>) -> UsedVersion {
    UsedVersion { playbook: "leads".to_owned(), version: "1".to_owned(), bounds }
}

fn used() -> Vec<UsedVersion> {
    vec![version(BTreeMap::new())]
}

#[tokio::test]
async fn a_rate_leaves_its_bound_when_neither_a_small_sample_nor_chance_explains_it() {
    let mut fixture = fixture().await;
    fixture.asked("gpt", (30, 30), "2 days").await;
    fixture.asked("gpt", (20, 40), "1 hour").await;
    assert_eq!(fixture.found().await, Vec::<String>::new(), "40 answers are few, and what is older does not count");
    fixture.asked("gpt", (0, 120), "1 hour").await;
    assert_eq!(fixture.found().await, Vec::<String>::new(), "20 of 160 may be chance");
    fixture.asked("gpt", (20, 40), "1 hour").await;
    let said = "leads@1: 40 of 200 refused, more than 10 %";
    assert_eq!(fixture.found().await, [said]);
    assert_eq!(fixture.found().await, Vec::<String>::new(), "it is held back already");
    let held = fixture.ledger.held_back().await.expect("asked");
    assert_eq!(held.iter().map(|entry| entry.drift.to_string()).collect::<Vec<_>>(), [said]);
    assert_eq!(held[0].drift.kind, DriftRate::Refused);
}

#[tokio::test]
async fn a_snapshot_that_is_worse_than_the_others_is_seen_among_their_answers() {
    let mut fixture = fixture().await;
    fixture.asked("old", (0, 1_000), "1 hour").await;
    fixture.asked("new", (30, 60), "1 hour").await;
    assert_eq!(fixture.found().await, ["leads@1: 30 of 60 refused with new, more than 10 %"]);
}

#[tokio::test]
async fn the_bound_of_a_playbook_is_used_in_place_of_that_of_the_settings() {
    let mut fixture = fixture().await;
    fixture.asked("gpt", (20, 60), "1 hour").await;
    let check = async |bound| {
        let used = version(BTreeMap::from([(DriftRate::Refused, bound)]));
        check_drift(&fixture.ledger, &SETTINGS, &used, &Worker("a".to_owned())).await.expect("checked").len()
    };
    assert_eq!((check(50.0).await, check(5.0).await), (0, 1));
}

#[tokio::test]
async fn what_held_a_version_back_does_not_count_once_it_is_resumed() {
    let mut fixture = fixture().await;
    fixture.asked("gpt", (60, 60), "1 hour").await;
    assert_eq!(fixture.found().await.len(), 1);
    assert!(fixture.ledger.resume(("leads", "1"), "ada", "the prompt was right").await.expect("resumed"));
    assert_eq!(fixture.found().await, Vec::<String>::new());
    fixture.asked("gpt", (60, 60), "0 seconds").await;
    assert_eq!(fixture.found().await.len(), 1, "it is as wrong as it was");
}

#[tokio::test]
async fn one_worker_of_the_fleet_decides() {
    let mut fixture = fixture().await;
    fixture.asked("gpt", (60, 60), "1 hour").await;
    let stop = CancellationToken::new();
    for name in ["a", "b", "c"] {
        run_drift_checks(&SETTINGS, used(), fixture.ledger.clone(), Worker(name.to_owned()), &stop);
    }
    fixture.held_back().await;
    stop.cancel();
    let leased = "select exists (select from drift d join singleton_lease l on l.name = 'check drift leads@1' and l.holder = d.held_by)";
    assert!(sqlx::query_scalar::<_, bool>(leased).fetch_one(&mut fixture.owner).await.expect("asked"));
}

/// During a rollout, and where deployments have other playbooks.
#[tokio::test]
async fn a_version_is_checked_while_a_worker_without_it_has_leases_of_its_own() {
    let mut fixture = fixture().await;
    let stop = CancellationToken::new();
    // Another worker goes on checking what it runs: until after the test has ended.
    for lease in ["check drift", "check drift leads@2"] {
        let worker = Worker("b".to_owned());
        assert!(fixture.ledger.acquire_singleton_lease(lease, &worker, WITHIN * 10).await.expect("asked"));
    }
    fixture.asked("gpt", (60, 60), "1 hour").await;
    run_drift_checks(&SETTINGS, used(), fixture.ledger.clone(), Worker("a".to_owned()), &stop);
    fixture.held_back().await;
    stop.cancel();
}

#[tokio::test]
async fn a_playbook_whose_figures_cannot_be_read_starves_no_other() {
    let mut fixture = fixture().await;
    fixture.asked("gpt", (60, 60), "1 hour").await;
    // More than a bigint together.
    let unreadable = "update inference set cost_micro_dollars = 9000000000000000000, playbook = 'churn'";
    sqlx::query(unreadable).execute(&mut fixture.owner).await.expect("updated");
    fixture.asked("gpt", (60, 60), "1 hour").await;
    let churn = UsedVersion { playbook: "churn".to_owned(), ..version(BTreeMap::new()) };
    let worker = Worker("a".to_owned());
    check_drift(&fixture.ledger, &SETTINGS, &churn, &worker).await.expect_err("not readable");
    let stop = CancellationToken::new();
    let used = vec![churn, version(BTreeMap::new())];
    run_drift_checks(&SETTINGS, used, fixture.ledger.clone(), worker, &stop);
    fixture.held_back().await;
    stop.cancel();
}

#[tokio::test]
async fn a_check_reads_nothing_that_no_bound_is_about() {
    let mut fixture = fixture().await;
    fixture.asked("gpt", (60, 60), "1 hour").await;
    let locks = "begin; lock table skipped_write, review in access exclusive mode";
    sqlx::raw_sql(locks).execute(&mut fixture.owner).await.expect("locked");
    let found = tokio::time::timeout(WITHIN / 2, fixture.found()).await.expect("without waiting");
    assert_eq!(found.len(), 1);
}
