//! Connections that die in silence, servers that only read, and a migration that takes longer than any statement may.

use std::time::Duration;

use ledger::{Ledger, LedgerError, LedgerSettings, Retention, SessionFault};
use testbed::proxy::Proxy;
use tokio::time::Instant;

use crate::fixtures::{TestLedger, contact};

/// What a fleet may take to work again once a new connection is possible.
const BACK_TO_WORK: Duration = Duration::from_secs(15);

fn settings(url: &str) -> LedgerSettings {
    LedgerSettings {
        url: url.to_owned().into(),
        application_name: "tests".to_owned(),
        max_connections: 4,
        acquire_timeout: Duration::from_secs(5),
        statement_timeout: Duration::from_millis(500),
        pool_mode: ledger::PoolMode::Session,
    }
}

/// A ledger whose connections go through a proxy.
async fn through_proxy(test: &TestLedger, settings: fn(&str) -> LedgerSettings) -> (Ledger, Proxy) {
    let mut url = url::Url::parse(&test.url).expect("a URL");
    let target = format!("{}:{}", url.host_str().expect("a host"), url.port().expect("a port"));
    let proxy = Proxy::to(target).await.expect("a proxy");
    url.set_port(Some(proxy.address.port())).expect("a port");
    url.set_host(Some("127.0.0.1")).expect("a host");
    (Ledger::connect(&settings(url.as_str())).expect("a URL"), proxy)
}

#[tokio::test]
async fn connections_that_die_in_silence_are_given_up_and_new_ones_answer() {
    let test = TestLedger::new().await;
    let (ledger, proxy) = through_proxy(&test, settings).await;
    let checks = || futures_util::future::join_all((0..8).map(|_| ledger.check()));
    // Several times, because a connection may die while it is idle, in use, or tested.
    for _ in 0..3 {
        for checked in checks().await {
            checked.expect("the ledger answers");
        }
        let under_way = tokio::spawn({
            let ledger = ledger.clone();
            async move { ledger.check().await }
        });
        proxy.silence_open_connections();
        let died = Instant::now();
        // One that was under way may have its answer already.
        let _ = tokio::time::timeout(BACK_TO_WORK, under_way).await.expect("no statement waits for ever");
        loop {
            let results = tokio::time::timeout(BACK_TO_WORK, checks()).await.expect("no statement waits for ever");
            if results.iter().all(Result::is_ok) {
                break;
            }
            for error in results.into_iter().filter_map(Result::err) {
                assert!(error.is_away(), "what waits for the ledger is not counted as a failure: {error}");
            }
        }
        assert!(died.elapsed() < BACK_TO_WORK, "{:?}", died.elapsed());
    }
}

#[tokio::test]
async fn a_connection_that_ended_while_it_rested_is_replaced_without_an_error() {
    let test = TestLedger::new().await;
    let resting = LedgerSettings { application_name: "resting".to_owned(), ..settings(&test.url) };
    let ledger = Ledger::connect(&resting).expect("a URL");
    let record = contact(1);
    ledger.mark_for_verification(std::slice::from_ref(&record)).await.expect("marked");
    let ended =
        "select count(pg_terminate_backend(pid))::text from pg_stat_activity where application_name = 'resting'";
    assert_ne!(test.value::<String>(ended).await, "0");
    // Until it is tested before it is used. No event tells that this time has passed.
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    ledger.mark_for_verification(std::slice::from_ref(&record)).await.expect("on a new connection");
}

#[tokio::test]
async fn a_server_that_only_reads_is_away_and_left_when_another_one_can_be_reached() {
    let test = TestLedger::new().await;
    let ledger = Ledger::connect(&settings(&test.url)).expect("a URL");
    // For sessions that begin from now on, as on a primary that has become a standby.
    let name: String = test.value("select current_database()::text").await;
    test.run(&format!("alter database \"{name}\" set default_transaction_read_only = on")).await;
    let record = contact(1);
    let refused = ledger.mark_for_verification(std::slice::from_ref(&record)).await.expect_err("it only reads");
    assert!(refused.is_away(), "{refused}");
    assert!(matches!(ledger.check().await, Err(LedgerError::ReadOnly)), "readiness says so");
    // `TestLedger` holds a session from before.
    test.run(&format!("alter database \"{name}\" set default_transaction_read_only = off")).await;
    // At first it uses the connections that it opened when it found out.
    let left = async { while ledger.mark_for_verification(std::slice::from_ref(&record)).await.is_err() {} };
    tokio::time::timeout(BACK_TO_WORK, left).await.expect("a new connection can write");
}

