//! Bringing the schema up to date, on a connection of its own: migrations need a session, take locks that the fleet needs, and may
//! take long.

use std::time::Duration;

use sqlx::PgConnection;
use tokio::time::Instant;

use crate::{
    Ledger, LedgerError, Retention, recovery, retention,
    session::{Limits, PoolMode, Session},
};

/// The migrations, compiled in.
pub(crate) static MIGRATIONS: sqlx::migrate::Migrator = sqlx::migrate!("../../migrations");

/// What each role may do, compiled in. Changes nothing where the roles do not exist.
const GRANTS: &str = include_str!("../../../deploy/postgres/grants.sql");

/// How long a migration waits for another one, and for tables that are in use.
pub const MIGRATION_PATIENCE: Duration = Duration::from_secs(900);

/// A statement may run for ever: a large table may have to be changed. But all that use a table wait behind one that waits for it.
const LIMITS: Limits =
    Limits { statement: None, lock: Some(Duration::from_secs(3)), idle_in_transaction: Duration::from_secs(60) };

/// How often it is tried again.
const PAUSE: Duration = Duration::from_millis(500);

/// The advisory lock of the process that migrates. Any constant will do that no other program takes in this database.
const TURN: i64 = 0x1ead_0001;

/// What a migration waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MigrationWait {
    /// Another process migrates the same ledger.
    OtherMigration,
    /// A table is in use; the migration was rolled back and is tried again.
    Table,
}

impl Ledger {
    /// As [`Ledger::migrate_telling`], with the usual patience, and without a word.
    pub async fn migrate(&self, retention: Retention) -> Result<bool, LedgerError> {
        self.migrate_telling(retention, MIGRATION_PATIENCE, |_| {}).await
    }

    /// How many migrations are not yet applied.
    pub async fn pending_migrations(&self) -> Result<usize, LedgerError> {
        let known = MIGRATIONS.iter().count();
        let is_new = sqlx::query_scalar!(r#"select to_regclass('_sqlx_migrations') is null as "is_new!""#);
        if is_new.fetch_one(&self.connections).await? {
            return Ok(known);
        }
        let applied = sqlx::query_scalar!(r#"select count(*) as "applied!" from _sqlx_migrations where success"#);
        let applied = applied.fetch_one(&self.connections).await?;
        Ok(known.saturating_sub(usize::try_from(applied).unwrap_or(known)))
    }

    /// Brings the schema up to date, gives the roles of `deploy/postgres/roles.sql` their rights, and says what is kept for how
    /// long. Returns `false` where these roles do not exist.
    ///
    /// One process does it at a time. What it waits for, another process or a table that is in use, `tell` is told once, and after
    /// `patience` it is an error. Every migration is a transaction: when this ends at any point, the next call goes on.
    pub async fn migrate_telling(
        &self,
        retention: Retention,
        patience: Duration,
        tell: impl FnMut(MigrationWait) + Send,
    ) -> Result<bool, LedgerError> {
        let options = &self.connections.connect_options();
        let session = Session::new(PoolMode::Session, &LIMITS, options);
        // A server that says nothing is no reason to wait without end. The migrations themselves may take as long as they need.
        within_answer(session.verify(options)).await?;
        let mut owner = within_answer(session.connect(options)).await?;
        let mut waiting = Waiting { until: Instant::now() + patience, told: None, tell };
        let try_lock = || sqlx::query_scalar::<_, bool>("select pg_try_advisory_lock($1)").bind(TURN);
        while !within_answer(try_lock().fetch_one(&mut owner)).await? {
            if !waiting.goes_on(MigrationWait::OtherMigration).await {
                return Err(LedgerError::MigrationUnderWay(patience));
            }
        }
        // The lock ends with the connection.
        loop {
            let migrated = migrate_once(&mut owner, retention).await;
            let is_locked = migrated.as_ref().is_err_and(LedgerError::is_locked);
            if !is_locked || !waiting.goes_on(MigrationWait::Table).await {
                return migrated;
            }
        }
    }
}

/// The longest wait for the connection, and for an answer that needs no work.
const LONGEST_ANSWER: Duration = Duration::from_secs(60);

async fn within_answer<T>(answer: impl Future<Output = Result<T, sqlx::Error>>) -> Result<T, sqlx::Error> {
    let silent = |_| Err(sqlx::Error::Io(std::io::Error::from(std::io::ErrorKind::TimedOut)));
    tokio::time::timeout(LONGEST_ANSWER, answer).await.unwrap_or_else(silent)
}

struct Waiting<T> {
    until: Instant,
    told: Option<MigrationWait>,
    tell: T,
}

impl<T: FnMut(MigrationWait)> Waiting<T> {
    /// Waits for a moment and returns whether it is to be tried again.
    async fn goes_on(&mut self, what: MigrationWait) -> bool {
        if self.told.replace(what) != Some(what) {
            (self.tell)(what);
        }
        tokio::time::sleep(PAUSE).await;
        Instant::now() < self.until
    }
}

async fn migrate_once(owner: &mut PgConnection, retention: Retention) -> Result<bool, LedgerError> {
    // `run` cannot be awaited by a task of its own: its bound on the connection is not general enough.
    MIGRATIONS.run_direct(None, &mut *owner, false).await.map_err(LedgerError::Migration)?;
    sqlx::raw_sql(GRANTS).execute(&mut *owner).await?;
    retention::say(owner, retention).await?;
    // From now on a backup knows of which database it is.
    recovery::note(owner).await?;
    let roles = sqlx::query_scalar!(
        r#"select count(*) as "roles!" from pg_roles
           where rolname in ('leadline_inference', 'leadline_writer', 'leadline_operator', 'leadline_auditor')"#
    );
    Ok(roles.fetch_one(&mut *owner).await? == 4)
}
