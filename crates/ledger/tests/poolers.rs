//! The ledger behind PgBouncer, in each of its modes.

use std::time::Duration;

use domain::{EventState, Reason};
use ledger::{Ledger, LedgerError, LedgerSettings, PoolMode, Retention, SessionFault};
use sqlx::{Connection, PgConnection, Row, postgres::PgConnectOptions};
use testbed::PgBouncer;

use crate::fixtures::{TestLedger, contact, decision, event};

const KEPT: Retention = Retention { raw_days: 30, events_days: 60 };

/// Two sessions for all, so that they change hands all the time.
const TRANSACTION: &str = "pool_mode = transaction\ndefault_pool_size = 2";

/// As poolers are set up that are to take every client: what these say at first is dropped.
const SESSION: &str = "pool_mode = session\nignore_startup_parameters = options, extra_float_digits";

async fn pooler(test: &TestLedger, settings: &str) -> PgBouncer {
    PgBouncer::start(&test.url, settings).await.expect("PgBouncer")
}

fn ledger(url: &str, pool_mode: PoolMode) -> Ledger {
    let settings = LedgerSettings {
        url: url.to_owned().into(),
        application_name: "tests".to_owned(),
        max_connections: 8,
        acquire_timeout: Duration::from_secs(20),
        statement_timeout: Duration::from_millis(1_500),
        pool_mode,
    };
    Ledger::connect(&settings).expect("a URL")
}

fn fault_of(result: Result<impl std::fmt::Debug, LedgerError>) -> SessionFault {
    match result {
        Err(LedgerError::Session(fault)) => fault,
        other => panic!("{other:?}"),
    }
}

/// Postgres ends a statement that waits for a lock; this side would wait for longer.
async fn ends_long_statements(test: &TestLedger, ledger: &Ledger) {
    let mut lock = test.database.begin().await.expect("a transaction");
    sqlx::query("lock table record_lease in access exclusive mode").execute(&mut *lock).await.expect("a lock");
    let error = ledger.mark_for_verification(&[contact(1)]).await.expect_err("it waits in vain");
    assert!(error.is_away() && error.to_string().contains("SQLSTATE 57014"), "{error}");
    lock.rollback().await.expect("a rollback");
    ledger.mark_for_verification(&[contact(1)]).await.expect("now it can");
}

#[tokio::test]
async fn the_ledgers_work_is_done_through_transaction_pooling() {
    let test = TestLedger::new().await;
    let pooler = pooler(&test, TRANSACTION).await;
    let pooled = ledger(&pooler.url, PoolMode::Transaction);
    pooled.check().await.expect("ready");
    let through = TestLedger { ledger: pooled.clone(), ..test.clone() };
    // Side by side, on more connections than there are sessions: statements with and without a transaction of their own.
    let work = (1..=24).map(|id| {
        let through = through.clone();
        tokio::spawn(async move {
            let command = through.decided(&event(id, 1)).await;
            through.written(&command, &format!("writer {id}")).await;
            let claimed = through.claimed(&event(id, 2), "inference").await;
            assert!(through.commit(&decision(&claimed, EventState::Parked, Some(Reason::Refused))).await);
        })
    });
    for done in futures_util::future::join_all(work).await {
        done.expect("done");
    }
    let states: String = test
        .value("select string_agg(n || ' ' || state, ', ' order by state) from (select state, count(*) as n from event group by 1) s")
        .await;
    assert_eq!(states, "24 written, 24 parked");
    assert!(pooled.add_partitions(9).await.expect("added") > 0, "maintenance, too");
    assert_eq!(pooled.parked().await.expect("asked").len(), 24);
    // Nothing is left in the sessions, which belong to others as well.
    let options: PgConnectOptions = pooler.url.parse().expect("a URL");
    let mut other = PgConnection::connect_with(&options.extra_float_digits(None)).await.expect("connected");
    let left =
        sqlx::raw_sql("select current_setting('statement_timeout') || ' ' || count(*) from pg_prepared_statements");
    let left: String = Row::get(&left.fetch_one(&mut other).await.expect("asked"), 0);
    assert_eq!(left, "0 0");
}

#[tokio::test]
async fn statements_have_their_limit_through_a_pooler() {
    let test = TestLedger::new().await;
    for (settings, mode) in [(TRANSACTION, PoolMode::Transaction), (SESSION, PoolMode::Session)] {
        let pooler = pooler(&test, settings).await;
        let pooled = ledger(&pooler.url, mode);
        pooled.verify_sessions().await.expect(settings);
        ends_long_statements(&test, &pooled).await;
    }
}

#[tokio::test]
async fn a_pooler_that_gives_sessions_to_transactions_is_refused_where_sessions_are_expected() {
    let test = TestLedger::new().await;
    let pooler = pooler(&test, TRANSACTION).await;
    let pooled = ledger(&pooler.url, PoolMode::Session);
    let fault = fault_of(pooled.verify_sessions().await);
    assert_eq!(fault, SessionFault::Shared);
    assert!(fault.to_string().contains("ledger.pool_mode = \"transaction\""), "{fault}");
    assert_eq!(fault_of(pooled.check().await), SessionFault::Shared, "readiness says so");
    assert_eq!(fault_of(pooled.migrate(KEPT).await), SessionFault::Shared, "a migration needs a session");
}

#[tokio::test]
async fn a_migration_goes_through_session_pooling() {
    let test = TestLedger::new().await;
    let pooler = pooler(&test, SESSION).await;
    assert!(ledger(&pooler.url, PoolMode::Session).migrate(KEPT).await.expect("migrated"));
    // The mode of the fleet does not matter for it.
    assert!(ledger(&test.url, PoolMode::Transaction).migrate(KEPT).await.expect("migrated"));
}

#[tokio::test]
async fn a_session_that_does_not_keep_what_it_is_told_is_not_used() {
    let test = TestLedger::new().await;
    // One that forgets everything with each transaction.
    let forgetful = format!("{TRANSACTION}\nserver_reset_query_always = 1");
    let pooler = pooler(&test, &forgetful).await;
    let impatient = LedgerSettings {
        url: pooler.url.clone().into(),
        application_name: "tests".to_owned(),
        max_connections: 1,
        acquire_timeout: Duration::from_millis(500),
        statement_timeout: Duration::from_millis(1_500),
        pool_mode: PoolMode::Session,
    };
    let pooled = Ledger::connect(&impatient).expect("a URL");
    let told = |fault: SessionFault| {
        let SessionFault::Dropped { parameter, told, found } = &fault else { panic!("{fault}") };
        assert_eq!((&**parameter, &**told, &**found), ("idle_in_transaction_session_timeout", "1500ms", "0"));
    };
    told(fault_of(pooled.verify_sessions().await));
    told(fault_of(pooled.mark_for_verification(&[contact(1)]).await));
}

#[tokio::test]
async fn a_pooler_that_refuses_transactions_is_refused_with_words() {
    let test = TestLedger::new().await;
    let pooler = pooler(&test, "pool_mode = statement").await;
    for mode in [PoolMode::Transaction, PoolMode::Session] {
        let fault = fault_of(ledger(&pooler.url, mode).verify_sessions().await);
        assert_eq!(fault, SessionFault::NoTransactions, "{mode:?}");
    }
}