#[tokio::test]
async fn a_server_that_only_reads_for_long_gets_no_new_connections_with_every_statement() {
    let test = TestLedger::new().await;
    let name: String = test.value("select current_database()::text").await;
    test.run(&format!("alter database \"{name}\" set default_transaction_read_only = on")).await;
    let (ledger, proxy) = through_proxy(&test, settings).await;
    let began = Instant::now();
    for _ in 0..30 {
        assert!(matches!(ledger.check().await, Err(LedgerError::ReadOnly)));
    }
    // Four connections at most in each pool: the first, the one in its place, and one more for each time that a statement may take.
    let allowed = 4 * (2 + began.elapsed().as_millis() / 2_500);
    assert!(u128::from(proxy.connections()) <= allowed, "{} connections", proxy.connections());
}

#[tokio::test]
async fn who_waits_for_a_connection_gets_one_of_the_pool_that_takes_the_place_of_a_silent_one() {
    let patient = |url: &str| LedgerSettings {
        acquire_timeout: Duration::from_secs(20),
        statement_timeout: Duration::from_secs(3),
        ..settings(url)
    };
    let test = TestLedger::new().await;
    let (ledger, proxy) = through_proxy(&test, patient).await;
    let mut lock = test.database.begin().await.expect("a transaction");
    sqlx::query("lock table record_lease in access exclusive mode").execute(&mut *lock).await.expect("a lock");
    let in_use: Vec<_> = (1..=4)
        .map(|id| {
            let ledger = ledger.clone();
            tokio::spawn(async move { ledger.mark_for_verification(&[contact(id)]).await })
        })
        .collect();
    let waits = "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'";
    while test.value::<i64>(waits).await < 4 {
        tokio::task::yield_now().await;
    }
    proxy.silence_open_connections();
    ledger.check().await.expect("it gets its connection from the fresh pool");
    for silent in in_use {
        let error = silent.await.expect("no panic").expect_err("no answer came");
        assert!(error.is_away(), "{error}");
    }
}

#[tokio::test]
async fn a_migration_may_take_longer_than_any_other_statement() {
    let test = TestLedger::new().await;
    let ledger = Ledger::connect(&settings(&test.url)).expect("a URL");
    let mut lock = test.database.begin().await.expect("a transaction");
    sqlx::query("lock table _sqlx_migrations in access exclusive mode").execute(&mut *lock).await.expect("a lock");
    let migration = tokio::spawn(async move { ledger.migrate(Retention { raw_days: 30, events_days: 90 }).await });
    let waits =
        "select count(*) > 0 from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'
                 and clock_timestamp() - query_start > interval '700 milliseconds'";
    while !test.value::<bool>(waits).await {
        assert!(!migration.is_finished(), "{:?}", migration.await);
        tokio::task::yield_now().await;
    }
    lock.rollback().await.expect("a rollback");
    migration.await.expect("no panic").expect("the migration waits for what others do");
}

#[tokio::test]
async fn a_database_that_counts_bytes_instead_of_characters_is_refused() {
    let test = TestLedger::new().await;
    let name: String = test.value("select current_database() || '_ascii'").await;
    let create = format!("create database {name} encoding 'SQL_ASCII' locale 'C' template template0");
    sqlx::raw_sql(sqlx::AssertSqlSafe(create)).execute(&test.database).await.expect("created");
    let mut url = url::Url::parse(&test.url).expect("a URL");
    url.set_path(&name);
    let ledger = Ledger::connect(&settings(url.as_str())).expect("a URL");
    for refused in [ledger.check().await, ledger.verify_sessions().await] {
        let Err(LedgerError::Session(fault)) = refused else { panic!("{refused:?}") };
        assert_eq!(fault, SessionFault::Encoding("SQL_ASCII".to_owned()));
    }
}
