//! Migrations wait for each other and for tables in use, say so, and stand in nobody's way.

use std::time::Duration;

use ledger::{LedgerError, MIGRATION_PATIENCE, MigrationWait, Retention};
use tokio::sync::mpsc;

use crate::fixtures::TestLedger;

const KEPT: Retention = Retention { raw_days: 30, events_days: 90 };

type Migration = tokio::task::JoinHandle<Result<bool, LedgerError>>;

/// A migration, and what it says that it waits for.
fn migration(test: &TestLedger, patience: Duration) -> (Migration, mpsc::UnboundedReceiver<MigrationWait>) {
    let (said, says) = mpsc::unbounded_channel();
    let ledger = test.ledger.clone();
    let tell = move |what| said.send(what).expect("somebody listens");
    (tokio::spawn(async move { ledger.migrate_telling(KEPT, patience, tell).await }), says)
}

#[tokio::test]
async fn a_second_migration_waits_and_says_so_and_goes_on_when_the_first_has_ended() {
    let test = TestLedger::new().await;
    // The first one waits for a table.
    let mut lock = test.database.begin().await.expect("a transaction");
    sqlx::query("lock table _sqlx_migrations in access exclusive mode").execute(&mut *lock).await.expect("a lock");
    let (first, mut first_says) = migration(&test, MIGRATION_PATIENCE);
    assert_eq!(first_says.recv().await, Some(MigrationWait::Table));

    let (second, mut second_says) = migration(&test, MIGRATION_PATIENCE);
    assert_eq!(second_says.recv().await, Some(MigrationWait::OtherMigration));
    let (impatient, _says) = migration(&test, Duration::ZERO);
    let error = impatient.await.expect("no panic").expect_err("the first one has not ended");
    assert!(matches!(error, LedgerError::MigrationUnderWay(_)), "{error}");
    assert!(!first.is_finished() && !second.is_finished());

    lock.rollback().await.expect("a rollback");
    for migration in [first, second] {
        assert!(migration.await.expect("no panic").expect("migrated"));
    }
}

/// Several replicas of an installer, each with its own connection.
#[tokio::test]
async fn an_empty_ledger_is_migrated_once_by_several_migrators_that_start_at_once() {
    let test = TestLedger::empty().await;
    let error = test.ledger.check_migrations().await.expect_err("there is nothing");
    let all = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/../../migrations")).expect("a folder").count();
    assert!(matches!(&error, LedgerError::Schema { missing } if missing.len() == all), "{error}");
    let migrations: Vec<_> = (0..4).map(|_| migration(&test, MIGRATION_PATIENCE)).collect();
    for (migration, _says) in migrations {
        assert!(migration.await.expect("no panic").expect("migrated"));
    }
    let applied = test.value::<i64>("select count(*) from _sqlx_migrations where success").await;
    assert_eq!(usize::try_from(applied), Ok(all));
    test.ledger.check_migrations().await.expect("nothing is missing");
    test.ledger.check().await.expect("services may start");
}

#[tokio::test]
async fn a_ledger_that_lacks_a_migration_says_which_and_one_of_the_next_version_is_good() {
    let test = TestLedger::new().await;
    test.run(
        "insert into _sqlx_migrations (version, description, success, checksum, execution_time)
         values (99991231000000, 'of the next version', true, '\\x00', 0)",
    )
    .await;
    test.ledger.check().await.expect("the last version goes on");
    let error = test.ledger.migrate(KEPT).await.expect_err("it would take rights away that the next version has given");
    assert!(error.to_string().contains("99991231000000"), "{error}");
    test.run("delete from _sqlx_migrations where version = 20261126000150").await;
    let error = test.ledger.check().await.expect_err("one is missing");
    assert!(matches!(&error, LedgerError::Schema { missing } if missing == &[20_261_126_000_150]), "{error}");
    assert!(error.to_string().contains("20261126000150; run `leadline migrate`"), "{error}");
}

#[tokio::test]
async fn nobody_waits_for_long_behind_a_migration_that_waits_for_a_table() {
    let test = TestLedger::new().await;
    // Somebody reads, and will for long; the migration needs the table for itself.
    let mut reads = test.database.begin().await.expect("a transaction");
    sqlx::query("select * from _sqlx_migrations").execute(&mut *reads).await.expect("read");
    test.run(
        "create or replace function needs_table() returns event_trigger language plpgsql as $$
                  begin lock table _sqlx_migrations in access exclusive mode; end $$",
    )
    .await;
    test.run(
        "create event trigger needs_table on ddl_command_start when tag in ('GRANT') execute function needs_table()",
    )
    .await;
    let (migration, mut says) = migration(&test, MIGRATION_PATIENCE);
    assert!(test.waits_for_lock(&migration).await);
    // Behind it, until it gives way.
    test.ledger.check().await.expect("readiness reads the same table");
    assert_eq!(says.recv().await, Some(MigrationWait::Table));
    assert!(!migration.is_finished());
    reads.rollback().await.expect("a rollback");
    assert!(migration.await.expect("no panic").expect("migrated"));
}
